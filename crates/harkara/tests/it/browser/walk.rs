//! The way through all pages, found as people find it: by the links on them.
//!
//! A page that was added and to which nothing leads fails whoever walks. What is done at each stop is the
//! caller's business; one of each kind is enough, for each merchant.

use std::collections::{BTreeSet, VecDeque};

use harkara::dashboard;

use super::driver::Browser;

/// Somebody who opens one page after another.
pub struct Walk<'b> {
    browser: &'b Browser,
    /// Where the server is.
    origin: String,
    /// The kinds of pages that were open, each as its path is written in the list of pages, with the
    /// merchant that it was about.
    seen: BTreeSet<(&'static str, String)>,
}

impl<'b> Walk<'b> {
    pub fn new(browser: &'b Browser, origin: &str) -> Self {
        Self {
            browser,
            origin: origin.to_owned(),
            seen: BTreeSet::new(),
        }
    }

    /// Opens one page, by its path or its whole address.
    pub async fn visit(&mut self, to: &str, look: &mut impl AsyncFnMut(&str)) {
        let path = to.strip_prefix(&self.origin).unwrap_or(to).to_owned();
        self.seen.extend(kind(&path));
        self.browser.go(&format!("{}{path}", self.origin)).await;
        look(&path).await;
    }

    /// Opens this page, and from it one of each kind that a way of links leads to.
    pub async fn follow(&mut self, start: &str, look: &mut impl AsyncFnMut(&str)) {
        let mut ahead = VecDeque::from([start.to_owned()]);
        while let Some(path) = ahead.pop_front() {
            let is_new = kind(&path).is_some_and(|kind| !self.seen.contains(&kind));
            if !is_new {
                continue;
            }
            self.visit(&path, look).await;
            let links = "return [...document.links].filter(link => link.origin === location.origin)
                .map(link => link.pathname)";
            let links: Vec<String> = serde_json::from_value(self.browser.run(links).await).unwrap();
            ahead.extend(links);
        }
    }

    /// Fails if there is a kind of page that was not open.
    pub fn end(self) {
        let pages = dashboard::pages().into_iter();
        let missed: Vec<_> = pages
            .filter(|page| !self.seen.iter().any(|(seen, _)| seen == page))
            .collect();
        assert!(
            missed.is_empty(),
            "nothing leads to {missed:?}: link to each from a page, or let the walk visit it"
        );
    }
}

/// What kind of page a path leads to, if it is one of the dashboard's: the most exact one of the list.
fn kind(path: &str) -> Option<(&'static str, String)> {
    let path = path.split(['?', '#']).next()?;
    let parts: Vec<&str> = path.split('/').collect();
    let matches = |page: &&str| {
        let wanted = page.split('/');
        wanted.clone().count() == parts.len()
            && wanted
                .zip(&parts)
                .all(|(wanted, part)| wanted.starts_with('{') || wanted == *part)
    };
    let pages = dashboard::pages().into_iter().filter(matches);
    let page = pages.min_by_key(|page| page.matches('{').count())?;
    let merchant = page.split('/').position(|part| part == "{merchant_id}");
    let merchant = merchant.map_or("", |at| parts[at]);
    Some((page, merchant.to_owned()))
}
