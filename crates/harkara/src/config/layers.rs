//! The layers that settings come from, laid over each other: defaults, file, environment.
//!
//! What a setting means is not known here, only which settings there are (those of the default
//! file), what was written for each, and where. `config.rs` turns the text into final types through
//! the readers below, which put key, value and place into every error.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use toml::{Table, Value};

/// Variables with our prefix that are not settings.
const NOT_SETTINGS: [&str; 1] = [super::FILE_VARIABLE];
const PREFIX: &str = "HARKARA_";

/// Why the settings cannot be used. Each message names the key, the value, the reason and the
/// remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read the settings file {}; check the path given by --config or HARKARA_CONFIG", .path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("read the settings file {} as TOML; correct the line shown", .path.display())]
    Syntax {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    /// Its value is not shown: a variable that is not ours to read may hold a secret.
    #[error("use {key} from {origin}: there is no such setting; {advice}")]
    Unknown {
        key: String,
        origin: String,
        advice: String,
    },
    #[error("use {key} = {value} from {origin}: {reason}")]
    Refused {
        key: String,
        value: String,
        origin: String,
        reason: String,
    },
}

struct Setting {
    value: Value,
    origin: String,
}

/// What was written for every setting, and where.
pub(super) struct Layers(BTreeMap<String, Setting>);

impl Layers {
    /// The defaults alone; their keys are all the settings there are.
    pub(super) fn defaults() -> Self {
        let table: Table = super::DEFAULTS
            .parse()
            .expect("the embedded file is valid TOML");
        let mut layers = Self(BTreeMap::new());
        layers.declare("", table);
        layers
    }

    /// A table with something in it is a section; an empty one is a setting that holds names.
    fn declare(&mut self, section: &str, table: Table) {
        for (name, value) in table {
            let key = join(section, &name);
            match value {
                Value::Table(inner) if !inner.is_empty() => self.declare(&key, inner),
                value => {
                    self.0.insert(
                        key,
                        Setting {
                            value,
                            origin: "the defaults".into(),
                        },
                    );
                }
            }
        }
    }

    pub(super) fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.into(),
            source,
        })?;
        self.add_toml(path, &text)
    }

    pub(super) fn add_toml(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let table: Table = text.parse().map_err(|source| ConfigError::Syntax {
            path: path.into(),
            source: Box::new(source),
        })?;
        self.overlay("", table, &path.display().to_string())
    }

    fn overlay(&mut self, section: &str, table: Table, origin: &str) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = join(section, &name);
            match value {
                Value::Table(inner) if self.is_section(&key) => {
                    self.overlay(&key, inner, origin)?;
                }
                value => self.set(key, value, origin)?,
            }
        }
        Ok(())
    }

    pub(super) fn add_environment(
        &mut self,
        variables: &BTreeMap<String, String>,
    ) -> Result<(), ConfigError> {
        for (name, value) in variables {
            let Some(key) = name.strip_prefix(PREFIX) else {
                continue;
            };
            if !NOT_SETTINGS.contains(&name.as_str()) {
                let key = key.to_lowercase().replace("__", ".");
                self.set(key, Value::String(value.clone()), name)?;
            }
        }
        Ok(())
    }

    fn set(&mut self, key: String, value: Value, origin: &str) -> Result<(), ConfigError> {
        match self.0.get_mut(&key) {
            Some(setting) => {
                *setting = Setting {
                    value,
                    origin: origin.into(),
                };
                Ok(())
            }
            None => Err(ConfigError::Unknown {
                advice: self.advice(&key, origin),
                origin: origin.into(),
                key,
            }),
        }
    }

    fn is_section(&self, key: &str) -> bool {
        self.0.keys().any(|known| {
            known
                .strip_prefix(key)
                .is_some_and(|rest| rest.starts_with('.'))
        })
    }

    /// Names the nearest key, in the spelling of the place that the unknown one was written in.
    fn advice(&self, key: &str, origin: &str) -> String {
        let sections = self
            .0
            .keys()
            .filter_map(|known| known.split_once('.'))
            .map(|(name, _)| name);
        let nearest = self
            .0
            .keys()
            .map(String::as_str)
            .chain(sections)
            .map(|known| (distance(key, known), known))
            .min()
            .filter(|(distance, _)| *distance <= key.len() / 3);
        match nearest {
            Some((0, known)) => format!("{known} is a section, whose settings are {known}.…"),
            Some((_, known)) if origin.starts_with(PREFIX) => {
                format!("did you mean {}?", variable(known))
            }
            Some((_, known)) => format!("did you mean {known}?"),
            None => "harkara.default.toml lists all there are".into(),
        }
    }

    /// The text of a setting, read as its final type; `wanted` says what it must be.
    pub(super) fn parse<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        scalar(&self.setting(key).value)
            .and_then(|text| read(text.trim()))
            .ok_or_else(|| self.refuse(key, format!("it must be {wanted}")))
    }

    /// Like `parse`; the empty string means that nothing was set.
    pub(super) fn optional<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        self.parse(key, wanted, |text| match text {
            "" => Some(None),
            text => read(text).map(Some),
        })
    }

    pub(super) fn switch(&self, key: &str) -> Result<bool, ConfigError> {
        self.parse(key, "true or false", |text| text.parse().ok())
    }

    pub(super) fn number<T: FromStr + PartialOrd + Display>(
        &self,
        key: &str,
        range: RangeInclusive<T>,
    ) -> Result<T, ConfigError> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        self.parse(key, &wanted, |text| {
            text.parse().ok().filter(|number| range.contains(number))
        })
    }

    pub(super) fn seconds(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Duration, ConfigError> {
        self.number(key, range).map(Duration::from_secs)
    }

    pub(super) fn days(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Duration, ConfigError> {
        let days: u64 = self.number(key, range)?;
        Ok(Duration::from_secs(days * 86_400))
    }

    /// A list: an array in TOML, separated by commas in a variable.
    pub(super) fn list<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, ConfigError> {
        let items: Option<Vec<String>> = match &self.setting(key).value {
            Value::String(text) => Some(split(text).map(Into::into).collect()),
            Value::Array(items) => items.iter().map(scalar).collect(),
            _ => None,
        };
        items
            .and_then(|items| items.iter().map(|item| read(item.trim())).collect())
            .ok_or_else(|| self.refuse(key, format!("it must be a list of {wanted}")))
    }

    /// Names with a value each: a table in TOML, `name=value` separated by commas in a variable.
    pub(super) fn map<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&str, &str) -> Option<(String, T)>,
    ) -> Result<BTreeMap<String, T>, ConfigError> {
        let pairs: Option<Vec<(String, String)>> = match &self.setting(key).value {
            Value::String(text) => split(text)
                .map(|pair| {
                    pair.split_once('=')
                        .map(|(name, value)| (name.into(), value.into()))
                })
                .collect(),
            Value::Table(table) => table
                .iter()
                .map(|(name, value)| Some((name.clone(), scalar(value)?)))
                .collect(),
            _ => None,
        };
        pairs
            .and_then(|pairs| {
                pairs
                    .iter()
                    .map(|(n, v)| read(n.trim(), v.trim()))
                    .collect()
            })
            .ok_or_else(|| self.refuse(key, format!("it must be {wanted}")))
    }

    /// The error for a setting whose value cannot be used.
    pub(super) fn refuse(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        let Setting { value, origin } = self.setting(key);
        ConfigError::Refused {
            key: key.into(),
            value: shown(value),
            origin: origin.clone(),
            reason: reason.into(),
        }
    }

    fn setting(&self, key: &str) -> &Setting {
        self.0
            .get(key)
            .unwrap_or_else(|| panic!("{key} is missing in harkara.default.toml"))
    }
}

fn join(section: &str, name: &str) -> String {
    if section.is_empty() {
        name.into()
    } else {
        format!("{section}.{name}")
    }
}

/// The environment variable of a key.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// The text of a value that is not a list or a table: `4`, `"4"` and a variable's `4` are the same.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(switch) => Some(switch.to_string()),
        _ => None,
    }
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// A value as written, without what a URL may hold that is secret.
fn shown(value: &Value) -> String {
    without_password(&value.to_string())
}

/// A URL without the user and password before its host, and without what a query may say of them.
pub(super) fn without_password(text: &str) -> String {
    let (text, asked) = match text.split_once("password=") {
        Some((text, _)) => (text, "password=***"),
        None => (text, ""),
    };
    match (text.find("://"), text.rfind('@')) {
        (Some(start), Some(end)) if start < end => {
            format!("{}***{}{asked}", &text[..start + 3], &text[end..])
        }
        _ => format!("{text}{asked}"),
    }
}

/// How many letters must be added, removed or changed to turn one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, letter) in from.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}
