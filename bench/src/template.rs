//! Texts with placeholders: cut once, filled in for every event.
//!
//! What a placeholder stands for is the caller's matter: `payload.rs` fills in orders, `load/adapter.rs`
//! the calls that publish them.

/// A text, cut at its placeholders.
pub(crate) struct Template<P> {
    /// Each a text and the placeholder that follows it.
    pieces: Vec<(String, P)>,
    rest: String,
}

impl<P: Copy> Template<P> {
    /// Cuts `text` wherever one of the names stands; what is not among them stays as it is.
    pub(crate) fn cut(text: &str, names: impl Iterator<Item = (&'static str, P)> + Clone) -> Self {
        let next = |rest: &str| {
            let found = |(name, placeholder): (&str, P)| {
                let at = rest.find(name)?;
                Some((at, at + name.len(), placeholder))
            };
            names.clone().filter_map(found).min_by_key(|found| found.0)
        };
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((begin, end, placeholder)) = next(rest) {
            pieces.push((rest[..begin].to_owned(), placeholder));
            rest = &rest[end..];
        }
        Self {
            pieces,
            rest: rest.to_owned(),
        }
    }

    /// Appends the text; `value` appends what a placeholder stands for.
    pub(crate) fn fill(&self, out: &mut String, mut value: impl FnMut(&mut String, P)) {
        for (text, placeholder) in &self.pieces {
            out.push_str(text);
            value(out, *placeholder);
        }
        out.push_str(&self.rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_filled_in_and_nothing_else() {
        let names = [("{id}", "7"), ("{pad}", "{id}")];
        let texts = ["{id}", r#"{"id":"{id}{pad}","pad":{id}}"#, "{ids}"];
        let filled = texts.map(|text| {
            let mut out = format!("{text:?} is ");
            Template::cut(text, names.into_iter()).fill(&mut out, |out, value| out.push_str(value));
            out
        });
        insta::assert_snapshot!(filled.join("\n"), @r#"
        "{id}" is 7
        "{\"id\":\"{id}{pad}\",\"pad\":{id}}" is {"id":"7{id}","pad":7}
        "{ids}" is {ids}
        "#);
    }
}
