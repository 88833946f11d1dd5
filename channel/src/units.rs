//! Quantities: money, times and the clock.
//!
//! Every number that means money or time is a type with a checked constructor.

use std::fmt;

use bitcoin::Amount;
use thiserror::Error;

/// Millisatoshi in a satoshi.
const MSAT_PER_SAT: u64 = 1_000;

/// A quantity is outside its type's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{value} is not within {least} and {most}")]
pub struct OutOfBounds {
    /// The refused value.
    pub value: u64,
    /// The least value allowed.
    pub least: u64,
    /// The greatest value allowed.
    pub most: u64,
}

/// An amount in satoshi: what is locked, signed and settled.
///
/// At most 999,999,999,999 sat, so that each amount in millisatoshi is an
/// Integer of a structured field (RFC 9651 §3.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sat(u64);

impl Sat {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The greatest amount.
    pub const MAX: Self = Self(999_999_999_999);

    /// Checks that `sat` is an amount.
    ///
    /// # Errors
    /// [`OutOfBounds`] above [`Sat::MAX`].
    pub const fn new(sat: u64) -> Result<Self, OutOfBounds> {
        if sat > Self::MAX.0 {
            return Err(OutOfBounds { value: sat, least: 0, most: Self::MAX.0 });
        }
        Ok(Self(sat))
    }

    /// Makes an amount of `sat`, or of the most that there can be. For constants.
    #[must_use]
    pub const fn saturating(sat: u64) -> Self {
        if sat > Self::MAX.0 { Self::MAX } else { Self(sat) }
    }

    /// Returns the number of satoshi.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the same amount in millisatoshi.
    #[must_use]
    pub const fn to_msat(self) -> Msat {
        Msat(self.0.saturating_mul(MSAT_PER_SAT)) // exact: the bound of `Sat` leaves room
    }

    /// Returns the same amount in the type of transaction outputs.
    #[must_use]
    pub const fn to_amount(self) -> Amount {
        Amount::from_sat(self.0)
    }

    /// Returns the sum, or nothing above [`Sat::MAX`].
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::new(self.0.checked_add(other.0)?).ok()
    }

    /// Returns the difference, or nothing below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

impl TryFrom<Amount> for Sat {
    type Error = OutOfBounds;

    fn try_from(amount: Amount) -> Result<Self, OutOfBounds> {
        Self::new(amount.to_sat())
    }
}

impl fmt::Display for Sat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sat", self.0)
    }
}

/// An amount in millisatoshi: what is priced, charged and credited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Msat(u64);

impl Msat {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The greatest amount: [`Sat::MAX`] in millisatoshi.
    pub const MAX: Self = Sat::MAX.to_msat();
    /// The least that can be charged.
    pub const ONE: Self = Self(1);

    /// Checks that `msat` is an amount.
    ///
    /// # Errors
    /// [`OutOfBounds`] above [`Msat::MAX`].
    pub const fn new(msat: u64) -> Result<Self, OutOfBounds> {
        if msat > Self::MAX.0 {
            return Err(OutOfBounds { value: msat, least: 0, most: Self::MAX.0 });
        }
        Ok(Self(msat))
    }

    /// Returns the number of millisatoshi.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the least whole amount in satoshi that covers this one.
    #[must_use]
    pub const fn to_sat_ceil(self) -> Sat {
        Sat(self.0.div_ceil(MSAT_PER_SAT))
    }

    /// Returns the greatest whole amount in satoshi that this one covers.
    #[must_use]
    pub fn to_sat_floor(self) -> Sat {
        self.0.checked_div(MSAT_PER_SAT).map_or(Sat::ZERO, Sat)
    }

    /// Returns the sum, or nothing above [`Msat::MAX`].
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::new(self.0.checked_add(other.0)?).ok()
    }

    /// Returns the difference, or nothing below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

impl fmt::Display for Msat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} msat", self.0)
    }
}

/// A span of time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(u32);

impl Seconds {
    /// Makes a span of `seconds`.
    #[must_use]
    pub const fn new(seconds: u32) -> Self {
        Self(seconds)
    }

    /// Returns the number of seconds.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// A point in time: seconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Makes the point in time `seconds` after the epoch.
    #[must_use]
    pub const fn new(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Returns the seconds since the epoch.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the time `span` later.
    #[must_use]
    pub const fn after(self, span: Seconds) -> Self {
        Self(self.0.saturating_add(span.0 as u64))
    }

    /// Returns how far apart two points in time are, in seconds.
    #[must_use]
    pub const fn distance(self, other: Self) -> u64 {
        self.0.abs_diff(other.0)
    }
}

/// The expiry T of a channel: a time of the chain, never a height (`BIP-0065`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry(u32);

impl Expiry {
    /// The least lock time that is a time.
    pub const MIN: Self = Self(500_000_000);
    /// The greatest that is a script number of four bytes.
    pub const MAX: Self = Self(2_147_483_647);

    /// Checks that `seconds` since the epoch can be an expiry.
    ///
    /// # Errors
    /// [`OutOfBounds`] outside 500,000,000 and 2^31 − 1.
    pub fn new(seconds: u64) -> Result<Self, OutOfBounds> {
        let (least, most) = (u64::from(Self::MIN.0), u64::from(Self::MAX.0));
        let refused = OutOfBounds { value: seconds, least, most };
        let expiry = u32::try_from(seconds).map(Self).map_err(|_| refused)?;
        if (Self::MIN..=Self::MAX).contains(&expiry) { Ok(expiry) } else { Err(refused) }
    }

    /// Returns the seconds since the epoch.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the expiry as a point in time.
    #[must_use]
    pub const fn timestamp(self) -> Timestamp {
        Timestamp(self.0 as u64)
    }

    /// Returns the time `span` before the expiry.
    #[must_use]
    pub const fn before(self, span: Seconds) -> Timestamp {
        Timestamp((self.0 as u64).saturating_sub(span.0 as u64))
    }

    /// Tells whether a refund can be mined: the median time past is beyond T, strictly (`BIP-0113`).
    #[must_use]
    pub const fn is_refundable(self, clock: Clock) -> bool {
        clock.median_time_past.0 > self.0 as u64
    }
}

/// The two clocks of a channel's peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The chain's time at its tip (`BIP-0113`).
    pub median_time_past: Timestamp,
    /// The machine's own time.
    pub wall: Timestamp,
}

impl Clock {
    /// Returns the later of the two: what stopping, settling and lifetimes are measured by.
    #[must_use]
    pub fn now(self) -> Timestamp {
        self.median_time_past.max(self.wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_beyond_a_structured_field_integer_is_refused() {
        assert_eq!(Sat::new(999_999_999_999), Ok(Sat::MAX));
        assert!(Sat::new(1_000_000_000_000).is_err());
        assert_eq!(Msat::MAX.get(), 999_999_999_999_000);
        assert!(Msat::new(Msat::MAX.get() + 1).is_err());
        assert_eq!(Sat::MAX.checked_add(Sat(1)), None);
        assert_eq!(Sat::ZERO.checked_sub(Sat(1)), None);
    }

    #[test]
    fn a_part_of_a_satoshi_is_covered_by_a_whole_one() {
        assert_eq!(Msat(0).to_sat_ceil(), Sat(0));
        assert_eq!(Msat(1).to_sat_ceil(), Sat(1));
        assert_eq!(Msat(1_000).to_sat_ceil(), Sat(1));
        assert_eq!(Msat(1_001).to_sat_ceil(), Sat(2));
        assert_eq!([999, 1_000, 1_999].map(|msat| Msat(msat).to_sat_floor().get()), [0, 1, 1]);
    }

    #[test]
    fn an_expiry_is_a_time_of_four_script_bytes() {
        assert!(Expiry::new(499_999_999).is_err());
        assert!(Expiry::new(500_000_000).is_ok());
        assert!(Expiry::new(2_147_483_647).is_ok());
        assert!(Expiry::new(2_147_483_648).is_err());
        assert!(Expiry::new(u64::MAX).is_err());
    }

    #[test]
    fn a_refund_needs_the_median_time_past_the_expiry_strictly() {
        let expiry = Expiry::new(1_700_000_000).unwrap();
        let at = |mtp| Clock { median_time_past: Timestamp(mtp), wall: Timestamp(u64::MAX) };
        assert!(!expiry.is_refundable(at(1_700_000_000)));
        assert!(expiry.is_refundable(at(1_700_000_001)));
    }
}
