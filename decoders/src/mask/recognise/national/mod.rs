//! Identifiers that states, health services and tax offices give to people, one file per continent: their
//! form, and the check that tells them from other numbers. Sources stand beside each.

mod america;
mod asia;
mod europe;
mod oceania;

use super::shape::Recogniser;

/// All of them.
pub(super) const ALL: [&[Recogniser]; 4] = [america::ALL, europe::ALL, asia::ALL, oceania::ALL];
