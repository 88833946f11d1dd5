//! Budgets: the most that may be signed for over all runs, since a gateway can take what is signed.

use farebox_channel::{Msat, Sat};

use crate::error::{Limit, PayError};

/// The most that may be signed for. What is not set is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Budgets {
    /// For one server.
    pub(crate) host: Option<Msat>,
    /// On one day (UTC).
    pub(crate) day: Option<Msat>,
    /// In all.
    pub(crate) total: Option<Msat>,
}

/// What is signed for by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signed {
    /// For this server.
    pub(crate) host: Sat,
    /// On this day.
    pub(crate) day: Sat,
    /// In all.
    pub(crate) total: Sat,
}

impl Budgets {
    /// Tells whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks what would be signed for. Of several budgets that it is beyond, the error names the one
    /// that it is furthest beyond.
    pub(crate) fn check(&self, signed: Signed) -> Result<(), Limit> {
        let limits = [
            (self.host, signed.host, Limit::host as fn(Msat, Msat) -> Limit),
            (self.day, signed.day, Limit::day),
            (self.total, signed.total, Limit::total),
        ];
        let broken = limits.into_iter().filter_map(|(most, asked, limit)| {
            let limit = limit(asked.to_msat(), most?);
            Some((limit.beyond()?, limit))
        });
        broken.max_by_key(|(beyond, _)| *beyond).map_or(Ok(()), |(_, limit)| Err(limit))
    }
}

impl Signed {
    /// Returns what it would be with so much more.
    pub(crate) fn and(self, more: Sat) -> Self {
        let and = |sum: Sat| sum.checked_add(more).unwrap_or(Sat::MAX);
        Self { host: and(self.host), day: and(self.day), total: and(self.total) }
    }
}

impl Limit {
    const fn host(asked: Msat, most: Msat) -> Self {
        Self::Host { asked, most }
    }

    const fn day(asked: Msat, most: Msat) -> Self {
        Self::Day { asked, most }
    }

    const fn total(asked: Msat, most: Msat) -> Self {
        Self::Total { asked, most }
    }

    /// Returns by how much a budget is broken, if this is one.
    fn beyond(&self) -> Option<Msat> {
        match self {
            Self::Host { asked, most }
            | Self::Day { asked, most }
            | Self::Total { asked, most } => {
                asked.checked_sub(*most).filter(|beyond| *beyond > Msat::ZERO)
            }
            Self::Price { .. }
            | Self::FirstPayment { .. }
            | Self::Capacity { .. }
            | Self::Lifetime { .. }
            | Self::Openings(_)
            | Self::Answer(_)
            | Self::Channel(_) => None,
        }
    }
}

/// Signs with so much ahead as is `wished`, or with as much less as the budgets need.
pub(crate) fn as_far_as_budgets_go<T>(
    wished: Msat,
    sign: impl Fn(Msat) -> Result<T, PayError>,
) -> Result<T, PayError> {
    let (limit, beyond) = match sign(wished) {
        Err(PayError::Limit(limit)) => match limit.beyond() {
            Some(beyond) => (limit, beyond),
            None => return Err(limit.into()),
        },
        signed => return signed,
    };
    match sign(wished.checked_sub(beyond).unwrap_or_default()) {
        // Where nothing is left of the wish, it is the budget that does not allow it.
        Err(PayError::Limit(other)) if other.beyond().is_none() => Err(limit.into()),
        signed => signed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sat(sat: u64) -> Sat {
        Sat::new(sat).unwrap()
    }

    #[test]
    fn the_budget_that_is_broken_most_is_named_and_none_breaks_at_its_last_satoshi() {
        let most = |sat_most| Some(sat(sat_most).to_msat());
        let budgets = Budgets { host: most(10), day: most(20), total: most(30) };
        let signed =
            |host, day, total| Signed { host: sat(host), day: sat(day), total: sat(total) };

        assert_eq!(budgets.check(signed(10, 20, 30)), Ok(()));
        let msat = |amount| sat(amount).to_msat();
        let day = Limit::Day { asked: msat(24), most: msat(20) };
        assert_eq!(budgets.check(signed(11, 24, 33)), Err(day));
        assert_eq!(Budgets::default().check(signed(11, 24, 33)), Ok(()));
        let total = Limit::Total { asked: msat(31), most: msat(30) };
        assert_eq!(budgets.check(signed(9, 19, 30).and(sat(1))), Err(total));
    }

    #[test]
    fn less_is_paid_ahead_where_the_budgets_do_not_allow_the_whole_wish() {
        let limit = |asked: u64| Limit::Total {
            asked: Msat::new(asked).unwrap(),
            most: Msat::new(1_000).unwrap(),
        };
        let signs = |signed: u64| {
            move |wished: Msat| match signed + wished.get() {
                _ if wished == Msat::ZERO => Err(PayError::Limit(Limit::Answer(Msat::ZERO))),
                asked if asked > 1_000 => Err(PayError::Limit(limit(asked))),
                asked => Ok(asked),
            }
        };
        let wished = Msat::new(400).unwrap();

        assert_eq!(as_far_as_budgets_go(wished, signs(500)).unwrap(), 900);
        assert_eq!(as_far_as_budgets_go(wished, signs(900)).unwrap(), 1_000);
        let none = as_far_as_budgets_go(wished, signs(1_000)).unwrap_err();
        assert!(matches!(none, PayError::Limit(broken) if broken == limit(1_400)), "{none}");
    }
}
