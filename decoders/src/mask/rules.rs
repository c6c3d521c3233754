//! What operators may say about masking: the `[masking]` part of the agent's configuration, checked once and
//! compiled. Credentials are masked whatever stands here; there is no key that shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::mark::{Action, Mark};
use super::recognise::table;

/// Most rules of one configuration.
pub const RULES_MAX: usize = 256;
/// Most patterns of one list of one rule.
pub const PATTERNS_MAX: usize = 256;
/// Longest pattern in bytes.
pub const PATTERN_BYTES_MAX: usize = 128;
/// Longest id or kind in bytes: it stands in each mask.
pub const ID_BYTES_MAX: usize = 24;
/// Most characters that `keep_last` may show.
pub const KEEP_LAST_MAX: u8 = 8;

/// The configuration of masking. The default masks what the recognisers find, and secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaskRules {
    /// Which literals of statements are masked.
    pub literals: Literals,
    /// What each recogniser does.
    pub recognisers: Recognisers,
    /// Rules by field, in order: the first that matches decides.
    pub rules: Vec<FieldRule>,
}

/// Which literals of statements are masked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Literals {
    /// Those that a rule, a recogniser or a secret name hits.
    #[default]
    Recognised,
    /// All of them, numbers included.
    All,
}

/// What a recogniser does with what it finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// It is not looked for.
    Off,
    /// Nothing of it stays.
    #[default]
    Redact,
    /// The same, and what needs its name nearby to be told from other numbers is masked without it too.
    Anywhere,
    /// Its last characters stay.
    KeepLast(u8),
}

/// One setting for each recogniser. Passwords, credentials and private keys are not here: they are always masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognisers(Vec<Setting>);

impl Default for Recognisers {
    fn default() -> Self {
        let setting = |kind| if table::is_on(kind) { Setting::Redact } else { Setting::Off };
        Recognisers((0..table::TABLE.len()).map(setting).collect())
    }
}

impl Recognisers {
    /// The same setting for all.
    pub fn all(setting: Setting) -> Self {
        Recognisers(vec![setting; table::TABLE.len()])
    }

    /// Sets one kind; `false` when there is no such kind.
    pub fn set(&mut self, kind: &str, setting: Setting) -> bool {
        let index = table::TABLE.iter().position(|one| one.kind == kind);
        index.map(|index| self.0[index] = setting).is_some()
    }

    /// The setting of one kind; `None` when there is no such kind.
    pub fn get(&self, kind: &str) -> Option<Setting> {
        table::TABLE.iter().position(|one| one.kind == kind).map(|index| self.0[index])
    }

    /// The settings in the order of the table.
    pub(crate) fn by_kind(&self) -> impl Iterator<Item = Setting> {
        self.0.iter().copied()
    }
}

impl Serialize for Recognisers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(table::TABLE.iter().map(|one| one.kind).zip(&self.0))
    }
}

impl<'de> Deserialize<'de> for Recognisers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut settings = Recognisers::default();
        for (kind, setting) in BTreeMap::<String, Setting>::deserialize(deserializer)? {
            if !settings.set(&kind, setting) {
                let known: Vec<_> = table::TABLE.iter().map(|one| one.kind).collect();
                let known = known.join(", ");
                return Err(D::Error::custom(format!(
                    "unknown recogniser `{kind}`, expected one of {known}"
                )));
            }
        }
        Ok(settings)
    }
}

/// What people may know of a recogniser: the list in the manual.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its key in `[masking.recognisers]`, and what stands in its masks.
    pub kind: &'static str,
    /// What it finds.
    pub what: &'static str,
    /// How it tells.
    pub told: &'static str,
    /// Whether it is looked for when the configuration says nothing.
    pub on: bool,
}

/// All recognisers that may be set.
pub fn recognisers() -> impl Iterator<Item = About> {
    table::TABLE.iter().enumerate().map(|(index, one)| About {
        kind: one.kind,
        what: one.what,
        told: one.told,
        on: table::is_on(index),
    })
}

/// One rule: which fields, and what is done with their values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldRule {
    /// Its id, which stands in the masks that it makes: letters, digits, `-` and `_`.
    pub id: String,
    /// What its values are; stands in the masks. `field` when not given.
    #[serde(default = "default_kind")]
    pub kind: String,
    /// What is done.
    #[serde(default)]
    pub action: Action,
    /// Columns, `name` or `table.name`; `*` stands for any characters.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Names of headers.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Keys of a key-value store, whole; `*` stands for any characters: `user:*:email`.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Names in query strings and forms.
    #[serde(default)]
    pub parameters: Vec<String>,
    /// Names of cookies. Nothing of a cookie's value ever stays: the rule tells in the mask what it was.
    #[serde(default)]
    pub cookies: Vec<String>,
    /// Paths in JSON bodies, and in values that are JSON: names joined by `.`, each item of a list is `*`: `customers.*.name`. A leading
    /// `**.` stands for any depth.
    #[serde(default)]
    pub json: Vec<String>,
    /// Paths in XML bodies, in the same form: names of elements without their prefix, attributes with `@` before.
    #[serde(default)]
    pub xml: Vec<String>,
}

fn default_kind() -> String {
    "field".to_owned()
}

/// Why a configuration of masking is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// Too many rules.
    #[error("masking.rules holds {count} rules, at most {RULES_MAX} are allowed")]
    TooManyRules {
        /// How many.
        count: usize,
    },
    /// An id or kind cannot stand in a mask.
    #[error("masking.rules: {what} {name:?} must have 1 to {ID_BYTES_MAX} letters, digits, '-' or '_'")]
    BadName {
        /// `id` or `kind`.
        what: &'static str,
        /// What was given.
        name: String,
    },
    /// Two rules have the same id.
    #[error("masking.rules: the id {id:?} is used twice; give each rule its own")]
    SameId {
        /// Which.
        id: String,
    },
    /// A rule that matches nothing.
    #[error(
        "masking.rules: rule {id:?} names no columns, headers, keys, parameters, cookies, json or xml paths"
    )]
    Empty {
        /// Which.
        id: String,
    },
    /// A list is too long.
    #[error("masking.rules: rule {id:?} has {count} patterns in {list}, at most {PATTERNS_MAX} are allowed")]
    TooManyPatterns {
        /// Which rule.
        id: String,
        /// Which list.
        list: &'static str,
        /// How many.
        count: usize,
    },
    /// A pattern is empty or too long.
    #[error(
        "masking.rules: rule {id:?} has a pattern in {list} that is empty or over {PATTERN_BYTES_MAX} bytes"
    )]
    BadPattern {
        /// Which rule.
        id: String,
        /// Which list.
        list: &'static str,
    },
    /// `keep_last` shows nothing or too much.
    #[error("masking: keep_last = {count} in {place}; it must be 1 to {KEEP_LAST_MAX}")]
    BadKeepLast {
        /// Where it stands.
        place: String,
        /// What was given.
        count: u8,
    },
    /// The product's own tables do not compile: a defect of this build.
    #[error("masking: the recognisers of this build are broken")]
    Recognisers,
}

impl MaskRules {
    /// Checks everything that the types cannot say.
    pub fn check(&self) -> Result<(), MaskError> {
        if self.rules.len() > RULES_MAX {
            return Err(MaskError::TooManyRules { count: self.rules.len() });
        }
        for (one, setting) in table::TABLE.iter().zip(self.recognisers.by_kind()) {
            if let Setting::KeepLast(count) = setting {
                check_keep_last(count, || format!("recogniser {}", one.kind))?;
            }
        }
        let mut ids = BTreeSet::new();
        for rule in &self.rules {
            rule.check()?;
            if !ids.insert(rule.id.as_str()) {
                return Err(MaskError::SameId { id: rule.id.clone() });
            }
        }
        Ok(())
    }
}

impl FieldRule {
    fn check(&self) -> Result<(), MaskError> {
        for (what, name) in [("id", &self.id), ("kind", &self.kind)] {
            let fits = (1..=ID_BYTES_MAX).contains(&name.len());
            if !fits || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
                return Err(MaskError::BadName { what, name: name.clone() });
            }
        }
        if let Action::KeepLast(count) = self.action {
            check_keep_last(count, || format!("rule {:?}", self.id))?;
        }
        let lists = self.lists();
        for (list, patterns) in lists {
            if patterns.len() > PATTERNS_MAX {
                let count = patterns.len();
                return Err(MaskError::TooManyPatterns { id: self.id.clone(), list, count });
            }
            if patterns.iter().any(|pattern| pattern.is_empty() || pattern.len() > PATTERN_BYTES_MAX) {
                return Err(MaskError::BadPattern { id: self.id.clone(), list });
            }
        }
        if lists.iter().all(|(_, patterns)| patterns.is_empty()) {
            return Err(MaskError::Empty { id: self.id.clone() });
        }
        Ok(())
    }

    fn lists(&self) -> [(&'static str, &[String]); 7] {
        [
            ("columns", &self.columns),
            ("headers", &self.headers),
            ("keys", &self.keys),
            ("parameters", &self.parameters),
            ("cookies", &self.cookies),
            ("json", &self.json),
            ("xml", &self.xml),
        ]
    }

    /// The mark of this rule.
    pub(crate) fn mark(&self) -> Mark {
        Mark { kind: self.kind.clone().into(), action: self.action, rule: Some(Arc::from(self.id.as_str())) }
    }
}

fn check_keep_last(count: u8, place: impl FnOnce() -> String) -> Result<(), MaskError> {
    if (1..=KEEP_LAST_MAX).contains(&count) {
        return Ok(());
    }
    Err(MaskError::BadKeepLast { place: place(), count })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> FieldRule {
        serde_json::from_str(r#"{"id":"phones","columns":["*.phone"]}"#).unwrap()
    }

    #[test]
    fn rules_are_read_and_unknown_keys_are_refused() {
        let text = r#"{"literals":"all","recognisers":{"card":{"keep_last":4},"email":"off"},
            "rules":[{"id":"a","kind":"name","action":"redact","columns":["name"]}]}"#;
        let rules: MaskRules = serde_json::from_str(text).unwrap();
        rules.check().unwrap();
        assert_eq!(rules.recognisers.get("card"), Some(Setting::KeepLast(4)));
        assert_eq!(rules.literals, Literals::All);
        assert!(serde_json::from_str::<MaskRules>(r#"{"literal":"all"}"#).is_err());
        assert!(serde_json::from_str::<MaskRules>(r#"{"recognisers":{"jwt":"off"}}"#).is_err());
        assert!(serde_json::from_str::<MaskRules>(r#"{"rules":[{"id":"a","column":[]}]}"#).is_err());
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_place() {
        let refused = |change: fn(&mut FieldRule)| {
            let mut rule = rule();
            change(&mut rule);
            let rules = MaskRules { rules: vec![rule], ..MaskRules::default() };
            rules.check().unwrap_err().to_string()
        };
        assert!(refused(|rule| rule.id = "a›b".into()).contains("id"));
        assert!(refused(|rule| rule.kind = String::new()).contains("kind"));
        assert!(refused(|rule| rule.columns.clear()).contains("names no columns"));
        assert!(refused(|rule| rule.columns = vec![String::new()]).contains("columns"));
        assert!(refused(|rule| rule.headers = vec!["x".into(); 257]).contains("257"));
        assert!(refused(|rule| rule.action = Action::KeepLast(9)).contains("keep_last = 9"));
        let twice = MaskRules { rules: vec![rule(), rule()], ..MaskRules::default() };
        assert_eq!(twice.check(), Err(MaskError::SameId { id: "phones".into() }));
    }
}
