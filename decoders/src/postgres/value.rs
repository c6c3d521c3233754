//! Values of columns and parameters: text as it stands, binary formats of the common types.
//!
//! A binary value of any other type, or one whose bytes are not what its type says, stays bytes that nobody
//! understands. Nothing here trusts a count or a length.

use custody_record::Value;

use crate::item::{Class, Field, text};

use super::binary::binary_value;

/// What a value's bytes are.
pub(super) enum Decoded {
    /// Understood.
    Known(Value),
    /// Not understood.
    Opaque(Vec<u8>),
}

impl Decoded {
    /// As a cell of a row.
    pub(super) fn cell(self) -> Value {
        match self {
            Decoded::Known(value) => value,
            Decoded::Opaque(bytes) => Value::Bytes(bytes),
        }
    }
    /// As a field with its class.
    pub(super) fn field(self, name: String, column: &str) -> Field {
        match self {
            Decoded::Known(value) => Field::new(name, value, Class::Value { name: column.to_owned() }),
            Decoded::Opaque(bytes) => Field::new(name, Value::Bytes(bytes), Class::Opaque),
        }
    }
}

/// Reads a value of this type and format.
pub(super) fn decode(type_oid: u32, binary: bool, bytes: &[u8]) -> Decoded {
    if !binary {
        return Decoded::Known(Value::Text(text(bytes)));
    }
    binary_value(type_oid, bytes).map_or_else(|| Decoded::Opaque(bytes.to_vec()), Decoded::Known)
}

/// Bytes that a field holds.
pub(super) fn field_bytes(field: &Field) -> usize {
    size_of::<Field>() + field.name.len() + bytes(&field.value)
}

/// Bytes that a value holds.
pub(super) fn bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(values) => {
            values.iter().map(|value| size_of::<Value>() + value.as_ref().map_or(0, bytes)).sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::moment::DAY_MICROS;
    use super::*;

    fn read(type_oid: u32, bytes: &[u8]) -> Option<Value> {
        match decode(type_oid, true, bytes) {
            Decoded::Known(value) => Some(value),
            Decoded::Opaque(_) => None,
        }
    }
    fn said(text: &str) -> Option<Value> {
        Some(Value::Text(text.to_owned()))
    }

    #[test]
    fn numbers() {
        assert_eq!(read(16, &[1]), Some(Value::Bool(true)));
        assert_eq!(read(21, &(-2i16).to_be_bytes()), Some(Value::Signed(-2)));
        assert_eq!(read(23, &7i32.to_be_bytes()), Some(Value::Signed(7)));
        assert_eq!(read(20, &i64::MIN.to_be_bytes()), Some(Value::Signed(i64::MIN)));
        assert_eq!(read(26, &u32::MAX.to_be_bytes()), Some(Value::Unsigned(u32::MAX.into())));
        assert_eq!(read(701, &1.5f64.to_be_bytes()), Some(Value::Float(1.5)));
        assert_eq!(read(700, &f32::NAN.to_be_bytes()), said("NaN"));
        assert_eq!(read(23, &[1]), None);
        assert_eq!(read(16, &[2]), None);
    }

    #[test]
    fn numerics() {
        let number = |weight: i16, sign: u16, scale: u16, digits: &[u16]| {
            let mut bytes = Vec::new();
            for word in [digits.len() as u16, weight as u16, sign, scale].iter().chain(digits) {
                bytes.extend(word.to_be_bytes());
            }
            read(1700, &bytes)
        };
        assert_eq!(number(0, 0, 0, &[42]), said("42"));
        assert_eq!(number(1, 0x4000, 2, &[1, 2345, 6700]), said("-12345.67"));
        assert_eq!(number(-1, 0, 4, &[12]), said("0.0012"));
        assert_eq!(number(-2, 0, 6, &[1200]), said("0.000012"));
        assert_eq!(number(2, 0, 0, &[1]), said("100000000"));
        assert_eq!(number(0, 0, 2, &[]), said("0.00"));
        assert_eq!(number(0, 0xc000, 0, &[]), said("NaN"));
        assert_eq!(number(0, 0, 0, &[10_000]), None);
        assert_eq!(number(i16::MAX, 0, 0, &[]), None);
        assert_eq!(number(i16::MIN, 0, u16::MAX, &[]), None);
    }

    #[test]
    fn times() {
        assert_eq!(read(1082, &8825i32.to_be_bytes()), said("2024-02-29"));
        assert_eq!(read(1082, &(-1i32).to_be_bytes()), said("1999-12-31"));
        assert_eq!(read(1082, &(-730_485i32).to_be_bytes()), said("0001-01-01 BC"));
        assert_eq!(read(1082, &i32::MAX.to_be_bytes()), said("infinity"));
        assert_eq!(read(1114, &(-1i64).to_be_bytes()), said("1999-12-31 23:59:59.999999"));
        assert_eq!(read(1184, &1_500_000i64.to_be_bytes()), said("2000-01-01 00:00:01.5+00"));
        assert!(read(1114, &(i64::MIN + 1).to_be_bytes()).is_some());
        assert_eq!(read(1083, &DAY_MICROS.to_be_bytes()), said("24:00:00"));
        assert_eq!(read(1083, &(-1i64).to_be_bytes()), None);
        let zoned = [&3_600_000_000i64.to_be_bytes()[..], &(-5400i32).to_be_bytes()].concat();
        assert_eq!(read(1266, &zoned), said("01:00:00+01:30"));
        let span = [&(-1_500_000i64).to_be_bytes()[..], &2i32.to_be_bytes(), &1i32.to_be_bytes()].concat();
        assert_eq!(read(1186, &span), said("P1M2DT-1.500000S"));
        let ever = [&i64::MAX.to_be_bytes()[..], &i32::MAX.to_be_bytes(), &i32::MAX.to_be_bytes()].concat();
        assert_eq!(read(1186, &ever), said("infinity"));
    }

    #[test]
    fn addresses() {
        assert_eq!(read(869, &[2, 32, 0, 4, 10, 0, 0, 9]), said("10.0.0.9"));
        assert_eq!(read(869, &[2, 8, 0, 4, 10, 0, 0, 9]), said("10.0.0.9/8"));
        assert_eq!(read(650, &[2, 32, 1, 4, 10, 0, 0, 9]), said("10.0.0.9/32"));
        let mut six = vec![3, 128, 0, 16];
        six.extend(std::net::Ipv6Addr::LOCALHOST.octets());
        assert_eq!(read(869, &six), said("::1"));
        assert_eq!(read(829, &[8, 0, 0x2b, 1, 2, 3]), said("08:00:2b:01:02:03"));
        assert_eq!(read(774, &[0; 8]), said("00:00:00:00:00:00:00:00"));
        for wrong in
            [&[2, 33, 0, 4, 10, 0, 0, 9][..], &[4, 0, 0, 4, 1, 2, 3, 4], &[2, 8, 0, 4, 10, 0, 0], &[]]
        {
            assert_eq!(read(869, wrong), None);
        }
        assert_eq!(read(829, &[0; 8]), None);
    }

    #[test]
    fn bits_and_places_in_the_log() {
        assert_eq!(read(1560, &[0, 0, 0, 3, 0xa0]), said("101"));
        assert_eq!(read(1562, &[0, 0, 0, 0]), said(""));
        assert_eq!(read(1562, &[0, 0, 0, 9, 0xff]), None);
        assert_eq!(read(1562, &[0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(read(3220, &0x16_b374_d848u64.to_be_bytes()), said("16/B374D848"));
        assert_eq!(read(790, &(-1250i64).to_be_bytes()), Some(Value::Signed(-1250)));
        assert_eq!(read(5069, &7u64.to_be_bytes()), Some(Value::Unsigned(7)));
    }

    fn floats(numbers: &[f64]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
    }

    #[test]
    fn shapes() {
        assert_eq!(read(600, &floats(&[1.5, -2.0])), said("(1.5,-2)"));
        assert_eq!(read(601, &floats(&[0.0, 1.0, 2.0, 3.0])), said("[(0,1),(2,3)]"));
        let path = |closed: u8| [&[closed, 0, 0, 0, 1][..], &floats(&[1e300, 1e-7])].concat();
        assert_eq!(read(602, &path(1)), said("((1e300,1e-7))"));
        assert_eq!(read(602, &path(0)), said("[(1e300,1e-7)]"));
        assert_eq!(read(603, &floats(&[3.0, 4.0, 1.0, 2.0])), said("(3,4),(1,2)"));
        assert_eq!(read(604, &[&[0, 0, 0, 1][..], &floats(&[1.0, 2.0])].concat()), said("((1,2))"));
        assert_eq!(read(628, &floats(&[1.0, -1.0, 0.0])), said("{1,-1,0}"));
        assert_eq!(read(718, &floats(&[0.0, f64::INFINITY, 2.0])), said("<(0,Infinity),2>"));
        assert_eq!(read(604, &[0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(read(602, &[1, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn ranges() {
        let bound = |number: i32| [&4i32.to_be_bytes()[..], &number.to_be_bytes()].concat();
        let range = [&[2][..], &bound(1), &bound(10)].concat();
        assert_eq!(read(3904, &range), said("[1,10)"));
        assert_eq!(read(3904, &[1]), said("empty"));
        assert_eq!(read(3904, &[0x18]), said("(,)"));
        assert_eq!(read(3904, &[&[0x0c][..], &bound(3)].concat()), said("(,3]"));
        let moment = [&[0x12, 0, 0, 0, 8][..], &[0; 8]].concat();
        assert_eq!(read(3908, &moment), said("[\"2000-01-01 00:00:00\",)"));
        let both = [&[0, 0, 0, 1, 0, 0, 0, 17][..], &range].concat();
        assert_eq!(read(4451, &both), said("{[1,10)}"));
        assert_eq!(read(4451, &[0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(read(3904, &[2, 0, 0, 0, 4]), None);
        let of_ranges = array_of(3904, &[1], &[Some(&range)]);
        assert_eq!(read(3905, &of_ranges), Some(Value::List(vec![said("[1,10)")])));
    }

    #[test]
    fn subscripts_that_do_not_begin_at_one_are_told() {
        let mut array = array_of(25, &[3], &[Some(b"a b"), None, Some(b"null")]);
        array[19] = 0;
        assert_eq!(read(1009, &array), said("[0:2]={\"a b\",NULL,\"null\"}"));
    }

    #[test]
    fn text_like() {
        assert_eq!(read(25, "é".as_bytes()), said("é"));
        assert_eq!(read(25, &[0xff]), None);
        assert_eq!(read(3802, b"\x01{}"), said("{}"));
        assert_eq!(read(3802, b"\x02{}"), None);
        assert_eq!(read(2950, &[0x11; 16]), said("11111111-1111-1111-1111-111111111111"));
        assert_eq!(read(600, &[0; 15]), None);
    }

    fn array_of(element: u32, lengths: &[i32], values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((lengths.len() as i32).to_be_bytes());
        bytes.extend(0i32.to_be_bytes());
        bytes.extend(element.to_be_bytes());
        for length in lengths {
            bytes.extend(length.to_be_bytes());
            bytes.extend(1i32.to_be_bytes());
        }
        for value in values {
            bytes.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
            bytes.extend(value.unwrap_or(&[]));
        }
        bytes
    }

    #[test]
    fn arrays() {
        let one = array_of(25, &[2], &[Some(b"a"), None]);
        assert_eq!(read(1009, &one), Some(Value::List(vec![said("a"), None])));
        let two = array_of(16, &[2, 1], &[Some(&[1]), Some(&[0])]);
        let row = |flag| Some(Value::List(vec![Some(Value::Bool(flag))]));
        assert_eq!(read(1000, &two), Some(Value::List(vec![row(true), row(false)])));
        assert_eq!(read(1007, &array_of(23, &[], &[])), Some(Value::List(vec![])));
    }

    #[test]
    fn hostile_counts_of_arrays_reserve_nothing() {
        assert_eq!(read(1009, &array_of(25, &[i32::MAX], &[])), None);
        assert_eq!(read(1009, &array_of(25, &[-1], &[])), None);
        assert_eq!(read(1009, &array_of(25, &[0, i32::MAX], &[])), Some(Value::List(vec![])));
        assert_eq!(read(1009, &array_of(1009, &[1], &[Some(b"")])), None);
        let mut leftover = array_of(25, &[1], &[Some(b"a")]);
        leftover.push(0);
        assert_eq!(read(1009, &leftover), None);
    }
}
