//! Any bytes as each message between host and sink, and as a join token: refused, or read and written again as the
//! same.
#![no_main]

use custody_ledger::statement::{Enrolment, Signed, Statement};
use custody_ledger::wire::{
    self, AppendResponse, EnrolRequest, EnrolResponse, ErrorResponse, HeadResponse, JoinToken,
};
use custody_ledger::{EntryHeader, SignedReceipt};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| {
    same::<EnrolRequest>(data);
    same::<EnrolResponse>(data);
    same::<AppendResponse>(data);
    same::<HeadResponse>(data);
    same::<ErrorResponse>(data);
    same::<SignedReceipt>(data);
    if let Ok(header) = EntryHeader::decode(data) {
        let again = header.encode().expect("what was read can be written");
        assert_eq!(header, EntryHeader::decode(&again).expect("and read again"));
    }
    drop(Signed::open::<Enrolment>(data));
    drop(Signed::open::<Statement>(data));
    if let Some(token) = std::str::from_utf8(data).ok().and_then(|text| text.parse::<JoinToken>().ok()) {
        assert!(token.to_string().parse() == Ok(token), "a join token says something else the second time");
    }
});

fn same<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(message) = wire::decode::<T>(data) else { return };
    let once = wire::encode(&message).expect("what was read can be written");
    let again = wire::decode::<T>(&once).expect("what was written can be read");
    assert_eq!(wire::encode(&again).ok(), Some(once), "a message says something else the second time");
}
