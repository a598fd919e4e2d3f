//! What a browser sent: the fields of a form or of a query, in their order.
//!
//! Text in, text out; what a field means is its page's business. Handlers read them.

use serde::Serialize;
use url::form_urlencoded;

/// Names with their values; a name may come again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `a=b&c=d`.
    pub(super) fn parse(encoded: &[u8]) -> Self {
        Self(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// The first value of a name, without the blanks around it; `None` for an empty one.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.raw(name)?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// The first value of a name as it was typed: blanks may be part of a password.
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(known, _)| known == name);
        values.next().map(|(_, value)| value.as_str())
    }

    /// Whether there is a character that no text has and no store keeps.
    pub(super) fn has_nul(&self) -> bool {
        let mut texts = self.0.iter().flat_map(|(name, value)| [name, value]);
        texts.any(|text| text.contains('\0'))
    }

    /// All values of a name, in their order.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = self.0.iter().filter(move |(known, _)| known == name);
        values.map(|(_, value)| value.as_str())
    }
}

/// What the API calls something, if it is a word.
pub(super) fn word(setting: &impl Serialize) -> Option<String> {
    let shown = serde_json::to_value(setting).ok()?;
    shown.as_str().map(str::to_owned)
}

impl Fields {
    /// Them again as a query, but for those of this name.
    pub(super) fn without(&self, name: &str) -> form_urlencoded::Serializer<'static, String> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let kept = self.0.iter();
        query.extend_pairs(kept.filter(|(known, value)| known != name && !value.is_empty()));
        query
    }
}

impl FromIterator<(String, String)> for Fields {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_browsers_send_them() {
        let fields = Fields::parse(b"name=+Asha+&x=1&x=2&empty=");
        assert_eq!(fields.get("name"), Some("Asha"));
        assert_eq!(fields.raw("name"), Some(" Asha "));
        assert_eq!(fields.get("empty"), None);
        assert_eq!(fields.get("x"), Some("1"));
        assert_eq!(fields.without("x").finish(), "name=+Asha+");
    }
}
