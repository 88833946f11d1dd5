//! What a request costs where its price is asked, or was until a moment ago.

use farebox_channel::Msat;
use farebox_middleware::{Problem, ProblemKind, bare_host};

use super::booth::Lane;
use super::call::{Call, Costs};
use crate::asking::{Answer, Question};
use crate::observe::metrics::Limit;
use crate::routes::{Price, Quote, WhenDown};

/// Returns what a request costs whose price is asked, or was asked before.
///
/// What its client was told is honoured for its time: whatever the service says now, and whether it
/// says anything.
pub(super) async fn ask(call: &Call, lane: &Lane, quote: &Quote<'_>) -> Result<Costs, Problem> {
    if quote.earlier.is_some_and(|earlier| earlier.charged().is_none()) {
        return Ok(settled(quote));
    }
    let site = &call.booth.site;
    let question = Question::new(&call.method, call.host().map(bare_host), &call.target);
    let promised = site.promises.lowest(&question.key, call.began);
    let costs = |offered: Price| {
        let charged = promised.map_or(offered, |promised| offered.or_lower(priced(promised)));
        Costs { charged: quote.charged_at(charged), billing: quote.billing.clone(), offered }
    };
    let Some(asker) = &lane.asker else { return Ok(costs(quote.route.price)) };
    let may_ask = || {
        let checked = site.guards.question(call.client.into(), call.began);
        checked.inspect_err(|_| site.observers.limited(Limit::Unpaid))
    };
    let answer = asker.answer(&question, may_ask).await?;
    let (usual, is_shadow) = match quote.route.price {
        Price::Free => return Ok(settled(quote)),
        Price::Charged(price) => (price, false),
        Price::Shadow(price) => (price, true),
    };
    let price = match (answer, asker.ask().when_down) {
        (Answer::Price(price), _) | (Answer::Down(Some(price)), WhenDown::Last) => price,
        (Answer::Down(_), WhenDown::Refuse) if !is_shadow => promised.ok_or_else(unavailable)?,
        (Answer::Down(_), WhenDown::Route | WhenDown::Last | WhenDown::Refuse) => usual,
    };
    if is_shadow && price > Msat::ZERO {
        return Ok(costs(Price::Shadow(price)));
    }
    site.tell(question.key, price);
    Ok(costs(priced(price)))
}

/// Returns what a request costs whose price is not asked.
pub(super) fn settled(quote: &Quote<'_>) -> Costs {
    Costs { charged: quote.price(), billing: quote.billing.clone(), offered: quote.offered() }
}

/// Returns what a price means. One of nothing is free.
fn priced(price: Msat) -> Price {
    if price == Msat::ZERO { Price::Free } else { Price::Charged(price) }
}

/// Says that nobody knows what a request costs.
fn unavailable() -> Problem {
    let detail = "what this request costs is not known now; try again later";
    Problem::new(ProblemKind::PriceUnavailable, detail)
}
