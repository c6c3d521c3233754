//! Conversations through the decoder by a small driver: what is asked, what is answered, what is told.

use std::collections::BTreeMap;

use custody_record::Value;

use crate::item::{Class, Field, Rows};
use crate::protocol::*;

use super::Postgres;

mod connections;
mod copy;
mod extended;
mod hostile;
mod loss;
mod query;
mod session;

/// One exchange, joined.
#[derive(Clone, Debug, Default)]
struct Exchange {
    fields: BTreeMap<String, (Value, Class)>,
    rows: Vec<Rows>,
    outcome: Option<Outcome>,
    anomalies: Vec<&'static str>,
}

impl Exchange {
    fn text(&self, name: &str) -> &str {
        match self.fields.get(name) {
            Some((Value::Text(text), _)) => text,
            _ => "",
        }
    }
    fn number(&self, name: &str) -> Option<u64> {
        match self.fields.get(name) {
            Some((Value::Unsigned(number), _)) => Some(*number),
            _ => None,
        }
    }
    fn class(&self, name: &str) -> &Class {
        &self.fields[name].1
    }
}

/// All that was told.
#[derive(Default)]
struct Told {
    exchanges: BTreeMap<ExchangeId, Exchange>,
    session: BTreeMap<String, Value>,
    anomalies: Vec<&'static str>,
    tls: bool,
    unknown: bool,
    goes_by: Vec<Vec<u8>>,
    names_other: Vec<(ExchangeId, Vec<u8>)>,
}

impl Out for Told {
    fn request(&mut self, id: ExchangeId, _time_ns: u64, fields: Vec<Field>) {
        assert!(self.exchanges.insert(id, Exchange::default()).is_none(), "exchange {id} began twice");
        assert_eq!(self.exchanges.len() as u64, id, "exchanges are counted from 1 without holes");
        self.fields(id, fields);
    }
    fn fields(&mut self, id: ExchangeId, fields: Vec<Field>) {
        let exchange = self.exchanges.get_mut(&id).expect("began");
        assert!(exchange.outcome.is_none(), "exchange {id} goes on after its end");
        for field in fields {
            let value = match (exchange.fields.get(&*field.name), &field.class, field.value) {
                // Pieces of a body are joined.
                (Some((Value::Text(before), _)), Class::Body { .. }, Value::Text(more)) => {
                    Value::Text(format!("{before}{more}"))
                }
                (_, _, value) => value,
            };
            exchange.fields.insert(field.name.into_owned(), (value, field.class));
        }
    }
    fn rows(&mut self, id: ExchangeId, rows: Rows) {
        self.exchanges.get_mut(&id).expect("began").rows.push(rows);
    }
    fn response(&mut self, id: ExchangeId, _time_ns: u64, outcome: Outcome, fields: Vec<Field>) {
        self.fields(id, fields);
        self.exchanges.get_mut(&id).expect("began").outcome = Some(outcome);
    }
    fn session(&mut self, fields: Vec<Field>) {
        self.session.extend(fields.into_iter().map(|field| (field.name.into_owned(), field.value)));
    }
    fn anomaly(&mut self, id: Option<ExchangeId>, code: &'static str) {
        match id {
            // An answer whose request was not seen begins so.
            Some(id) => self.exchanges.entry(id).or_default().anomalies.push(code),
            None => self.anomalies.push(code),
        }
    }
    fn goes_by(&mut self, secret: &[u8]) {
        self.goes_by.push(secret.to_vec());
    }
    fn names_other(&mut self, id: ExchangeId, secret: &[u8], field: &'static str) {
        assert_eq!(field, "db.postgresql.cancels_session");
        self.names_other.push((id, secret.to_vec()));
    }
    fn switch_tls(&mut self) {
        self.tls = true;
    }
    fn switch_probed(&mut self) {}
    fn switch_unknown(&mut self) {
        self.unknown = true;
    }
}

/// A connection and what it told.
struct Talk {
    decoder: Box<dyn Decoder>,
    told: Told,
    time_ns: u64,
}

impl Talk {
    fn new() -> Self {
        Self::with(Limits::default(), false)
    }
    fn joined() -> Self {
        Self::with(Limits::default(), true)
    }
    fn with(limits: Limits, middle: bool) -> Self {
        Talk { decoder: Postgres.open(&limits, middle), told: Told::default(), time_ns: 0 }
    }
    /// Bytes that frame whole, in one direction.
    #[track_caller]
    fn say(&mut self, direction: Direction, mut bytes: &[u8]) -> &mut Self {
        while !bytes.is_empty() {
            self.time_ns += 1;
            let time_ns = self.time_ns;
            let (head, body) = match self.decoder.framing(direction, bytes) {
                Framing::Frame(length) => (length, 0),
                Framing::Streamed { head, body } => (head, body as usize),
                other => panic!("{other:?} at {bytes:?}"),
            };
            let (frame, after) = bytes.split_at(head);
            let frame = Frame { direction, position: 0, time_ns, bytes: frame };
            self.decoder.on_frame(frame, 0, &mut self.told);
            if matches!(self.decoder.framing(direction, bytes), Framing::Streamed { .. }) {
                let body = Body { direction, time_ns, bytes: &after[..body], last: true };
                self.decoder.on_body(body, &mut self.told);
            }
            bytes = &after[body..];
        }
        self
    }
    #[track_caller]
    fn up(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.say(Direction::Up, bytes.as_ref())
    }
    #[track_caller]
    fn down(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.say(Direction::Down, bytes.as_ref())
    }
    fn gap(&mut self, direction: Direction) -> &mut Self {
        self.decoder.on_gap(direction, 100, &mut self.told);
        self
    }
    fn end(&mut self) -> &Told {
        self.decoder.on_end(Direction::Up, &mut self.told);
        self.decoder.on_end(Direction::Down, &mut self.told);
        &self.told
    }
    fn exchange(&self, id: ExchangeId) -> &Exchange {
        &self.told.exchanges[&id]
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}
fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}
fn parse(name: &str, text: &str, types: &[u32]) -> Vec<u8> {
    let mut body = format!("{name}\0{text}\0").into_bytes();
    body.extend((types.len() as u16).to_be_bytes());
    types.iter().for_each(|oid| body.extend(oid.to_be_bytes()));
    message(b'P', &body)
}
fn cells(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        body.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
        body.extend(value.unwrap_or(&[]));
    }
    body
}
fn bind(portal: &str, statement: &str, format: u8, values: &[Option<&[u8]>], result_format: u8) -> Vec<u8> {
    let mut body = format!("{portal}\0{statement}\0").into_bytes();
    body.extend([0, 1, 0, format]);
    body.extend(cells(values));
    body.extend([0, 1, 0, result_format]);
    message(b'B', &body)
}
fn execute(portal: &str) -> Vec<u8> {
    message(b'E', format!("{portal}\0\0\0\0\0").as_bytes())
}
fn describe(target: char, name: &str) -> Vec<u8> {
    message(b'D', format!("{target}{name}\0").as_bytes())
}
fn sync() -> Vec<u8> {
    message(b'S', b"")
}
fn columns(columns: &[(&str, u32, u16)]) -> Vec<u8> {
    let mut body = (columns.len() as u16).to_be_bytes().to_vec();
    for (name, oid, format) in columns {
        body.extend(format!("{name}\0").as_bytes());
        body.extend([0; 6]);
        body.extend(oid.to_be_bytes());
        body.extend([0; 6]);
        body.extend(format.to_be_bytes());
    }
    message(b'T', &body)
}
fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    message(b'D', &cells(values))
}
fn complete(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}
fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}
fn error(state: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{state}\0M{text}\0\0").as_bytes())
}
fn bare(kind: u8) -> Vec<u8> {
    message(kind, b"")
}
fn startup(code: u32, rest: &[u8]) -> Vec<u8> {
    [&(rest.len() as u32 + 8).to_be_bytes()[..], &code.to_be_bytes(), rest].concat()
}
fn authentication(kind: u32, rest: &[u8]) -> Vec<u8> {
    message(b'R', &[&kind.to_be_bytes()[..], rest].concat())
}

fn text_cell(text: &str) -> Option<Value> {
    Some(Value::Text(text.to_owned()))
}
