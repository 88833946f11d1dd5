//! The price list as a page for people: no scripts, nothing from elsewhere, everything escaped.

use std::fmt::{self, Write};

use farebox_channel::message::Offer;
use farebox_channel::wire::WELL_KNOWN;
use farebox_channel::{Msat, Seconds};
use http::HeaderMap;
use http::header::ACCEPT;

use crate::pricing::{FreeAllowance, PricedRoute};

/// The query that asks for the document, whatever the client prefers.
pub(crate) const JSON_QUERY: &str = "format=json";
/// What the page may do: show itself, with its own style.
pub(crate) const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
/// How the page looks.
const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:44rem;margin:0 auto;\
    padding:1rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;\
    vertical-align:top;padding:.4rem .6rem .4rem 0;border-bottom:1px solid #8885}\
    td{overflow-wrap:anywhere}code{font-family:ui-monospace,monospace}\
    @media(prefers-color-scheme:dark){body{background:#111;color:#eee}a{color:#8cf}}";

/// Tells whether a client would rather have a page than a document (RFC 9110 §12.5.1). Who takes
/// both alike gets the document.
pub(crate) fn is_preferred(headers: &HeaderMap) -> bool {
    quality(headers, "text/html") > quality(headers, "application/json")
}

/// Returns how much a client wants a type, in thousandths: the range that names it best decides.
fn quality(headers: &HeaderMap, wanted: &str) -> u16 {
    let any_of_kind = wanted.split_once('/').map(|(kind, _)| format!("{kind}/*"));
    let mut best = (0, 0);
    for field in headers.get_all(ACCEPT) {
        for range in field.to_str().unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let precision = match name.as_str() {
                name if name == wanted => 3,
                name if Some(name) == any_of_kind.as_deref() => 2,
                "*/*" => 1,
                _ => continue,
            };
            let weight =
                parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            let quality = weight.map_or(1_000, thousandths);
            best = best.max((precision, quality));
        }
    }
    best.1
}

/// Reads a weight (RFC 9110 §12.4.2). One that cannot be read counts for nothing.
fn thousandths(weight: &str) -> u16 {
    let (whole, digits) = weight.split_once('.').unwrap_or((weight, ""));
    let is_weight = digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "0" if is_weight => format!("{digits:0<3}").parse().unwrap_or(0),
        "1" if is_weight => 1_000,
        _ => 0,
    }
}

/// Returns the page.
pub(crate) fn page(offer: &Offer, prices: &[PricedRoute]) -> String {
    let mut page = String::new();
    // Writing to a string does not fail.
    let _written = write_page(&mut page, offer, prices);
    page
}

fn write_page(page: &mut String, offer: &Offer, prices: &[PricedRoute]) -> fmt::Result {
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Prices</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>Prices</h1>\n\
         <p>Requests to this service are paid one by one, in bitcoin, over a payment channel. \
         1 sat (satoshi) is 1,000 msat.</p>\n"
    )?;
    write_prices(page, prices)?;
    if let Some(holds) = offer.price_holds {
        let holds = span(holds);
        writeln!(
            page,
            "<p>A price that you were told holds for {holds}, also if it is raised.</p>"
        )?;
    }
    let network = offer.network.to_core_arg();
    let kinds: Vec<_> = offer.kinds.iter().map(|kind| kind.as_str()).collect();
    write!(
        page,
        "<h2>How to pay</h2>\n<ol>\n<li>Ask for what you want. A request without a payment is \
         answered with status 402 and an offer, and costs nothing.</li>\n\
         <li>Open a channel: lock an amount in a transaction. What you do not spend comes back to \
         you.</li>\n<li>Send a payment along with each request, in the field \
         <code>Payment-Channel-Pay</code>. Each answer has a receipt.</li>\n\
         <li>Close the channel when you are done.</li>\n</ol>\n\
         <p>The program <code>farebox pay URL</code> does all of that.</p>\n\
         <h2>Channels</h2>\n<table>\n\
         <tr><th scope=\"row\">Network</th><td>{network}</td></tr>\n\
         <tr><th scope=\"row\">Kinds of contract</th><td>{}</td></tr>\n\
         <tr><th scope=\"row\">Amount to lock</th><td>{} to {} sat</td></tr>\n\
         <tr><th scope=\"row\">Lifetime</th><td>{} to {}</td></tr>\n\
         <tr><th scope=\"row\">First payment</th><td>at least {} sat</td></tr>\n\
         <tr><th scope=\"row\">Confirmations</th><td>{}</td></tr>\n</table>\n\
         <p><a href=\"{WELL_KNOWN}?{JSON_QUERY}\">The same for programs (JSON)</a></p>\n\
         </body>\n</html>\n",
        kinds.join(", "),
        grouped(offer.capacity.start().get()),
        grouped(offer.capacity.end().get()),
        span(*offer.lifetime.start()),
        span(*offer.lifetime.end()),
        grouped(offer.first_payment.get()),
        offer.confirmations,
    )
}

/// Writes the table of prices.
fn write_prices(page: &mut String, prices: &[PricedRoute]) -> fmt::Result {
    if prices.is_empty() {
        return page.write_str("<p>Each answer with status 402 says what its request costs.</p>\n");
    }
    page.write_str(
        "<table>\n<tr><th scope=\"col\">Path</th><th scope=\"col\">Methods</th>\
         <th scope=\"col\">Price of a request</th></tr>\n",
    )?;
    for route in prices {
        let host = route.host.as_deref().unwrap_or_default();
        write!(page, "<tr><td><code>{}{}</code></td>", Escaped(host), Escaped(&route.path))?;
        let methods = route.methods.join(", ");
        let methods = if methods.is_empty() { "all" } else { &methods };
        writeln!(page, "<td>{}</td><td>{}</td></tr>", Escaped(methods), Cost(route))?;
    }
    page.write_str("</table>\n")
}

/// What a route costs, in words.
struct Cost<'r>(&'r PricedRoute);

impl fmt::Display for Cost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(price) = self.0.price else { return f.write_str("free") };
        write!(f, "{} sat ({} msat)", sat(price), grouped(price.get()))?;
        if self.0.is_asked {
            f.write_str("<br>or another price, asked for each request")?;
        }
        if self.0.is_shadow {
            f.write_str("<br>not charged yet")?;
        }
        if let Some(FreeAllowance { requests, span: per }) = self.0.allowance {
            write!(f, "<br>{} free every {}", grouped(u64::from(requests)), span(per))?;
        }
        Ok(())
    }
}

/// Returns an amount in sat, with no more digits than it has.
fn sat(amount: Msat) -> String {
    let (whole, rest) = (amount.get() / 1_000, amount.get() % 1_000);
    let digits = format!("{rest:03}");
    let digits = digits.trim_end_matches('0');
    let whole = grouped(whole);
    if digits.is_empty() { whole } else { format!("{whole}.{digits}") }
}

/// Returns a number with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digits.len().saturating_sub(index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Returns a span of time in the largest unit that holds it without a rest.
fn span(span: Seconds) -> String {
    let seconds = span.get();
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let (size, unit) =
        units.into_iter().find(|(size, _)| seconds.is_multiple_of(*size)).unwrap_or((1, "second"));
    let count = seconds / size;
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {unit}{plural}", grouped(u64::from(count)))
}

/// Text that stands in a page as it is.
struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            _ => f.write_char(letter),
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn prefers(accept: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        is_preferred(&headers)
    }

    #[test]
    fn a_browser_gets_the_page_and_a_program_the_document() {
        assert!(prefers("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(prefers("text/html"));
        assert!(prefers("text/*, application/json;q=0.9"));
        assert!(prefers("TEXT/HTML ; Q=1"));
        for program in [
            "*/*",
            "application/json",
            "application/json, text/html",
            "application/json, */*;q=0.5",
            "text/html;q=0",
            "text/html;q=0.5, application/json;q=0.6",
            "text/html;q=2",
            "image/png",
            "",
        ] {
            assert!(!prefers(program), "{program}");
        }
        assert!(!is_preferred(&HeaderMap::new()));
    }

    #[test]
    fn amounts_are_told_in_both_units() {
        let route = |price| PricedRoute { price: Msat::new(price).ok(), ..PricedRoute::default() };
        assert_eq!(Cost(&route(1_500)).to_string(), "1.5 sat (1,500 msat)");
        assert_eq!(Cost(&route(1)).to_string(), "0.001 sat (1 msat)");
        assert_eq!(Cost(&route(1_234_567_000)).to_string(), "1,234,567 sat (1,234,567,000 msat)");
        assert_eq!(Cost(&PricedRoute::default()).to_string(), "free");
        let allowance = Some(FreeAllowance { requests: 10, span: Seconds::new(86_400) });
        let shadow = PricedRoute { allowance, is_shadow: true, ..route(2_000) };
        let words = "2 sat (2,000 msat)<br>not charged yet<br>10 free every 1 day";
        assert_eq!(Cost(&shadow).to_string(), words);
        let asked = PricedRoute { is_asked: true, ..route(2_000) };
        let words = "2 sat (2,000 msat)<br>or another price, asked for each request";
        assert_eq!(Cost(&asked).to_string(), words);
    }

    #[test]
    fn spans_are_told_in_whole_units() {
        for (seconds, words) in
            [(172_800, "2 days"), (3_600, "1 hour"), (90, "90 seconds"), (120, "2 minutes")]
        {
            assert_eq!(span(Seconds::new(seconds)), words);
        }
    }

    #[test]
    fn what_a_configuration_says_cannot_become_markup() {
        let text = Escaped("<script>\"a\" & 'b'</script>").to_string();
        assert_eq!(text, "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;");
    }
}
