//! Bytes of a ring → events of the ABI. Faces the kernel: what has another size or kind than agreed is no
//! event, and is counted by the caller; nothing else is judged here.

use custody_abi::{
    Data, Exec, Exit, Fork, Gap, Header, SocketClose, SocketOpen, TlsBind, TlsClose, TlsSettle, kind,
};

/// One event, with the bytes that follow its fixed part.
#[derive(Clone, Copy, Debug)]
pub enum Parsed<'a> {
    /// Payload.
    Data(Data, &'a [u8]),
    /// First sight of a socket.
    SocketOpen(SocketOpen),
    /// A socket is gone.
    SocketClose(SocketClose),
    /// Missing bytes.
    Gap(Gap),
    /// A program started; its strings.
    Exec(Exec, &'a [u8]),
    /// A process was made.
    Fork(Fork),
    /// A process ended.
    Exit(Exit),
    /// A TLS object belongs to a socket.
    TlsBind(TlsBind),
    /// A tentative write ended.
    TlsSettle(TlsSettle),
    /// A TLS object is gone.
    TlsClose(TlsClose),
}

/// Structs that are read from bytes of a ring.
///
/// # Safety
/// Sound for any bytes: integers and arrays of them, without implicit padding (`custody_abi` asserts sizes).
#[expect(unsafe_code, reason = "promise about layout, see the trait's text")]
unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($name:ident)+) => {$(
        #[expect(unsafe_code, reason = "see the trait")]
        // SAFETY: `#[repr(C)]`, fixed-width integers only, explicit padding.
        unsafe impl Plain for $name {}
    )+};
}
plain!(Header Data SocketOpen SocketClose Gap Exec Fork Exit TlsBind TlsSettle TlsClose);

fn read<T: Plain>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (head, rest) = bytes.split_at_checked(size_of::<T>())?;
    #[expect(unsafe_code, reason = "the ring's bytes have no Rust type yet")]
    // SAFETY: `head` has the size of `T`, any bytes are a valid `T`, and alignment is not relied on.
    let value = unsafe { head.as_ptr().cast::<T>().read_unaligned() };
    Some((value, rest))
}

/// The header of an event.
pub fn header(bytes: &[u8]) -> Option<Header> {
    read(bytes).map(|(header, _)| header)
}

/// One record of a ring. Ring records may be longer than their event (size classes): `len` says what counts.
pub fn parse(bytes: &[u8]) -> Option<Parsed<'_>> {
    let header = header(bytes)?;
    let len = header.len as usize;
    Some(match header.kind {
        kind::DATA => {
            let (event, rest) = read(bytes)?;
            Parsed::Data(event, rest.get(..len)?)
        }
        kind::EXEC => {
            let (event, rest) = read(bytes)?;
            Parsed::Exec(event, rest.get(..len)?)
        }
        kind::SOCKET_OPEN => Parsed::SocketOpen(read(bytes)?.0),
        kind::SOCKET_CLOSE => Parsed::SocketClose(read(bytes)?.0),
        kind::GAP => Parsed::Gap(read(bytes)?.0),
        kind::FORK => Parsed::Fork(read(bytes)?.0),
        kind::EXIT => Parsed::Exit(read(bytes)?.0),
        kind::TLS_BIND => Parsed::TlsBind(read(bytes)?.0),
        kind::TLS_SETTLE => Parsed::TlsSettle(read(bytes)?.0),
        kind::TLS_CLOSE => Parsed::TlsClose(read(bytes)?.0),
        _ => return None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The bytes that the kernel would write.
    pub(crate) fn bytes_of<T: Copy>(event: &T, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; size_of::<T>()];
        #[expect(unsafe_code, reason = "the test plays the kernel")]
        // SAFETY: the buffer has the event's size; events are plain data without padding.
        unsafe {
            bytes.as_mut_ptr().cast::<T>().write_unaligned(*event);
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_record_of_a_size_class_gives_only_the_bytes_that_count() {
        let data =
            Data { header: Header { kind: kind::DATA, len: 3, ..Header::default() }, ..Data::default() };
        let bytes = bytes_of(&data, b"abc-stale");
        assert!(matches!(parse(&bytes), Some(Parsed::Data(_, b"abc"))));
    }

    #[test]
    fn a_length_beyond_the_record_is_no_event() {
        let data =
            Data { header: Header { kind: kind::DATA, len: 4, ..Header::default() }, ..Data::default() };
        assert!(parse(&bytes_of(&data, b"abc")).is_none());
        assert!(parse(&bytes_of(&data, b"")[..40]).is_none());
        assert!(parse(b"").is_none());
    }
}
