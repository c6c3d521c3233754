//! The rules, compiled: what is to be done with a value of this name at this place. Secret names come first,
//! so that no rule can weaken them.

use super::mark::{Action, Mark};
use super::memory::Memory;
use super::recognise::{Finder, Place};
use super::rules::{FieldRule, Literals, MaskRules};
use super::secret;
use super::span::Span;
use super::sql::Apart;
use super::view::{self, View};

/// What people put between the parts of a key.
const KEY_SEPARATORS: [char; 4] = [':', '/', '.', '|'];

/// Everything that the maskers of single classes ask.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) literals: Literals,
    finder: Finder,
    rules: Vec<(Mark, FieldRule)>,
    /// What statements in which nothing is masked say about values apart from them.
    pub(crate) statements: Memory<Apart>,
    columns: Memory<Option<Mark>>,
    /// What names say of their values.
    secrets: Memory<Option<Mark>>,
    /// Texts in which nothing is found, by the name of their place: values of headers, names that somebody gave.
    harmless: Memory<()>,
    /// Keys of documents in which nothing is found, their escapes decoded.
    harmless_keys: Memory<()>,
    /// Names of fields in which nothing is found behind the prefix that the schema gives them.
    pub(crate) harmless_fields: Memory<()>,
}

impl Policy {
    pub(crate) fn new(rules: &MaskRules) -> Result<Self, aho_corasick::BuildError> {
        Ok(Policy {
            literals: rules.literals,
            finder: Finder::new(&rules.recognisers)?,
            rules: rules.rules.iter().map(|rule| (rule.mark(), rule.clone())).collect(),
            statements: Memory::new(),
            columns: Memory::new(),
            secrets: Memory::new(),
            harmless: Memory::new(),
            harmless_keys: Memory::new(),
            harmless_fields: Memory::new(),
        })
    }

    /// Adds what the recognisers find in a text.
    pub(crate) fn find(&self, text: &[u8], place: Place<'_>, spans: &mut Vec<Span>) {
        self.finder.find(text, place, spans);
    }

    /// The same for a text that likely comes again: that there is nothing in it is found once.
    pub(crate) fn find_often(&self, text: &str, name: &str, spans: &mut Vec<Span>) {
        if self.harmless.recall(name, text).is_some() {
            return;
        }
        let first = spans.len();
        self.find(text.as_bytes(), Place::of(name), spans);
        if spans.len() == first {
            self.harmless.keep(name, text, ());
        }
    }

    /// The same for a key of a document, in which backslashes escape.
    pub(crate) fn find_in_key(&self, text: &str, (start, end): (usize, usize), spans: &mut Vec<Span>) {
        let key = &text[start..end];
        if self.harmless_keys.recall("", key).is_some() {
            return;
        }
        let first = spans.len();
        self.find_escaped(text.as_bytes(), (start, end), Place::TEXT, spans);
        if spans.len() == first {
            self.harmless_keys.keep("", key, ());
        }
    }

    /// The same for a part of a text.
    pub(crate) fn find_in(&self, text: &str, (start, end): (usize, usize), spans: &mut Vec<Span>) {
        self.find_at(&text.as_bytes()[start..end], start, Place::TEXT, spans);
    }

    fn find_at(&self, part: &[u8], start: usize, place: Place<'_>, spans: &mut Vec<Span>) {
        let first = spans.len();
        self.find(part, place, spans);
        for span in &mut spans[first..] {
            span.start += start;
            span.end += start;
        }
    }

    /// The same for a part of a text in which backslashes escape.
    pub(crate) fn find_escaped(
        &self,
        text: &[u8],
        (start, end): (usize, usize),
        place: Place<'_>,
        spans: &mut Vec<Span>,
    ) {
        let part = &text[start..end];
        if memchr::memchr(b'\\', part).is_some() {
            return self.find_decoded(&view::backslash(part), start, place, spans);
        }
        self.find_at(part, start, place, spans);
    }

    /// The same for a value that was decoded from the text at `start`: the spans are those of that text.
    pub(crate) fn find_decoded(&self, view: &View, start: usize, place: Place<'_>, spans: &mut Vec<Span>) {
        let mut found = Vec::new();
        self.find(&view.bytes, place, &mut found);
        spans.extend(found.into_iter().map(|span| {
            let (from, to) = view.origin(span.start, span.end);
            Span { start: start + from, end: start + to, ..span }
        }));
    }

    /// A column's value, by `name` or `table.name`.
    pub(crate) fn column(&self, name: &str) -> Option<Mark> {
        if let Some(known) = self.columns.recall("", name) {
            return known;
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        let found = self
            .secret(last)
            .or_else(|| self.first(|rule| rule.columns.iter().any(|pattern| column_matches(pattern, name))));
        self.columns.keep("", name, found.clone());
        found
    }

    /// A value of a key-value store: its field is a column's name, its key has patterns of its own.
    pub(crate) fn keyed(&self, key: &str, field: &str) -> Option<Mark> {
        let column = if field.is_empty() { None } else { self.column(field) };
        // The parts of a key are names too: `session:81`, `user:7:password`.
        column
            .or_else(|| key.split(KEY_SEPARATORS).find_map(|part| secret_mark(part.as_bytes())))
            .or_else(|| self.first(|rule| rule.keys.iter().any(|pattern| glob(pattern, key))))
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<Mark> {
        self.secret(name)
            .or_else(|| self.first(|rule| rule.headers.iter().any(|pattern| glob(pattern, name))))
    }

    /// A value of a query string or form.
    pub(crate) fn parameter(&self, name: &str) -> Option<Mark> {
        self.secret(name)
            .or_else(|| self.first(|rule| rule.parameters.iter().any(|pattern| glob(pattern, name))))
    }

    /// A value in a JSON text, by the names that lead to it; items of lists have the name `*`.
    pub(crate) fn json(&self, path: &[String]) -> Option<Mark> {
        self.secret(last_name(path))
            .or_else(|| self.first(|rule| rule.json.iter().any(|pattern| path_matches(pattern, path))))
    }

    /// The text of an XML element or attribute, by the names that lead to it.
    pub(crate) fn xml(&self, path: &[String]) -> Option<Mark> {
        self.secret(last_name(path))
            .or_else(|| self.first(|rule| rule.xml.iter().any(|pattern| path_matches(pattern, path))))
    }

    /// A cookie's value: nothing of it ever stays, a rule tells only what it was.
    pub(crate) fn cookie(&self, name: &str) -> Mark {
        self.first(|rule| rule.cookies.iter().any(|pattern| glob(pattern, name)))
            .map_or(Mark::redact("cookie"), |mark| Mark { action: Action::Redact, ..mark })
    }

    /// The mark of a name that says that its value is a secret. The same few names come again and again.
    fn secret(&self, name: &str) -> Option<Mark> {
        if let Some(known) = self.secrets.recall("", name) {
            return known;
        }
        let found = secret_mark(name.as_bytes());
        self.secrets.keep("", name, found.clone());
        found
    }

    fn first(&self, matches: impl Fn(&FieldRule) -> bool) -> Option<Mark> {
        self.rules.iter().find(|(_, rule)| matches(rule)).map(|(mark, _)| mark.clone())
    }
}

/// The name of what a path leads to, be it in a list or not.
pub(crate) fn last_name(path: &[String]) -> &str {
    path.iter().rev().find(|name| name.as_str() != "*").map_or("", String::as_str)
}

/// The mark of a name that says that its value is a secret.
pub(crate) fn secret_mark(name: &[u8]) -> Option<Mark> {
    secret::kind_of_name(name).map(Mark::redact)
}

/// The last names of both must match, as many as both have: where the table is not known, the column decides.
fn column_matches(pattern: &str, name: &str) -> bool {
    pattern.rsplit('.').zip(name.rsplit('.')).all(|(pattern, name)| glob(pattern, name))
}

/// Names joined by `.`; a leading `**` stands for any names.
fn path_matches(pattern: &str, path: &[String]) -> bool {
    let path = match pattern.strip_prefix("**.") {
        Some(tail) => &path[path.len().saturating_sub(tail.split('.').count())..],
        None => path,
    };
    let pattern = pattern.strip_prefix("**.").unwrap_or(pattern);
    let mut names = path.iter();
    pattern.split('.').all(|part| names.next().is_some_and(|name| glob(part, name))) && names.next().is_none()
}

/// `*` stands for any characters; upper and lower case are the same. At most pattern × name steps, both short.
fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut seen) = (0, 0);
    let mut star = None;
    while seen < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(byte) if byte.eq_ignore_ascii_case(&name[seen]) => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((star_at, star_seen)) = star else { return false };
                star = Some((star_at, star_seen + 1));
                at = star_at + 1;
                seen = star_seen + 1;
            }
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_any_characters_in_either_case() {
        for (pattern, name, expected) in [
            ("phone", "Phone", true),
            ("*phone*", "home_phone_2", true),
            ("*", "", true),
            ("a*b*c", "axxbxxbc", true),
            ("a*b", "axc", false),
            ("phone", "phones", false),
        ] {
            assert_eq!(glob(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_table_decides_only_where_it_is_known() {
        assert!(column_matches("customers.name", "name"));
        assert!(column_matches("customers.name", "public.customers.name"));
        assert!(!column_matches("customers.name", "orders.name"));
        assert!(column_matches("name", "orders.name"));
    }

    #[test]
    fn a_key_value_is_masked_by_its_field_its_key_and_the_words_of_its_key() {
        let rules: MaskRules = serde_json::from_str(
            r#"{"rules":[{"id":"mail","keys":["user:*:mail"]},{"id":"name","columns":["name"]}]}"#,
        )
        .unwrap();
        let policy = Policy::new(&rules).unwrap();
        let rule = |key, field| policy.keyed(key, field).map(|mark| mark.rule.as_deref().map(str::to_owned));
        assert_eq!(rule("user:7:mail", ""), Some(Some("mail".to_owned())));
        assert_eq!(rule("user:7", "name"), Some(Some("name".to_owned())));
        assert_eq!(rule("user:7:password", ""), Some(None), "a secret's name comes before all rules");
        assert_eq!(rule("user:7", "password"), Some(None));
        assert_eq!(rule("user:7", ""), None);
    }

    #[test]
    fn json_paths_match_from_the_root_or_at_any_depth() {
        let path = ["customers", "*", "address", "street"].map(str::to_owned);
        assert!(path_matches("customers.*.address.street", &path));
        assert!(path_matches("**.street", &path));
        assert!(path_matches("**.address.*", &path));
        assert!(!path_matches("customers.*.address", &path));
        assert!(!path_matches("street", &path));
        assert!(!path_matches("a.customers.*.address.street", &path));
    }
}
