//! Names in a filter and where their values lie in a [`View`].

use std::borrow::Cow;

use crate::{Value, View, names};

/// One value to compare.
pub(super) enum Scalar<'a> {
    Integer(i128),
    Float(f64),
    Flag(bool),
    Text(Cow<'a, str>),
}

impl Scalar<'_> {
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Scalar::Integer(number) => Cow::Owned(number.to_string()),
            Scalar::Float(number) => Cow::Owned(number.to_string()),
            Scalar::Flag(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
            Scalar::Text(text) => Cow::Borrowed(text),
        }
    }
}

/// What a look at a field found.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    pub(super) present: bool,
    pub(super) matched: bool,
}

/// Who is asked one value after the other.
type Test<'t> = dyn FnMut(Scalar<'_>) -> bool + 't;

macro_rules! derived {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal;)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Derived { $($(#[doc = $doc])+ $variant,)+ }
        /// Names beyond the schema's, with what they say.
        const DERIVED: &[(&str, Derived, &str)] = &[$(($name, Derived::$variant, concat!($($doc),+))),+];
    };
}

derived! {
    /// Host's name or id.
    Host = "host";
    /// Type of the entry: exchange, exchange.open, session.open, exec, gap, …
    Type = "type";
    /// Session id or its beginning.
    Session = "session";
    /// Number of the exchange in its session.
    Exchange = "exchange";
    /// Epoch of the agent.
    Epoch = "epoch";
    /// Sequence in the epoch.
    Seq = "seq";
    /// Executable's path, its last part, or the pid.
    Process = "process";
    /// Systemd unit, with or without its suffix.
    Service = "service";
    /// User that the process runs as: name or number.
    User = "user";
    /// User who logged in: name or number.
    Login = "login";
    /// Protocol.
    Protocol = "protocol";
    /// From request to answer.
    Duration = "duration";
    /// How it ended.
    Outcome = "outcome";
    /// HTTP status, SQLSTATE or the like.
    Status = "status";
    /// Codes of what was odd.
    Anomalies = "custody.anomalies";
    /// Fields that masking changed, by name.
    Masked = "custody.masked";
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Derived(Derived),
    /// A field of the record.
    Record(String),
    /// A label of the host.
    Label(String),
    /// How many values of a sensitive kind an answer held.
    Kind(String),
}

const LABEL: &str = "label.";
const KIND: &str = "custody.kinds.";

impl Field {
    /// The field of this name, or a sentence that says what is like it.
    pub(super) fn named(name: &str) -> Result<Field, String> {
        if let Some((_, derived, _)) = DERIVED.iter().find(|(own, _, _)| *own == name) {
            return Ok(Field::Derived(*derived));
        }
        for (prefix, make) in [(LABEL, Field::Label as fn(String) -> Field), (KIND, Field::Kind)] {
            if let Some(rest) = name.strip_prefix(prefix).filter(|rest| !rest.is_empty()) {
                return Ok(make(rest.to_owned()));
            }
        }
        let known = names::ALL.iter().any(|(own, _)| match own.strip_suffix('.') {
            Some(_) => name.len() > own.len() && name.starts_with(own),
            None => name == *own,
        });
        if known {
            return Ok(Field::Record(name.to_owned()));
        }
        let shown = crate::text::escape(name);
        Err(match like(name) {
            Some(other) => format!("there is no field `{shown}`; did you mean `{other}`?"),
            None => format!("there is no field `{shown}`; `custody explain fields` lists them all"),
        })
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        Field::named(name).is_ok_and(|field| field == *self)
    }

    /// Whether `=` takes the beginning of the value, as people type ids.
    /// Whether every entry of a host says the same.
    pub(super) fn is_of_host(&self) -> bool {
        matches!(self, Field::Derived(Derived::Host) | Field::Label(_))
    }

    pub(super) fn is_prefix(&self) -> bool {
        *self == Field::Derived(Derived::Session)
    }

    /// Asks `test` for each value until one is right.
    pub(super) fn values(&self, view: &View, test: &mut Test<'_>) -> Found {
        let mut look = Look { found: Found::default(), test };
        match self {
            Field::Record(name) => look.value(view.field(name)),
            Field::Label(name) => look.text(view.labels.get(name).map(String::as_str)),
            Field::Kind(kind) => {
                let count = view.record.as_ref().and_then(|record| record.kinds.get(kind.as_str()));
                look.integer(count.copied());
            }
            Field::Derived(derived) => derived.values(view, &mut look),
        }
        look.found
    }
}

impl Derived {
    fn values(self, view: &View, look: &mut Look<'_, '_>) {
        match self {
            Derived::Host => {
                look.text(Some(&view.host_name));
                look.text(Some(&view.host));
            }
            Derived::Type => look.text(Some(&view.entry_type)),
            Derived::Session => look.text(view.session_id.as_ref().map(|id| id.as_str())),
            Derived::Exchange => look.integer(view.exchange),
            Derived::Epoch => look.integer(Some(view.epoch)),
            Derived::Seq => look.integer(Some(view.seq)),
            Derived::Process => {
                let path = view.field(names::PROCESS_EXECUTABLE).and_then(Value::as_text);
                look.text(path);
                look.text(path.and_then(|path| path.rsplit('/').next()));
                look.value(view.field(names::PROCESS_PID));
            }
            Derived::Service => {
                let unit = view.field(names::SERVICE_NAME).and_then(Value::as_text);
                look.text(unit);
                look.text(unit.and_then(|unit| unit.strip_suffix(".service")));
            }
            Derived::User => {
                look.value(view.field(names::USER_NAME));
                look.value(view.field(names::USER_ID));
            }
            Derived::Login => {
                look.value(view.field(names::LOGIN_USER));
                look.value(view.field(names::LOGIN_UID));
            }
            Derived::Protocol => look.value(view.field(names::PROTOCOL_NAME)),
            Derived::Duration => look.value(view.field(names::DURATION)),
            Derived::Outcome => look.value(view.field(names::OUTCOME)),
            Derived::Status => {
                look.value(view.field(names::HTTP_STATUS));
                look.value(view.field(names::DB_RESPONSE_STATUS));
            }
            Derived::Anomalies => {
                for code in view.record.iter().flat_map(|record| &record.anomalies) {
                    look.text(Some(code));
                }
            }
            Derived::Masked => {
                for field in view.record.iter().flat_map(|record| &record.masked) {
                    look.text(Some(&field.path));
                }
            }
        }
    }
}

/// One walk over values, which stops asking once one was right.
struct Look<'l, 't> {
    found: Found,
    test: &'l mut Test<'t>,
}

impl Look<'_, '_> {
    fn ask(&mut self, scalar: Scalar<'_>) {
        self.found.present = true;
        self.found.matched = self.found.matched || (self.test)(scalar);
    }

    fn text(&mut self, text: Option<&str>) {
        if let Some(text) = text {
            self.ask(Scalar::Text(Cow::Borrowed(text)));
        }
    }

    fn integer(&mut self, number: Option<u64>) {
        if let Some(number) = number {
            self.ask(Scalar::Integer(number.into()));
        }
    }

    fn value(&mut self, value: Option<&Value>) {
        match value {
            None => {}
            Some(Value::Bool(flag)) => self.ask(Scalar::Flag(*flag)),
            Some(Value::Unsigned(number)) => self.ask(Scalar::Integer((*number).into())),
            Some(Value::Signed(number)) => self.ask(Scalar::Integer((*number).into())),
            Some(Value::Float(number)) => self.ask(Scalar::Float(*number)),
            Some(value @ Value::Bytes(_)) => self.ask(Scalar::Text(value.display())),
            Some(Value::Text(text)) => self.ask(Scalar::Text(Cow::Borrowed(text))),
            Some(Value::List(values)) => {
                self.found.present = true;
                values.iter().flatten().for_each(|value| self.value(Some(value)));
            }
        }
    }
}

/// Every name that a filter takes, with what it says: the schema's and the short ones.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let derived = DERIVED.iter().map(|(name, _, says)| (*name, *says));
    let families =
        [(LABEL, " Label NAME of the host follows."), (KIND, " How many values of a sensitive kind.")];
    derived.chain(families).chain(names::ALL.iter().copied())
}

/// The name that was probably meant: one that contains the word, or differs in a letter or two.
fn like(name: &str) -> Option<&'static str> {
    let short: String = name.chars().take(64).collect();
    let near = all().map(|(own, _)| (distance(&short, own), own)).min()?;
    if near.0 <= 2 {
        return Some(near.1);
    }
    let part = |own: &&str| short.len() > 2 && own.contains(short.as_str());
    all().map(|(own, _)| own).find(part)
}

/// Letters to change, add or leave out (Levenshtein); both texts are short.
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (index, own) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in two.iter().enumerate() {
            let changed = diagonal + usize::from(own != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[two.len()]
}
