//! People, their sessions and the audit log: each change with its line, and a chain that holds.

use std::time::Duration;

use harkara_core::access::Role;

use super::*;

fn platform() -> MerchantId {
    MerchantId::platform()
}

pub(super) fn line(action: &str, seconds: i64) -> AuditEntry {
    AuditEntry {
        address: "203.0.113.9".to_owned(),
        ..AuditEntry::new(at(seconds), "asha", action)
    }
}

pub(super) fn link(hash: &str, merchant_id: MerchantId, role: Role) -> Link {
    Link {
        hash: hash.to_owned(),
        kind: LinkKind::Invitation,
        merchant_id,
        role,
        name: String::new(),
        user_id: None,
        made_by: "asha".to_owned(),
        created_at: at(0),
        expires_at: at(100),
    }
}

/// One that needs nobody who may make it.
fn first(hash: &str, merchant_id: MerchantId, role: Role) -> Link {
    Link {
        kind: LinkKind::First,
        ..link(hash, merchant_id, role)
    }
}

fn new_user(name: &str) -> NewUser {
    NewUser {
        user_id: format!("usr_{name}"),
        name: name.to_owned(),
        password: "hash".to_owned(),
    }
}

fn session(hash: &str, user_id: &str, seconds: i64) -> UserSession {
    UserSession {
        hash: hash.to_owned(),
        session_id: format!("ses_{hash}"),
        user_id: user_id.to_owned(),
        address: "203.0.113.9".to_owned(),
        agent: "a browser".to_owned(),
        created_at: at(seconds),
        seen_at: at(seconds),
    }
}

impl World {
    pub(super) async fn join(&self, name: &str, merchant_id: MerchantId, role: Role) {
        let link = first(name, merchant_id, role);
        assert!(self.store.put_link(link, line("invited", 0)).await.unwrap());
        let used = self.store.use_link(name, new_user(name), line("came", 1));
        assert_eq!(used.await.unwrap(), Used::Done(format!("usr_{name}")));
    }

    async fn sign_in(&self, hash: &str, name: &str, seconds: i64) {
        let over = Horizons {
            created: at(seconds - 1000),
            seen: at(seconds - 100),
        };
        let session = session(hash, &format!("usr_{name}"), seconds);
        let opened = self
            .store
            .open_session(session, name, over, line("signed in", seconds));
        opened.await.unwrap();
    }

    async fn sessions(&self, name: &str) -> Vec<String> {
        let rows = self
            .store
            .sessions_of(&format!("usr_{name}"))
            .await
            .unwrap();
        rows.into_iter().map(|row| row.hash).collect()
    }
}

/// A row in each table of people.
pub(super) async fn fill(world: &World) {
    world.join("asha", platform(), Role::Owner).await;
    world.sign_in("h", "asha", 10).await;
    let invited = link("l", ms(), Role::Support);
    let put = world.store.put_link(invited, line("invited", 20));
    assert!(put.await.unwrap());
    let bound = SignInBound {
        since: at(0),
        most: 10,
        now: at(30),
    };
    let counted = world.store.count_sign_in("bela", "203.0.113.9", bound);
    counted.await.unwrap();
}

#[tokio::test]
async fn a_link_lets_one_person_in_once() {
    let world = World::new().await;
    assert!(!world.store.has_users().await.unwrap());
    let invited = first("l", ms(), Role::Support);
    let put = world.store.put_link(invited, line("invited", 0)).await;
    assert!(put.unwrap());
    let (one, two) = tokio::join!(
        world.store.use_link("l", new_user("asha"), line("came", 1)),
        world.store.use_link("l", new_user("bela"), line("came", 1)),
    );
    let mut came = [one.unwrap(), two.unwrap()];
    came.sort_by_key(|used| *used == Used::Gone);
    assert!(matches!(&came, [Used::Done(_), Used::Gone]), "{came:?}");
    let members = world.store.members(&ms()).await.unwrap();
    assert_eq!((members.len(), members[0].role), (1, Role::Support));
    assert!(world.store.links(&ms()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_link_is_not_used_up_by_a_name_that_is_taken_and_not_used_when_old() {
    let world = World::new().await;
    world.join("asha", ms(), Role::Admin).await;
    let invited = first("l", ms(), Role::Support);
    let put = world.store.put_link(invited, line("invited", 0)).await;
    assert!(put.unwrap());
    let twin = NewUser {
        user_id: "usr_twin".to_owned(),
        name: " ASHA ".to_owned(),
        password: "hash".to_owned(),
    };
    let used = world.store.use_link("l", twin, line("came", 1)).await;
    assert_eq!(used.unwrap(), Used::NameTaken);
    let used = world
        .store
        .use_link("l", new_user("bela"), line("came", 100))
        .await;
    assert_eq!(used.unwrap(), Used::Gone, "it has expired");
    let used = world
        .store
        .use_link("l", new_user("bela"), line("came", 99))
        .await;
    assert_eq!(used.unwrap(), Used::Done("usr_bela".to_owned()));
}

#[tokio::test]
async fn a_link_ends_with_the_right_to_make_it_and_with_what_it_was_made_for() {
    let world = World::new().await;
    world.join("asha", platform(), Role::Admin).await;
    world.join("bela", platform(), Role::Admin).await;
    let reset = |hash: &str| Link {
        kind: LinkKind::Reset,
        user_id: Some("usr_bela".to_owned()),
        ..link(hash, platform(), Role::Admin)
    };
    let put = async |link: Link| {
        let put = world.store.put_link(link, line("made a link", 10));
        assert!(put.await.unwrap());
    };
    let left = async || {
        let links = world.store.links(&platform()).await.unwrap();
        let mut left: Vec<String> = links.into_iter().map(|link| link.hash).collect();
        left.sort();
        left.join(" ")
    };
    let change = async |user_id: &str, role| {
        let who = (&platform(), user_id);
        let changed =
            world
                .store
                .change_member(who, (Role::Admin, Some(role)), line("changed a role", 20));
        assert_eq!(changed.await.unwrap(), MemberChange::Done);
    };
    let of_bela = |hash: &str| Link {
        made_by: "bela".to_owned(),
        ..link(hash, platform(), Role::Admin)
    };
    put(link("by asha", platform(), Role::Admin)).await;
    put(of_bela("by bela")).await;
    put(reset("of bela")).await;
    put(reset("of bela, again")).await;

    // A password that was set makes every other link for it worthless.
    let used = world
        .store
        .use_link("of bela", new_user("bela"), line("used a link", 30));
    assert_eq!(used.await.unwrap(), Used::Done("usr_bela".to_owned()));
    assert_eq!(left().await, "by asha by bela");
    put(reset("one more")).await;
    let set = world
        .store
        .set_password("usr_bela", "hash", "", line("changed the password", 40));
    set.await.unwrap();
    assert_eq!(left().await, "by asha by bela");

    put(reset("for an admin")).await;
    change("usr_bela", Role::Owner).await;
    assert_eq!(
        left().await,
        "by asha",
        "made for an admin, not for an owner"
    );
    // One that was asked for before and stored after is worth no more.
    put(reset("late")).await;
    let used = world
        .store
        .use_link("late", new_user("bela"), line("used a link", 50));
    assert_eq!(used.await.unwrap(), Used::Gone);
    change("usr_asha", Role::Support).await;
    assert_eq!(left().await, "", "an admin made them, who is none now");
}

#[tokio::test]
async fn a_link_is_made_by_who_may_give_its_role_at_that_moment() {
    let world = World::new().await;
    world.join("asha", ms(), Role::Admin).await;
    world.join("bela", platform(), Role::Admin).await;
    world.join("chitra", platform(), Role::Owner).await;
    let chitra_there = "
        insert into memberships (user_id, merchant_id, role, created_at)
        values ('usr_chitra', 'ms', 'support', 0)";
    let joined = world
        .store
        .write(move |pen| pen.execute(chitra_there, params![]));
    joined.await.unwrap();
    let tried = async |made_by: &str, merchant_id, role| {
        let link = Link {
            made_by: made_by.to_owned(),
            ..link(made_by, merchant_id, role)
        };
        let put = world.store.put_link(link, line("made a link", 10)).await;
        let made = put.unwrap();
        let found = world.store.link(made_by).await.unwrap().is_some();
        assert_eq!(made, found, "{made_by}");
        let entry = line("took a link back", 11);
        for place in [ms(), platform()] {
            let taken = world.store.withdraw_link(&place, made_by, entry.clone());
            taken.await.unwrap();
        }
        made
    };
    assert!(tried("asha", ms(), Role::Admin).await);
    assert!(!tried("asha", ms(), Role::Owner).await);
    assert!(!tried("asha", platform(), Role::Support).await);
    assert!(!tried("asha", MerchantId::new("other"), Role::Support).await);
    assert!(tried("bela", ms(), Role::Admin).await, "of the platform");
    assert!(tried("chitra", platform(), Role::Owner).await);
    assert!(
        !tried("chitra", ms(), Role::Support).await,
        "the role there is the one that counts"
    );
    assert!(!tried("nobody", ms(), Role::Support).await);

    let ms = ms();
    let change = async |now_is, role| {
        let entry = line("changed a role", 20);
        let changed = world
            .store
            .change_member((&ms, "usr_asha"), (now_is, role), entry);
        assert_eq!(changed.await.unwrap(), MemberChange::Done);
    };
    change(Role::Admin, Some(Role::Developer)).await;
    let before = world.store.audit(None, None, 100).await.unwrap().len();
    assert!(!tried("asha", ms.clone(), Role::Support).await);
    let after = world.store.audit(None, None, 100).await.unwrap().len();
    assert_eq!(before, after, "nothing was done");
    change(Role::Developer, None).await;
    assert!(!tried("asha", ms.clone(), Role::Support).await);
}

#[tokio::test]
async fn a_session_is_found_with_all_that_its_owner_is() {
    let world = World::new().await;
    world.join("asha", platform(), Role::Support).await;
    world.sign_in("h", "asha", 10).await;
    world.store.touch_session("h", at(20)).await.unwrap();
    let (session, user, roles) = world.store.session("h").await.unwrap().unwrap();
    assert_eq!((session.seen_at, user.name.as_str()), (at(20), "asha"));
    assert_eq!(roles, Memberships::from([(platform(), Role::Support)]));
    assert!(world.store.session("other").await.unwrap().is_none());

    // Whoever signs in takes what is over away, whosever it was.
    world.sign_in("later", "asha", 119).await;
    assert_eq!(world.sessions("asha").await, ["later", "h"]);
    world.sign_in("much later", "asha", 120).await;
    assert_eq!(world.sessions("asha").await, ["much later", "later"]);
    let end = |id: &'static str| world.store.end_session("usr_asha", id, line("ended", 130));
    assert!(end("ses_later").await.unwrap());
    assert!(!end("ses_later").await.unwrap());
    assert_eq!(world.sessions("asha").await, ["much later"]);
}

#[tokio::test]
async fn a_role_changes_if_it_is_the_one_that_was_seen_and_an_owner_is_left() {
    let world = World::new().await;
    world.join("asha", platform(), Role::Owner).await;
    world.join("bela", platform(), Role::Owner).await;
    world.sign_in("a", "asha", 10).await;
    let change = async |name: &str, now_is, role| {
        let user_id = format!("usr_{name}");
        let entry = line("changed a role", 20);
        let (who, to) = ((&platform(), user_id.as_str()), (now_is, role));
        world.store.change_member(who, to, entry).await.unwrap()
    };
    use MemberChange::{Done, LastOwner, Unknown};
    assert_eq!(change("asha", Role::Admin, None).await, Unknown);
    let (one, two) = tokio::join!(
        change("asha", Role::Owner, Some(Role::Admin)),
        change("bela", Role::Owner, None),
    );
    let mut changes = [one, two];
    changes.sort_by_key(|change| *change != Done);
    assert_eq!(changes, [Done, LastOwner], "one of two is kept");
    let mine: Vec<_> = world.store.members(&platform()).await.unwrap();
    let owners = mine.iter().filter(|member| member.role == Role::Owner);
    assert_eq!(owners.count(), 1);
    if changes[0] == one {
        assert!(
            world.sessions("asha").await.is_empty(),
            "signed out with the role"
        );
    }
}

#[tokio::test]
async fn who_is_removed_can_be_invited_again() {
    let world = World::new().await;
    world.join("asha", ms(), Role::Support).await;
    world.sign_in("h", "asha", 10).await;
    let ms = ms();
    let who = (&ms, "usr_asha");
    let removed =
        world
            .store
            .change_member(who, (Role::Support, None), line("removed a member", 20));
    assert_eq!(removed.await.unwrap(), MemberChange::Done);
    assert!(world.store.user_by_name("asha").await.unwrap().is_none());
    assert!(world.sessions("asha").await.is_empty());
    world.join("asha", platform(), Role::Auditor).await;
    let members = world.store.members(&platform()).await.unwrap();
    assert_eq!(members.len(), 1);
    assert!(world.store.members(&ms).await.unwrap().is_empty());
}

#[tokio::test]
async fn attempts_to_sign_in_are_counted_before_they_are_judged() {
    let world = World::new().await;
    let tried = async |address: &str, seconds| {
        let bound = SignInBound {
            since: at(seconds - 1800),
            most: 3,
            now: at(seconds),
        };
        let counted = world.store.count_sign_in("Asha", address, bound).await;
        let counted = counted.unwrap();
        (counted.is_too_many, counted.everywhere)
    };
    let (one, two, three, four) = tokio::join!(
        tried("a", 10),
        tried("a", 10),
        tried("a", 10),
        tried("a", 10)
    );
    let mut refused = [one.0, two.0, three.0, four.0];
    refused.sort();
    assert_eq!(refused, [false, false, false, true], "however many at once");
    assert_eq!(tried("b", 20).await, (false, 4), "another address");
    assert_eq!(
        tried("a", 1_800).await,
        (true, 4),
        "and asking again makes it no longer"
    );
    assert_eq!(tried("a", 1_810).await, (false, 2));

    world.join("asha", ms(), Role::Admin).await;
    for n in 0..3 {
        tried("203.0.113.9", 1_820 + n).await;
    }
    world.sign_in("h", "asha", 1_830).await;
    assert!(
        !tried("203.0.113.9", 1_840).await.0,
        "forgotten by signing in"
    );
}

#[tokio::test]
async fn the_log_is_one_chain_however_many_write_it() {
    let world = World::new().await;
    let mut writers = Vec::new();
    for n in 0..40 {
        let (store, entry) = (world.store.clone(), line(&format!("act {n}"), n));
        writers.push(tokio::spawn(async move { store.add_to_audit(entry).await }));
    }
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let mut of_ms = line("about ms", 50);
    of_ms.merchant_id = ms();
    world.store.add_to_audit(of_ms.clone()).await.unwrap();
    let rows = world.store.audit(None, None, 100).await.unwrap();
    let numbers: Vec<i64> = rows.iter().map(|row| row.n).collect();
    assert_eq!(numbers, (1..=41).rev().collect::<Vec<_>>());
    assert!(rows.iter().all(AuditRow::holds));
    for pair in rows.windows(2) {
        assert_eq!(pair[0].before.as_deref(), Some(pair[1].hash.as_str()));
    }
    let theirs = world.store.audit(Some(&ms()), None, 100).await.unwrap();
    assert_eq!(theirs.len(), 1);
    assert!(theirs[0].holds() && theirs[0].entry == of_ms);
    let older = world.store.audit(None, Some(41), 2).await.unwrap();
    assert_eq!(older.iter().map(|row| row.n).collect::<Vec<_>>(), [40, 39]);
}

#[tokio::test]
async fn a_line_that_was_changed_or_taken_out_shows() {
    let world = World::new().await;
    for n in 1..=4 {
        world.store.add_to_audit(line("did", n)).await.unwrap();
    }
    let change = |sql: &'static str| world.store.write(move |pen| pen.execute(sql, params![]));
    change("update audit set actor = 'bela' where n = 2")
        .await
        .unwrap();
    let held = async || {
        let rows = world.store.audit(None, None, 10).await.unwrap();
        rows.iter().map(AuditRow::holds).collect::<Vec<_>>()
    };
    assert_eq!(held().await, [true, true, false, true]);
    change("update audit set actor = 'asha' where n = 2")
        .await
        .unwrap();
    assert_eq!(held().await, [true; 4]);
    change("delete from audit where n = 2").await.unwrap();
    assert_eq!(held().await, [true, false, true]);
}

#[tokio::test]
async fn a_first_link_takes_the_place_of_the_one_before() {
    let world = World::new().await;
    world.join("asha", platform(), Role::Admin).await;
    for hash in ["one", "two"] {
        let first = first(hash, platform(), Role::Owner);
        let put = world.store.put_link(first, line("made a link", 0)).await;
        assert!(put.unwrap());
    }
    assert!(world.store.link("one").await.unwrap().is_none());
    assert!(world.store.link("two").await.unwrap().is_some());
    let later = Link {
        created_at: at(100),
        expires_at: at(100).plus(Duration::from_secs(100)),
        ..link("three", ms(), Role::Admin)
    };
    let put = world.store.put_link(later, line("made a link", 100)).await;
    assert!(put.unwrap());
    assert!(
        world.store.link("two").await.unwrap().is_none(),
        "it had expired"
    );
}
