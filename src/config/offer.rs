//! What is offered, when channels are settled, and what that costs.

use bitcoin::FeeRate;
use farebox_channel::gateway::{Settling, Unconfirmed};
use farebox_channel::{DUST_MAX, Kind, Sat, Seconds};

use super::raw::{self, Raw};
use super::{Checker, ConfigError, FeeConfig, OfferConfig};

/// The greatest number of confirmations that can be asked for.
const CONFIRMATIONS_MAX: u32 = 100;
/// The least capacity that can be offered.
const CAPACITY_MIN: Sat = Sat::saturating(1_000);
/// The greatest fee rate that can be configured, in sat/vB.
const FEE_RATE_MAX: u32 = 10_000;

impl Checker<'_> {
    pub(super) fn offer(&self, raw: &Raw) -> Result<OfferConfig, ConfigError> {
        let settling = self.settling(raw)?;
        let raw = &raw.offer;
        let kinds = raw.kinds.iter().map(|kind| self.checked("offer.kinds", kind.parse()));
        let kinds = kinds.collect::<Result<Vec<Kind>, _>>()?;
        if kinds.is_empty() {
            return Err(self.refuse("offer.kinds", "at least one of \"refund\" and \"cltv\""));
        }
        let sat = |key, amount| self.checked(key, Sat::new(amount));
        let least = sat("offer.capacity_min_sat", raw.capacity_min_sat)?;
        let most = sat("offer.capacity_max_sat", raw.capacity_max_sat)?;
        if least > most || least < CAPACITY_MIN {
            let allowed = format!("{} to `offer.capacity_max_sat`", CAPACITY_MIN.get());
            return Err(self.refuse("offer.capacity_min_sat", allowed));
        }
        if raw.lifetime_min_secs > raw.lifetime_max_secs {
            let allowed = "at most `offer.lifetime_max_secs`";
            return Err(self.refuse("offer.lifetime_min_secs", allowed));
        }
        let unconfirmed = self.unconfirmed(raw)?;
        let first_payment = raw
            .first_payment_sat
            .map(|amount| sat("offer.first_payment_sat", amount))
            .transpose()?;
        let leaves_change =
            |first: Sat| first.checked_add(DUST_MAX).is_some_and(|needed| needed <= least);
        if !first_payment.is_none_or(leaves_change) {
            let allowed = format!("at most `offer.capacity_min_sat` less {}", DUST_MAX.get());
            return Err(self.refuse("offer.first_payment_sat", allowed));
        }
        Ok(OfferConfig {
            kinds,
            capacity: least..=most,
            lifetime: Seconds::new(raw.lifetime_min_secs)..=Seconds::new(raw.lifetime_max_secs),
            first_payment,
            confirmations: raw.confirmations,
            stop: Seconds::new(raw.stop_secs),
            settle: Seconds::new(raw.settle_secs),
            unconfirmed,
            settling,
        })
    }

    /// Checks the marks before an expiry: each leaves the next one room, and all of them fit the
    /// shortest lifetime.
    fn settling(&self, raw: &Raw) -> Result<Settling, ConfigError> {
        let Raw { offer, batch, fees, .. } = raw;
        let half = offer.lifetime_min_secs.div_euclid(2);
        if !(1..=offer.settle_secs).contains(&offer.emergency_secs) {
            let allowed = "1 to `offer.settle_secs`";
            return Err(self.refuse("offer.emergency_secs", allowed));
        }
        // The gateway closes by itself so much earlier that others can join the settlement.
        let closes = u64::from(offer.settle_secs).saturating_add(2 * u64::from(batch.wait_secs));
        if closes > u64::from(offer.stop_secs) {
            let allowed = format!(
                "at least {closes}, which is `offer.settle_secs` and twice `batch.wait_secs`: \
                 payments stop before the gateway closes"
            );
            return Err(self.refuse("offer.stop_secs", allowed));
        }
        if offer.stop_secs >= half {
            let allowed = format!("less than half of `offer.lifetime_min_secs`, which is {half}");
            return Err(self.refuse("offer.stop_secs", allowed));
        }
        if batch.channels == 0 {
            return Err(self.refuse("batch.channels", "at least 1"));
        }
        if !(1..=100).contains(&fees.stake_percent) {
            return Err(self.refuse("fees.stake_percent", "1 to 100"));
        }
        Ok(Settling {
            emergency: Seconds::new(offer.emergency_secs),
            stake_percent: fees.stake_percent,
            wait: Seconds::new(batch.wait_secs),
            most: batch.channels,
            idle: batch.idle_secs.map(Seconds::new),
        })
    }

    /// Checks what is served before a contract is confirmed.
    fn unconfirmed(&self, raw: &raw::Offer) -> Result<Option<Unconfirmed>, ConfigError> {
        if raw.confirmations > CONFIRMATIONS_MAX {
            let allowed = format!("0 to {CONFIRMATIONS_MAX}");
            return Err(self.refuse("offer.confirmations", allowed));
        }
        let limits = (raw.unconfirmed_max_sat, raw.unconfirmed_total_sat);
        let (each, total) = match (raw.confirmations, limits) {
            (0, (Some(each), Some(total))) => (each, total),
            (0, _) => {
                let allowed = "1 or more, unless `offer.unconfirmed_max_sat` and \
                               `offer.unconfirmed_total_sat` say how much may be lost";
                return Err(self.refuse("offer.confirmations", allowed));
            }
            (_, (None, None)) => return Ok(None),
            (_, _) => {
                let allowed = "given only where `offer.confirmations` is 0";
                return Err(self.refuse("offer.unconfirmed_max_sat", allowed));
            }
        };
        let each = self.checked("offer.unconfirmed_max_sat", Sat::new(each))?;
        let total = self.checked("offer.unconfirmed_total_sat", Sat::new(total))?;
        if each == Sat::ZERO || total < each {
            let allowed = "1 to `offer.unconfirmed_total_sat`";
            return Err(self.refuse("offer.unconfirmed_max_sat", allowed));
        }
        Ok(Some(Unconfirmed { each, total }))
    }

    pub(super) fn fees(&self, raw: &raw::Fees) -> Result<FeeConfig, ConfigError> {
        let rate = |key, sat_per_vb| {
            if (1..=FEE_RATE_MAX).contains(&sat_per_vb) {
                Ok(FeeRate::from_sat_per_vb_u32(sat_per_vb))
            } else {
                Err(self.refuse(key, format!("1 to {FEE_RATE_MAX} sat/vB")))
            }
        };
        let floor = rate("fees.floor_sat_per_vb", raw.floor_sat_per_vb)?;
        let fallback = rate("fees.fallback_sat_per_vb", raw.fallback_sat_per_vb)?;
        let ceiling = rate("fees.ceiling_sat_per_vb", raw.ceiling_sat_per_vb)?;
        if !(floor..=ceiling).contains(&fallback) {
            let allowed = "from `fees.floor_sat_per_vb` to `fees.ceiling_sat_per_vb`";
            return Err(self.refuse("fees.fallback_sat_per_vb", allowed));
        }
        Ok(FeeConfig { floor, fallback, ceiling })
    }
}
