//! Arrays out of their binary format: lists, nested by their dimensions. Nothing here trusts a count.

use custody_record::Value;

use super::binary::{self, binary_value, word};

/// Dimensions of an array (`MAXDIM` of the server).
const DIMENSIONS_MAX: usize = 6;

/// Array types of the catalogue (`pg_type.dat`) whose elements are read.
const ARRAYS: &[u32] = &[
    143, 199, 271, 629, 651, 719, 775, 791, 1000, 1001, 1002, 1003, 1005, 1007, 1008, 1009, 1011, 1012, 1014,
    1015, 1016, 1017, 1018, 1019, 1020, 1021, 1022, 1027, 1028, 1040, 1041, 1115, 1182, 1183, 1185, 1187,
    1231, 1263, 1270, 1561, 1563, 2201, 2210, 2211, 2951, 3221, 3807, 3905, 3907, 3909, 3911, 3913, 3927,
    4073, 6150, 6151, 6152, 6153, 6155, 6157,
];

pub(super) fn is_array(type_oid: u32) -> bool {
    ARRAYS.contains(&type_oid)
}

/// A list; one whose subscripts do not begin at 1 is text as PostgreSQL writes it, for a list has no place for
/// them.
pub(super) fn array(bytes: &[u8]) -> Option<Value> {
    let mut left = bytes;
    let dimensions = usize::try_from(word(&mut left)?).ok().filter(|count| *count <= DIMENSIONS_MAX)?;
    let _has_nulls = word(&mut left)?;
    let element = word(&mut left)? as u32;
    let mut lengths = [0usize; DIMENSIONS_MAX];
    let mut bounds = String::new();
    let mut usual = true;
    for length in &mut lengths[..dimensions] {
        *length = usize::try_from(word(&mut left)?).ok()?;
        let lower = i64::from(word(&mut left)?);
        usual &= lower == 1;
        bounds.push_str(&format!("[{lower}:{}]", lower + *length as i64 - 1));
    }
    let found =
        if dimensions == 0 { Vec::new() } else { elements(&mut left, element, &lengths[..dimensions])? };
    if !left.is_empty() {
        return None;
    }
    Some(if usual { Value::List(found) } else { Value::Text(format!("{bounds}={}", as_text(&found))) })
}

/// One dimension. Each element takes four bytes at least, so a hostile count ends with the bytes.
fn elements(left: &mut &[u8], element: u32, lengths: &[usize]) -> Option<Vec<Option<Value>>> {
    let (&length, inner) = lengths.split_first()?;
    if length > left.len() / 4 {
        return None;
    }
    let mut found = Vec::with_capacity(length);
    for _ in 0..length {
        if !inner.is_empty() {
            found.push(Some(Value::List(elements(left, element, inner)?)));
            continue;
        }
        let Ok(size) = usize::try_from(word(left)?) else {
            found.push(None);
            continue;
        };
        let (value, after) = left.split_at_checked(size)?;
        *left = after;
        // Arrays of arrays do not exist, their dimensions do.
        found.push(Some(if is_array(element) { None } else { binary_value(element, value) }?));
    }
    Some(found)
}

/// `{1,NULL,"a b"}`.
pub(super) fn as_text(elements: &[Option<Value>]) -> String {
    let written: Vec<String> = elements
        .iter()
        .map(|element| match element {
            None => "NULL".to_owned(),
            Some(Value::List(inner)) => as_text(inner),
            Some(value) => {
                let text = binary::as_text(value);
                let like_null = text.eq_ignore_ascii_case("null");
                if like_null { format!("\"{text}\"") } else { binary::quoted(&text, &['{', '}']) }
            }
        })
        .collect();
    format!("{{{}}}", written.join(","))
}
