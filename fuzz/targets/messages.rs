//! Any bytes as each message between host and sink, and as a join token: refused, or read and written again as the
//! same.
#![no_main]

use std::str::FromStr;

use custody_ledger::statement::{Enrolment, Signed, Statement};
use custody_ledger::tlog::{InclusionProof, Note, NoteKey, Tile, tile};
use custody_ledger::wire::{
    self, AppendResponse, CommittedResponse, EnrolRequest, EnrolResponse, ErrorResponse, HeadResponse,
    JoinToken,
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
    same::<CommittedResponse>(data);
    same::<ErrorResponse>(data);
    same::<SignedReceipt>(data);
    if let Ok(header) = EntryHeader::decode(data) {
        let again = header.encode().expect("what was read can be written");
        assert_eq!(header, EntryHeader::decode(&again).expect("and read again"));
    }
    drop(Signed::open::<Enrolment>(data));
    drop(Signed::open::<Statement>(data));
    if let Ok(text) = std::str::from_utf8(data) {
        same_text::<JoinToken>(text);
        same_text::<Note>(text);
        same_text::<NoteKey>(text);
        same_text::<InclusionProof>(text);
        assert!(Tile::parse(text).is_none_or(|tile| tile.path() == text), "two paths name one tile");
    }
    let width = data.first().map_or(0, |width| u16::from(*width));
    assert!(tile::entries(data, width).is_none_or(|leaves| leaves.len() == usize::from(width)));
});

fn same_text<T: FromStr + ToString + PartialEq>(text: &str) {
    let Ok(read) = text.parse::<T>() else { return };
    assert!(
        read.to_string().parse().is_ok_and(|again: T| again == read),
        "a text says something else the second time"
    );
}

fn same<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(message) = wire::decode::<T>(data) else { return };
    let once = wire::encode(&message).expect("what was read can be written");
    let again = wire::decode::<T>(&once).expect("what was written can be read");
    assert_eq!(wire::encode(&again).ok(), Some(once), "a message says something else the second time");
}
