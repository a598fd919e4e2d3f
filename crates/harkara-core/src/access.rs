//! Who may do what on the pages: roles, permissions, and the table between them.
//!
//! Deny by default: what a role is not given here, it may not do. A person has a role at the platform,
//! which reaches all merchants, or at a merchant, which ends there. The dashboard asks; the API's
//! callers have keys and no roles.

use serde::{Deserialize, Serialize};

/// What a person is at the platform or at a merchant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, other owners included.
    Owner,
    /// Everything but owners.
    Admin,
    /// Builds and mends the receiver.
    Developer,
    /// Answers questions about payments, and sees nothing of the people who made them.
    Support,
    /// Reads what others did.
    Auditor,
}

/// Something that a role is given or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// See orders, events, endpoints, and what became of each.
    SeeTraffic,
    /// See what is personal in them.
    ReadPersonal,
    /// Have an event sent again, or a test sent.
    Resend,
    /// Change endpoints: where webhooks go, and with which credentials.
    ChangeEndpoints,
    /// Invite people, change their roles, end their access.
    ChangeMembers,
    /// Make and revoke API keys: whatever the API can do, a key can.
    ChangeKeys,
    /// Read what people did.
    ReadAudit,
    /// See how the server itself is doing.
    SeeSystem,
}

impl Role {
    /// All of them, the mightiest first.
    pub const ALL: [Self; 5] = [
        Self::Owner,
        Self::Admin,
        Self::Developer,
        Self::Support,
        Self::Auditor,
    ];

    /// As it is stored, and as it stands in URLs and forms.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Support => "support",
            Self::Auditor => "auditor",
        }
    }

    /// The role of this name.
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// What it is for, for whoever gives it to somebody.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Owner => "may do everything, and make other owners",
            Self::Admin => "may do everything but make or remove owners",
            Self::Developer => "sees all of the traffic, sets endpoints, resends",
            Self::Support => "sees the traffic without personal data, resends",
            Self::Auditor => "reads the audit log and nothing else",
        }
    }

    /// Whether it includes this.
    pub fn may(self, permission: Permission) -> bool {
        self.permissions().contains(&permission)
    }

    /// Whether whoever has it may give `role` to somebody, or take it away.
    pub fn may_give(self, role: Self) -> bool {
        match self {
            Self::Owner => true,
            Self::Admin => role != Self::Owner,
            Self::Developer | Self::Support | Self::Auditor => false,
        }
    }

    /// The roles that whoever has it may give.
    pub fn gives(self) -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(move |role| self.may_give(*role))
    }

    /// The whole table.
    fn permissions(self) -> &'static [Permission] {
        use Permission::{
            ChangeEndpoints, ChangeKeys, ChangeMembers, ReadAudit, ReadPersonal, Resend, SeeSystem,
            SeeTraffic,
        };
        match self {
            Self::Owner | Self::Admin => &[
                SeeTraffic,
                ReadPersonal,
                Resend,
                ChangeEndpoints,
                ChangeMembers,
                ChangeKeys,
                ReadAudit,
                SeeSystem,
            ],
            Self::Developer => &[SeeTraffic, ReadPersonal, Resend, ChangeEndpoints, SeeSystem],
            Self::Support => &[SeeTraffic, Resend],
            Self::Auditor => &[ReadAudit],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for role in Role::ALL {
            assert_eq!(Role::named(role.as_str()), Some(role));
        }
        assert_eq!(Role::named("root"), None);
        assert_eq!(Role::named("Owner"), None);
    }

    #[test]
    fn nobody_gives_more_than_they_have() {
        for giver in Role::ALL {
            for role in giver.gives() {
                assert!(giver.may(Permission::ChangeMembers));
                let theirs = role.permissions().iter();
                let mut beyond = theirs.filter(|permission| !giver.may(**permission));
                assert_eq!(beyond.next(), None, "{giver:?} gives {role:?}");
            }
        }
    }

    #[test]
    fn support_is_masked_and_an_auditor_only_reads() {
        assert!(!Role::Support.may(Permission::ReadPersonal));
        assert_eq!(Role::Auditor.permissions(), [Permission::ReadAudit]);
    }
}
