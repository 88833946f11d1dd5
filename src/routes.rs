//! Routes: which paths are served, and what each costs.

use farebox_channel::Msat;
use farebox_middleware::Pricing;
use http::request::Parts;

/// A path and everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The path, such as `/forecast`. `/` matches everything.
    pub path: String,
    /// The price of a request, or nothing where it is free.
    pub price: Option<Msat>,
}

/// All routes of a gateway. The longest path that matches wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes(std::sync::Arc<[Route]>);

impl Routes {
    /// Makes a table of routes.
    #[must_use]
    pub fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(|route| std::cmp::Reverse(route.path.len()));
        Self(routes.into())
    }

    /// Returns the lowest price. Where everything is free, no credit is worth keeping.
    #[must_use]
    pub fn cheapest(&self) -> Msat {
        self.0.iter().filter_map(|route| route.price).min().unwrap_or(Msat::MAX)
    }

    /// Returns the route of a request's path, if it is served at all.
    ///
    /// A path that another program could read as a different one is not served: what is priced
    /// is what the service behind gets. Upper and lower case are the same here, because they are
    /// to many services.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Route> {
        if !is_plain(path) {
            return None;
        }
        self.0.iter().find(|route| is_below(path, &route.path))
    }
}

impl Pricing for Routes {
    fn price(&self, request: &Parts) -> Option<Msat> {
        self.find(request.uri.path())?.price
    }
}

/// Tells whether `path` is `route` or lies below it.
fn is_below(path: &str, route: &str) -> bool {
    let Some((start, rest)) = path.split_at_checked(route.len()) else { return false };
    let is_at_segment = rest.is_empty() || rest.starts_with('/') || route == "/";
    start.eq_ignore_ascii_case(route) && is_at_segment
}

/// Tells whether a path means the same to everybody: no dot segments, no empty segments, and
/// each character in the one spelling that is its own (RFC 3986 §6.2.2).
pub(crate) fn is_plain(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if segment == "." || segment == ".." || (segment.is_empty() && !is_last) {
            return false;
        }
    }
    !path.contains(['\\', ';']) && path.split('%').skip(1).all(is_needed)
}

/// Tells whether what follows a percent sign encodes a character that has to be encoded, in the
/// spelling that is its own. What could end a path for others, or begin another encoding, is out.
fn is_needed(encoded: &str) -> bool {
    let Some(digits) = encoded.get(..2) else { return false };
    let is_upper = !digits.bytes().any(|digit| digit.is_ascii_lowercase());
    let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_upper);
    byte.is_some_and(|byte| byte >= 0x80 || b" \"<>[]^`{|}".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let route = |path: &str, price| Route { path: path.to_owned(), price };
        let msat = |price| Msat::new(price).ok();
        Routes::new(vec![
            route("/paid", msat(1_000)),
            route("/paid/dear", msat(5_000)),
            route("/free", None),
        ])
    }

    fn price(path: &str) -> Option<Option<u64>> {
        routes().find(path).map(|route| route.price.map(Msat::get))
    }

    #[test]
    fn the_longest_path_wins_and_ends_at_a_segment() {
        assert_eq!(price("/paid"), Some(Some(1_000)));
        assert_eq!(price("/paid/x"), Some(Some(1_000)));
        assert_eq!(price("/paid/dear/x"), Some(Some(5_000)));
        assert_eq!(price("/paidx"), None);
        assert_eq!(price("/PAID/x"), Some(Some(1_000)));
        assert_eq!(price("/free/"), Some(None));
        assert_eq!(price("/"), None);
    }

    #[test]
    fn a_path_with_two_readings_is_not_served() {
        for path in [
            "/free/../paid",
            "/free/%2e%2e/paid",
            "/free/%2E./paid",
            "/free//x",
            "/free/./x",
            "/free%2fpaid",
            "/free\\..\\paid",
            "/fr%65e",
            "/free/%5c",
            "/free/%",
            "/free/%zz",
            "/free;x=1",
            "/free/%00",
            "/p%61id",
            "/free/%3Apaid",
            "/free%3Fx",
            "/free/%23",
            "/free/%25",
            "/free/caf%c3%a9",
            "*",
            "",
        ] {
            assert_eq!(price(path), None, "{path}");
        }
        assert_eq!(price("/free/caf%C3%A9/a%20b"), Some(None));
    }
}
