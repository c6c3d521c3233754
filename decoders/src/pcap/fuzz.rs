//! The fuzz body of capture files: any bytes as a file, in pieces.

use super::{Capture, CaptureOptions};

/// Must not panic, must hold no more than it may, and must not depend on how the file comes.
pub fn body(data: &[u8]) {
    let whole = tell(data, usize::MAX);
    let pieces = tell(data, 1 + data.first().copied().map_or(0, usize::from));
    assert_eq!(whole, pieces, "the pieces in which a file comes change what it says");
}

fn tell(data: &[u8], piece: usize) -> Vec<String> {
    let mut capture = Capture::new(CaptureOptions { connections_max: 16, held_bytes_max: 1 << 16 });
    let mut told = Vec::new();
    let mut damage = None;
    for piece in data.chunks(piece.min(data.len()).max(1)) {
        let pushed =
            capture.push(piece, &mut |event: crate::event::Event<'_>| told.push(format!("{event:?}")));
        assert!(capture.connections_held() <= 16 && capture.held_bytes() <= (1 << 16) + (4 << 20) + 40_000);
        damage = pushed.err();
        if damage.is_some() {
            break;
        }
    }
    let finished = capture.finish(&mut |event: crate::event::Event<'_>| told.push(format!("{event:?}")));
    assert!(damage.is_none() || finished.is_err());
    told.push(format!("{finished:?} {:?}", capture.counts().segments));
    told
}
