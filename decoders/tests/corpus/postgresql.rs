//! PostgreSQL: an exchange is what the server runs (a query, an execution, a start-up, ...), with the tags, errors, rows
//! and data of COPY that come of it. The second reader tells messages; this joins them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use custody_record::{Kind, Record, Value, names};

use crate::capture::{Row, Stream, number, rows, stream_of, text};
use crate::compare::{Class, Comparison, Difference, Exchange, NONE, Reason, Said};

/// Of a longer statement the beginning is compared: ours is cut at the limit of a message.
const TEXT_BYTES: usize = 1000;

/// What came of a request.
#[derive(Default)]
struct Came {
    tags: Vec<String>,
    code: Option<String>,
    rows: u64,
    copied: u64,
    /// An error before it ended its batch.
    skipped: bool,
    answered: bool,
}

impl Came {
    fn how(&self) -> String {
        if !self.answered {
            return NONE.to_owned();
        }
        let mut how = self.tags.join(", ");
        how += self.code.as_ref().map(|code| format!(" error {code}")).unwrap_or_default().as_str();
        how += if self.skipped { " skipped" } else { "" };
        for (count, what) in [(self.rows, "rows"), (self.copied, "copied")] {
            how += if count > 0 { format!(" {count} {what}") } else { String::new() }.as_str();
        }
        how
    }
}

fn what(message: &str, query: &str) -> String {
    let query: String = query.chars().take(TEXT_BYTES).collect();
    format!("{message} {query}")
}

/// A step that the server has to answer.
struct Step {
    message: &'static str,
    query: String,
    came: Came,
}

/// A connection as the second reader's messages tell it.
#[derive(Default)]
struct Talk {
    statements: BTreeMap<String, String>,
    portals: BTreeMap<String, String>,
    waiting: VecDeque<Step>,
    told: Vec<Exchange>,
}

impl Talk {
    fn ask(&mut self, message: &'static str, query: String) {
        self.waiting.push_back(Step { message, query, came: Came::default() });
    }

    fn front(&mut self) -> Option<&mut Came> {
        self.waiting.front_mut().map(|step| &mut step.came)
    }

    /// What the server runs is an exchange. Other steps are, where they fail; a statement also, where neither it nor an
    /// execution of its batch is answered.
    fn done(&mut self) {
        let Some(Step { message, query, came }) = self.waiting.pop_front() else { return };
        let mut batch = self.waiting.iter().take_while(|step| step.message != "Sync");
        let is_told = match message {
            "Query" | "Execute" | "StartupMessage" | "FunctionCall" => true,
            "Parse" if !came.answered => batch.all(|step| step.message != "Execute"),
            _ => came.code.is_some(),
        };
        if is_told {
            self.told.push(Exchange::new(what(message, &query), came.how()));
        }
    }

    fn answered(&mut self) {
        if let Some(came) = self.front() {
            came.answered = true;
        }
        self.done();
    }

    fn is_front(&self, messages: &[&str]) -> bool {
        self.waiting.front().is_some_and(|step| messages.contains(&step.message))
    }

    /// An answer to a request that the capture does not hold.
    fn unasked(&mut self, how: &str) {
        self.told.push(Exchange::new(NONE, how));
    }

    fn hear_client(&mut self, kind: &str, mut value: impl FnMut(&str) -> String) {
        match kind {
            "Startup message" => self.ask("StartupMessage", String::new()),
            "Cancel request" => self.told.push(Exchange::new("CancelRequest ", "")),
            "Simple query" => self.ask("Query", value("pgsql.query")),
            "Parse" => {
                let (name, query) = (value("pgsql.statement"), value("pgsql.query"));
                self.statements.insert(name, query.clone());
                self.ask("Parse", query);
            }
            "Bind" => {
                let (portal, name) = (value("pgsql.portal"), value("pgsql.statement"));
                let query = self.statements.get(&name).cloned().unwrap_or_default();
                self.portals.insert(portal, query.clone());
                self.ask("Bind", query);
            }
            "Execute" => {
                let query = self.portals.get(&value("pgsql.portal")).cloned().unwrap_or_default();
                self.ask("Execute", query);
            }
            "Describe" => self.ask("Describe", String::new()),
            "Close" => self.ask("Close", String::new()),
            "Sync" => self.ask("Sync", String::new()),
            "Function call" => self.ask("FunctionCall", String::new()),
            "Copy data" => self.copied(),
            _ => {}
        }
    }

    fn copied(&mut self) {
        if let Some(came) = self.front() {
            came.copied += 1;
        }
    }

    fn hear_server(&mut self, kind: &str, mut value: impl FnMut(&str) -> String) {
        let runs = self.is_front(&["Query", "Execute"]);
        match kind {
            "Command completion" | "Empty query" | "Portal suspended" => {
                let tag = if kind == "Command completion" { Some(value("pgsql.tag")) } else { None };
                match self.front().filter(|_| runs) {
                    Some(came) => {
                        came.answered = true;
                        came.tags.extend(tag);
                    }
                    None => return self.unasked(&tag.unwrap_or_default()),
                }
                if self.is_front(&["Execute"]) {
                    self.answered();
                }
            }
            "Data row" => {
                if let Some(came) = self.front().filter(|_| runs) {
                    came.rows += 1;
                }
            }
            "Copy data" => self.copied(),
            "Parse completion" if self.is_front(&["Parse"]) => self.answered(),
            "Bind completion" if self.is_front(&["Bind"]) => self.answered(),
            "Close completion" if self.is_front(&["Close"]) => self.answered(),
            "Row description" | "No data" if self.is_front(&["Describe"]) => self.answered(),
            "Error" => self.failed(value("pgsql.code")),
            "Notification" => self.told.push(Exchange::new("NotificationResponse ", "")),
            "Ready for query" => self.ready(),
            _ => {}
        }
    }

    /// The batch goes on behind its `Sync`. What prepares an execution fails for it.
    fn failed(&mut self, code: String) {
        if self.waiting.is_empty() {
            return self.unasked(&format!(" error {code}"));
        }
        let whole = self.is_front(&["Query", "FunctionCall"]);
        let starts = self.is_front(&["StartupMessage"]);
        let batch = self.waiting.iter().position(|step| step.message == "Sync").unwrap_or(self.waiting.len());
        let fails = self.waiting.iter().take(batch).position(|step| step.message == "Execute");
        let fails = if whole || starts { 0 } else { fails.unwrap_or(0) };
        let came = &mut self.waiting[fails].came;
        (came.code, came.answered) = (Some(code), true);
        if starts {
            self.done();
        }
        if whole || starts {
            return;
        }
        for at in 0..batch {
            if let Some(came) = self.front() {
                came.skipped |= at != fails;
                came.answered = true;
            }
            self.done();
        }
    }

    /// What was not answered before the end of its batch never will be.
    fn ready(&mut self) {
        while self
            .waiting
            .front()
            .is_some_and(|step| !matches!(step.message, "Query" | "Sync" | "StartupMessage" | "FunctionCall"))
        {
            self.done();
        }
        self.answered();
    }
}

/// Of a frame, all values of a field are told before those of the next field: each message takes its own.
fn theirs(corpus: &Path, file: &Path) -> Option<Said> {
    let mut talks: BTreeMap<Stream, Talk> = BTreeMap::new();
    for frame in rows(corpus, "postgresql", file)?.chunk_by(|one, other| one.frame == other.frame) {
        let mut values: BTreeMap<&str, VecDeque<&str>> = BTreeMap::new();
        for Row { field, value, .. } in frame {
            values.entry(field).or_default().push_back(value);
        }
        let talk = talks.entry(frame[0].stream).or_default();
        let from_client = values.get("pgsql.frontend").is_none_or(|sides| sides[0] == "1");
        for kind in values.remove("pgsql.type").unwrap_or_default() {
            let value = |name: &str| {
                values.get_mut(name).and_then(VecDeque::pop_front).unwrap_or_default().to_owned()
            };
            match kind {
                // Describe and Close name a statement or a portal, and it is not told which.
                "Notice" => drop(["pgsql.code", "pgsql.severity", "pgsql.message"].map(value)),
                _ if from_client => talk.hear_client(kind, value),
                _ => talk.hear_server(kind, value),
            }
        }
    }
    let mut said = Said::new();
    for (stream, mut talk) in talks {
        while !talk.waiting.is_empty() {
            talk.done();
        }
        said.insert(stream, talk.told);
    }
    Some(said)
}

fn ours(records: &[Record]) -> Said {
    let mut exchanges: BTreeMap<_, (Stream, [String; 2], Came, BTreeSet<String>)> = BTreeMap::new();
    let is_exchange = |record: &&Record| {
        !matches!(record.kind, Kind::SessionOpen | Kind::SessionClose | Kind::Gap)
            && text(record, names::PROTOCOL_NAME).as_deref() == Some("postgresql")
    };
    for record in records.iter().filter(is_exchange) {
        let (stream, request, came, codes) = exchanges.entry((record.session, record.exchange)).or_default();
        *stream = stream_of(record);
        for (known, name) in request.iter_mut().zip([names::DB_MESSAGE, names::DB_QUERY_TEXT]) {
            *known = text(record, name).unwrap_or(std::mem::take(known));
        }
        let results = match record.fields.get(names::DB_RESULTS) {
            Some(Value::List(results)) => results.iter().flatten().filter_map(as_text).collect(),
            _ => text(record, names::DB_COMMAND_TAG).into_iter().collect::<Vec<_>>(),
        };
        came.tags = if results.is_empty() { std::mem::take(&mut came.tags) } else { results };
        came.code = text(record, names::DB_RESPONSE_STATUS).or(came.code.take());
        if let Some(Value::List(rows)) = record.fields.get(names::DB_ROWS) {
            came.rows += rows.len() as u64;
        }
        came.rows += number(record, names::DB_ROWS_CUT);
        came.copied = came.copied.max(number(record, names::DB_COPY_MESSAGES));
        let outcome = text(record, names::OUTCOME).unwrap_or_default();
        came.answered |= !matches!(outcome.as_str(), "" | "no_response" | "reset");
        came.skipped |= outcome == "error" && came.code.is_none();
        codes.extend(record.anomalies.iter().map(ToString::to_string));
    }
    let mut said = Said::new();
    for (stream, [message, query], came, codes) in exchanges.into_values() {
        let what = if message.is_empty() { NONE.to_owned() } else { what(&message, &query) };
        said.entry(stream).or_default().push(Exchange { codes, ..Exchange::new(what, came.how()) });
    }
    said
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn reason(difference: &Difference<'_>) -> Option<Reason> {
    // Length, number 0, version 10 of its protocol.
    let greeting = |bytes: &Vec<u8>| matches!(bytes[..], [_, _, _, 0, 10, ..]);
    if difference.ours.is_none() && difference.bytes.iter().any(greeting) {
        return Some((Class::TheirsWrong, "a connection of MySQL, which it reads by its port"));
    }
    None
}

#[test]
fn postgresql_captures() {
    let unit = "what the server ran, and what came of it: tags, errors, number of rows and of data of COPY";
    Comparison { folder: "postgresql", unit, theirs, ours, reason }.run();
}
