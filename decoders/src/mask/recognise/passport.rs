//! Passports and identity cards, whose numbers have no check that is printed with them: beside their name alone.

use super::shape::{Recogniser, named};

pub(super) const PASSPORT: Recogniser = Recogniser {
    kind: "passport",
    what: "numbers of passports and identity cards",
    told: "one to three letters with digits; beside its name",
    words: &[
        "passport",
        "passports",
        "passportno",
        "passportnumber",
        "pasaporte",
        "passeport",
        "passaporto",
        "reisepass",
        "personalausweis",
        "ausweis",
        "idcard",
    ],
    shapes: &[
        named("ddddddddd", |_| true),
        named("Addddddd", |_| true),
        named("Adddddddd", |_| true),
        named("AAddddddd", |_| true),
        named("AAAdddddd", |_| true),
        named("AdddAdddd", |_| true),
        named("AXXXXXXXd", |_| true),
    ],
};
