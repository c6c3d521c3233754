//! Values of each kind, and what must not be taken for one. Numbers are published examples, or were made to pass
//! the check by hand; none is known to be anybody's.

use proptest::prelude::*;

use super::*;

/// A finder with the settings that the configuration has when it says nothing.
fn finder() -> Finder {
    Finder::new(&Recognisers::default()).expect("the tables are automata")
}

fn found_by<'a>(finder: &Finder, text: &'a str) -> Vec<(String, &'a str)> {
    let mut spans = Vec::new();
    finder.find(text.as_bytes(), Place::TEXT, &mut spans);
    crate::mask::span::settle(&mut spans);
    spans.into_iter().map(|span| (span.mark.kind.into_owned(), &text[span.start..span.end])).collect()
}

fn found(text: &str) -> Vec<(String, &str)> {
    found_by(&finder(), text)
}

#[test]
fn cards_of_each_issuer_and_layout_are_found() {
    for text in [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "4222222222222",
        "378282246310005",
        "3782 822463 10005",
        "30569309025904",
        "3056 930902 5904",
        "6011111111111117",
        "3530111333300000",
        "5555555555554444",
        "2221000000000009",
        "6200000000000005",
        "6759649826438453",
    ] {
        for around in [text.to_owned(), format!("card:{text}, "), format!("'{text}'"), format!("card_{text}")]
        {
            assert_eq!(found(&around), [("card".to_owned(), text)], "{around}");
        }
    }
    assert_eq!(found("4012888888881881 4012-8888-8888-1881 4012 8888 8888 1881").len(), 3);
}

#[test]
fn numbers_that_are_no_card_are_left() {
    for text in [
        "4111111111111112",
        "1700000000000",
        "0.4111111111111111",
        "4111111111111111.5",
        "a4111111111111111",
        "41111111111111114111111111111111",
        "4111  1111 1111 1111",
        "4111-1111 1111-1111",
        "9111111111111111",
        "550e8400-e29b-41d4-a716-446655440000",
        "2024-01-02 03:04:05.678901",
    ] {
        assert!(found(text).is_empty(), "{text}");
    }
}

#[test]
fn accounts_are_found_by_length_and_check() {
    for text in [
        "DE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "GB82WEST12345698765432",
        "NO9386011117947",
        "fr1420041010050500013m02606",
        "MT84MALT011000012345MTLCAST001S",
    ] {
        assert_eq!(found(&format!("to {text}.")), [("iban".to_owned(), text)]);
    }
    for text in [
        "DE89370400440532013001",
        "DE8937040044053201300",
        "XX89370400440532013000",
        "ADE89370400440532013000",
    ] {
        assert!(found(text).iter().all(|(kind, _)| kind != "iban"), "{text}");
    }
}

/// Kind, values that are found wherever they stand, values that are found beside a name, and texts without one.
type Cases = (&'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str]);

const CASES: &[Cases] = &[
    (
        "phone",
        &[
            "+49 30 1234567",
            "+14155550132",
            "(415) 555-0132",
            "415-555-0132",
            "+44 (20) 7123 4567",
            "+41.44.668.18.00",
        ],
        &["Tel. 030 1234567", "mobile: 09171234567", "phone 0532 123 45 67"],
        &[
            "1234567",
            "+123",
            "2026-03-14",
            "1+4155550132",
            "115-555-0132",
            "+0123456789",
            "+99999999999999999",
        ],
    ),
    (
        "wallet",
        &["1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"],
        &[],
        &["1BoatSLRHtKNngkdXEeobR76b53LETtpyU", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdr"],
    ),
    ("passport", &[], &["passport no. C01X00T47", "Passport: AB1234567"], &["AB1234567", "A12345678"]),
    (
        "us_ssn",
        &["536-22-1234", "536 22 1234"],
        &["SSN 536221234"],
        &[
            "536221234",
            "666-22-1234",
            "000-22-1234",
            "936-22-1234",
            "536-00-1234",
            "536-22-0000",
            "536-22-12345",
        ],
    ),
    ("us_itin", &["911-70-1234"], &["ITIN: 911701234"], &["911-66-1234", "911701234"]),
    ("us_aba", &[], &["routing number 121000358"], &["121000358", "routing number 121000359"]),
    ("us_npi", &[], &["NPI 1234567893"], &["1234567893", "NPI 1234567894"]),
    ("us_mbi", &["1EG4-TE5-MK73", "1EG4TE5MK73"], &[], &["1SG4-TE5-MK73", "0EG4TE5MK73"]),
    ("ca_sin", &["130-692-544"], &["SIN 130692544", "sin: 130 692 544"], &["130-692-545", "130692544"]),
    ("br_cpf", &["529.982.247-25", "52998224725"], &[], &["529.982.247-26", "111.111.111-11"]),
    ("br_cnpj", &["11.222.333/0001-81"], &["CNPJ 11222333000181"], &["11.222.333/0001-82", "11222333000181"]),
    ("mx_curp", &["HEGG560427MVZRRL04"], &[], &["HEGG560427MVZRRL05", "HEGG561327MVZRRL04"]),
    (
        "uk_nhs",
        &["943 476 5919"],
        &["NHS 9434765919", "nhs no 943-476-5919"],
        &["943 476 5918", "9434765919"],
    ),
    ("uk_nino", &["AB123456C", "AB 12 34 56 C"], &[], &["BG123456C", "AB123456E", "QQ123456C"]),
    ("uk_driving_licence", &["MORGA657054SM9IJ"], &[], &["MORGA613054SM9IJ", "99999657054SM9IJ"]),
    ("es_nif", &["12345678Z", "12345678-Z"], &[], &["12345678A"]),
    ("es_nie", &["X1234567L", "X-1234567-L"], &[], &["X1234567A", "W1234567L"]),
    ("it_fiscal_code", &["RSSMRA85T10A562S"], &[], &["RSSMRA85T10A562T", "RSSMRA85F10A562S"]),
    ("it_vat", &[], &["Partita IVA 01333550323"], &["01333550323", "partita iva 01333550324"]),
    ("de_tax_id", &["86095742719", "65 929 970 489"], &[], &["86095742718", "12345678901"]),
    ("de_social_security", &["15070649C103"], &[], &["15070649C104", "15071349C103"]),
    ("de_health_insurance", &[], &["KVNR A123456780"], &["A123456780", "KVNR A123456781"]),
    ("fr_nir", &["255081416802538"], &[], &["255081416802539", "355081416802538"]),
    ("be_national", &["85.07.30-033.28", "85073003328"], &[], &["85.07.30-033.29"]),
    ("ch_ahv", &["756.9217.0769.85", "7569217076985"], &[], &["756.9217.0769.84"]),
    ("nl_bsn", &[], &["BSN 111222333"], &["111222333", "BSN 111222334"]),
    ("pl_pesel", &["44051401458"], &[], &["44051401459", "44151401458"]),
    ("fi_hetu", &["131052-308T", "010594Y9032"], &[], &["131052-308U", "131352-308T"]),
    (
        "se_personnummer",
        &["811228-9874", "19811228-9874", "198112289874"],
        &["personnummer 8112289874", "pnr 200109022392"],
        &["811228-9875", "811328-9874", "200109022392"],
    ),
    ("no_fodselsnummer", &["01129955151"], &[], &["01129955152"]),
    ("tr_national_id", &["10000000146"], &[], &["10000000147", "00000000146"]),
    ("in_aadhaar", &["3123 4567 8909"], &["Aadhaar 312345678909"], &["3123 4567 8908", "312345678909"]),
    ("in_pan", &["ABCPE1234F"], &["PAN ABCDE1234F"], &["ABCDE1234F"]),
    ("in_gstin", &["27AAPFU0939F1ZV"], &[], &["27AAPFU0939F1YV", "00AAPFU0939F1ZV"]),
    ("in_voter", &[], &["voter ABC1234567"], &["ABC1234567"]),
    ("sg_nric", &["S1234567D", "T0000001E", "F1234567N"], &[], &["S1234567A", "A1234567D"]),
    (
        "kr_rrn",
        &["960121-1234567"],
        &["RRN 9601211234567"],
        &["9601211234567", "961321-1234567", "960121-9234567"],
    ),
    (
        "th_national_id",
        &["1-2345-67890-12-1"],
        &["Thai ID 1234567890121"],
        &["1234567890121", "Thai ID 1234567890122"],
    ),
    ("cn_resident_id", &["11010519491231002X"], &[], &["110105194912310021", "11010519491331002X"]),
    (
        "za_id",
        &["800101 5009 087"],
        &["South African ID 8001015009087"],
        &["8001015009087", "800101 5009 088", "801301 5009 087"],
    ),
    ("au_tfn", &[], &["TFN 123 456 782", "tax file number 123456782"], &["123 456 782", "TFN 123 456 783"]),
    ("au_abn", &["51 824 753 556", "51824753556"], &[], &["51 824 753 557"]),
    ("au_acn", &[], &["ACN 004 085 616"], &["004 085 616", "ACN 004 085 617"]),
    ("au_medicare", &["2123 45670 1"], &["Medicare 2123456701"], &["2123 45671 1", "2123456701"]),
];

#[test]
fn each_kind_finds_its_own_and_nothing_else() {
    let finder = finder();
    for (kind, sure, named, never) in CASES {
        for value in *sure {
            for text in
                [(*value).to_owned(), format!("to {value}, and"), format!("'{value}'"), format!("x={value}")]
            {
                assert_eq!(found_by(&finder, &text), [((*kind).to_owned(), *value)], "{kind}: {text}");
            }
        }
        for text in *named {
            let kinds: Vec<_> = found_by(&finder, text).into_iter().map(|(kind, _)| kind).collect();
            assert_eq!(kinds, [(*kind).to_owned()], "{text}");
        }
        for text in *never {
            assert!(found_by(&finder, text).iter().all(|(found, _)| found != kind), "{kind}: {text}");
        }
    }
    for one in table::TABLE.iter().filter(|one| !one.shapes.is_empty() && one.kind != "card") {
        assert!(CASES.iter().any(|(kind, ..)| *kind == one.kind), "no case for {}", one.kind);
    }
}

#[test]
fn the_name_of_a_field_names_what_stands_in_it() {
    for (name, value, kind) in [
        ("ssn", "536221234", "us_ssn"),
        ("customers.NhsNumber", "9434765919", "uk_nhs"),
        ("x-phone-number", "09171234567", "phone"),
        ("routing_no", "121000358", "us_aba"),
    ] {
        let mut spans = Vec::new();
        finder().find(value.as_bytes(), Place::of(name), &mut spans);
        assert_eq!(spans.iter().map(|span| span.mark.kind.as_ref()).collect::<Vec<_>>(), [kind], "{name}");
        spans.clear();
        finder().find(value.as_bytes(), Place::of("order_id"), &mut spans);
        assert!(spans.is_empty(), "{value}: {spans:?}");
    }
}

#[test]
fn addresses_of_hosts_are_found_when_they_are_asked_for() {
    let mut settings = Recognisers::default();
    assert!(settings.set("ip", Setting::Redact) && settings.set("mac", Setting::Redact));
    let finder = Finder::new(&settings).expect("the tables are automata");
    for (kind, value) in [
        ("ip", "192.168.0.1"),
        ("ip", "10.0.0.0/8"),
        ("ip", "2001:db8::1"),
        ("ip", "::1"),
        ("ip", "::ffff:192.0.2.1"),
        ("mac", "00:1a:2b:3c:4d:5e"),
        ("mac", "001a.2b3c.4d5e"),
    ] {
        assert_eq!(found_by(&finder, &format!("from [{value}] to")), [(kind.to_owned(), value)]);
        assert!(found(value).is_empty(), "{value} is looked for by default");
    }
    for text in ["256.1.1.1", "1.2.3", "12:34:56", "std::cout", "2001:db8::zz", "1.2.3.4.5"] {
        assert!(found_by(&finder, text).is_empty(), "{text}");
    }
}

/// Numbers that nobody means anything by, from a fixed seed: of each length so many that a rate can be told.
fn numbers(digits: usize) -> impl Iterator<Item = String> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64 ^ digits as u64;
    (0..20_000).map(move |_| {
        (0..digits)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                char::from(b'0' + (state >> 32) as u8 % 10)
            })
            .collect()
    })
}

#[test]
fn few_random_numbers_are_taken_for_anything() {
    let finder = finder();
    for digits in 4..=20 {
        let mut kinds = std::collections::BTreeMap::<String, u32>::new();
        for number in numbers(digits) {
            for (kind, _) in found_by(&finder, &number) {
                *kinds.entry(kind).or_default() += 1;
            }
        }
        let rates: Vec<String> =
            kinds.iter().map(|(kind, count)| format!("{kind} {:.2}%", f64::from(*count) / 200.0)).collect();
        println!("{digits:2} digits: {}", rates.join(", "));
        for (kind, count) in kinds {
            // A card's check and its issuers' ranges let one in fourteen pass of sixteen digits; of others at most
            // one in fifty.
            let most = if kind == "card" { 20_000 / 12 } else { 20_000 / 50 };
            assert!(count <= most, "{kind}: {count} of 20000 numbers of {digits} digits");
        }
    }
}

#[test]
fn times_are_no_identifiers() {
    let finder = finder();
    for day in 0..4_000u64 {
        let seconds = 1_500_000_000 + day * 86_511;
        for text in [
            seconds.to_string(),
            (seconds * 1000 + 123).to_string(),
            format!("{}", 20_200_101_000_000 + day * 1_000_037 % 10_000_000),
            format!("{}", 202_001_010_000 + day % 1000),
        ] {
            assert_eq!(found_by(&finder, &text), [], "{text}");
        }
    }
}

/// Everything, with or without its name; and the same without cards, which take digits before others can.
static WIDE: std::sync::LazyLock<[Finder; 2]> = std::sync::LazyLock::new(|| {
    let mut settings = Recognisers::all(Setting::Anywhere);
    let all = Finder::new(&settings).expect("the tables are automata");
    settings.set("card", Setting::Off);
    [all, Finder::new(&settings).expect("the tables are automata")]
});

proptest! {
    #[test]
    fn forms_of_any_characters_do_not_panic(text in "[0-9A-Z +().:/-]{0,60}") {
        for finder in WIDE.iter() {
            finder.find(text.as_bytes(), Place::TEXT, &mut Vec::new());
        }
    }
}
