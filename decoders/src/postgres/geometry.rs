//! Points and what is made of them, as the text that PostgreSQL writes.

use super::binary::{float_text, word};

/// A shape: point, lseg, path, box, polygon, line or circle.
pub(super) fn shape(type_oid: u32, bytes: &[u8]) -> Option<String> {
    Some(match type_oid {
        600 => points(bytes, 1)?,
        601 => format!("[{}]", points(bytes, 2)?),
        602 => {
            let (closed, mut left) = bytes.split_first()?;
            let count = usize::try_from(word(&mut left)?).ok()?;
            let points = points(left, count)?;
            if *closed != 0 { format!("({points})") } else { format!("[{points}]") }
        }
        603 => points(bytes, 2)?,
        604 => {
            let mut left = bytes;
            let count = usize::try_from(word(&mut left)?).ok()?;
            format!("({})", points(left, count)?)
        }
        628 => format!("{{{}}}", numbers(bytes, 3)?.join(",")),
        718 => {
            let [x, y, radius] = <[String; 3]>::try_from(numbers(bytes, 3)?).ok()?;
            format!("<({x},{y}),{radius}>")
        }
        _ => return None,
    })
}

fn points(bytes: &[u8], count: usize) -> Option<String> {
    let numbers = numbers(bytes, count.checked_mul(2)?)?;
    let points: Vec<String> = numbers.chunks_exact(2).map(|point| format!("({})", point.join(","))).collect();
    Some(points.join(","))
}

/// So many numbers and nothing else.
fn numbers(bytes: &[u8], count: usize) -> Option<Vec<String>> {
    let (numbers, rest) = bytes.as_chunks::<8>();
    let whole = rest.is_empty() && numbers.len() == count;
    whole.then(|| numbers.iter().map(|number| float_text(f64::from_be_bytes(*number))).collect())
}
