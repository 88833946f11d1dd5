//! The table of all routes, tried one after the other.

use std::sync::Arc;
use std::time::Duration;

use farebox_channel::Msat;
use farebox_middleware::bare_host;
use http::{HeaderValue, Method};
use thiserror::Error;

use super::route::Route;

/// The longest path, in bytes, for which nothing is allocated.
const SHORT_MAX: usize = 512;

/// Routes that cannot stand together.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TableError {
    /// Two routes would be one in logs and metrics.
    #[error("\"{name}\" is the name of route[{earlier}] already; give one of them a `name`")]
    SameName {
        /// The name.
        name: String,
        /// The index of the first of them.
        earlier: usize,
        /// The index of the second.
        later: usize,
    },
    /// A route would never be taken.
    #[error(
        "\"{path}\" is never reached: route[{earlier}], \"{taken}\", stands before it and takes \
         all of its requests; put the narrower route first"
    )]
    NeverReached {
        /// The path of the route.
        path: String,
        /// The index of the one that takes all.
        earlier: usize,
        /// The path of the one that takes all.
        taken: String,
        /// The index of the route.
        later: usize,
    },
}

/// What a table has for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// This route.
    Route(&'a Arc<Route>),
    /// Nothing is served there.
    Unknown,
    /// Other methods are served there: the value of the `Allow` field.
    OtherMethod(HeaderValue),
}

/// All routes of a gateway, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    routes: Arc<[Arc<Route>]>,
    /// What takes the requests that no route takes.
    unknown: Option<Arc<Route>>,
    /// For how long a price holds once another table follows.
    quote: Duration,
}

impl Table {
    /// Makes a table of routes in their order. What no route takes is not served.
    ///
    /// # Errors
    /// [`TableError`] where two routes have one name, or one would never be taken.
    pub fn new(routes: Vec<Route>) -> Result<Self, TableError> {
        for (later, route) in routes.iter().enumerate() {
            let before = || routes.iter().enumerate().take(later);
            if let Some((earlier, wide)) = before().find(|(_, wide)| wide.covers(route)) {
                let (path, taken) = (route.path.as_str().to_owned(), wide.path.as_str().to_owned());
                return Err(TableError::NeverReached { path, earlier, taken, later });
            }
            if let Some((earlier, _)) = before().find(|(_, other)| other.name() == route.name()) {
                let name = route.name().to_owned();
                return Err(TableError::SameName { name, earlier, later });
            }
        }
        let routes = routes.into_iter().map(Arc::new).collect();
        Ok(Self { routes, unknown: None, quote: Duration::ZERO })
    }

    /// Lets `unknown` take what no other route takes, whatever its own path is.
    #[must_use]
    pub fn unknown(mut self, unknown: Option<Route>) -> Self {
        self.unknown = unknown.map(Arc::new);
        self
    }

    /// Lets prices hold for `quote` once another table follows.
    #[must_use]
    pub const fn quote(mut self, quote: Duration) -> Self {
        self.quote = quote;
        self
    }

    /// Returns the routes in their order, and what takes the rest, if anything does.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter().chain(&self.unknown)
    }

    /// Returns the least that can ever be charged: nothing where all is free, and any credit is worth
    /// keeping then.
    ///
    /// What is free for a while counts with its price, and what is always free does not count.
    #[must_use]
    pub fn cheapest(&self) -> Msat {
        self.routes().filter_map(|route| route.least()).min().unwrap_or(Msat::ZERO)
    }

    /// Returns for how long prices hold once another table follows.
    pub(crate) const fn quoted_for(&self) -> Duration {
        self.quote
    }

    /// Finds the first route that takes a request.
    ///
    /// The host is the one that the client has named, with or without its port. The path is normal
    /// (see [`normalise`](super::normalise)): another one might be taken for what it is not.
    #[must_use]
    pub fn find(&self, host: Option<&str>, method: &Method, path: &str) -> Found<'_> {
        let host = host.map(bare_host);
        let path = path.strip_suffix('/').unwrap_or(path).as_bytes();
        // Nothing is allocated for any path but a very long one.
        let mut short = [0; SHORT_MAX];
        let long: Vec<u8>;
        let path: &[u8] = match short.get_mut(..path.len()) {
            Some(lower) => {
                lower.copy_from_slice(path);
                lower.make_ascii_lowercase();
                lower
            }
            None => {
                long = path.to_ascii_lowercase();
                &long
            }
        };
        let mut is_known = false;
        for route in self.routes.iter().filter(|route| route.is_at(host, path)) {
            if route.takes(method) {
                return Found::Route(route);
            }
            is_known = true;
        }
        match &self.unknown {
            Some(unknown) => Found::Route(unknown),
            None if is_known => Found::OtherMethod(self.allowed(host, path)),
            None => Found::Unknown,
        }
    }

    /// Returns the methods that are served at a place, for the `Allow` field.
    fn allowed(&self, host: Option<&str>, path: &[u8]) -> HeaderValue {
        let at = self.routes.iter().filter(|route| route.is_at(host, path));
        let methods = at.filter_map(|route| route.methods.as_ref());
        let mut names: Vec<&str> =
            methods.flat_map(|methods| methods.iter()).map(Method::as_str).collect();
        names.sort_unstable();
        names.dedup();
        HeaderValue::from_str(&names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::{Ask, Host, Methods, Pattern, Price, WhenDown};

    fn route(path: &str) -> Route {
        Route::new(Pattern::new(path, false).unwrap(), Price::Free)
    }

    fn exact(path: &str) -> Route {
        Route::new(Pattern::new(path, true).unwrap(), Price::Free)
    }

    fn priced(path: &str, msat: u64) -> Route {
        Route { price: Price::Charged(Msat::new(msat).unwrap()), ..route(path) }
    }

    fn of(methods: &[&str], name: &str, route: Route) -> Route {
        let methods: Vec<String> = methods.iter().map(|method| (*method).to_owned()).collect();
        let methods = Some(Methods::new(&methods).unwrap());
        Route { methods, label: Some(name.to_owned()), ..route }
    }

    fn on(host: &str, route: Route) -> Route {
        Route { host: Some(Host::new(host).unwrap()), ..route }
    }

    fn names<'a>(table: &'a Table, host: &str, method: &Method, path: &str) -> &'a str {
        match table.find(Some(host), method, path) {
            Found::Route(route) => route.name(),
            Found::Unknown => "nothing",
            Found::OtherMethod(_) => "other method",
        }
    }

    #[test]
    fn the_first_route_that_fits_is_taken() {
        let routes = vec![exact("/a"), route("/a/{x}/b"), route("/a/long"), route("/a")];
        let labelled = |(index, route)| Route { label: Some(format!("{index}")), ..route };
        let table = Table::new(routes.into_iter().enumerate().map(labelled).collect()).unwrap();
        for (path, name) in [
            ("/a", "0"),
            ("/A/", "0"),
            ("/a/long/b", "1"),
            ("/a/long", "2"),
            ("/a/long/b/c", "2"),
            ("/a/x", "3"),
            ("/", "nothing"),
        ] {
            assert_eq!(names(&table, "h", &Method::GET, path), name, "{path}");
        }
    }

    #[test]
    fn a_route_of_one_host_is_for_nobody_else() {
        let table = Table::new(vec![on("*.example.com", route("/a")), route("/b")]).unwrap();
        assert_eq!(names(&table, "x.Example.com:80", &Method::GET, "/a/b"), "/a");
        assert_eq!(names(&table, "example.com", &Method::GET, "/a/b"), "nothing");
        assert_eq!(table.find(None, &Method::GET, "/a"), Found::Unknown);
        assert!(matches!(table.find(None, &Method::GET, "/b"), Found::Route(_)));
    }

    #[test]
    fn a_path_of_any_length_is_found_in_any_case() {
        let table = Table::new(vec![priced("/paid", 5)]).unwrap();
        for length in [1, SHORT_MAX - 6, SHORT_MAX - 5, SHORT_MAX, 20 * SHORT_MAX] {
            let path = format!("/PAID/{}", "X".repeat(length));
            assert_eq!(names(&table, "h", &Method::GET, &path), "/paid", "{length}");
        }
    }

    #[test]
    fn a_path_without_a_route_for_the_method_names_those_that_it_has() {
        let routes = vec![
            of(&["POST"], "post", route("/a")),
            of(&["GET", "POST"], "get", route("/a/b")),
            of(&["PUT"], "put", route("/c")),
        ];
        let table = Table::new(routes).unwrap();
        let found = table.find(Some("h"), &Method::DELETE, "/a/b");
        assert_eq!(found, Found::OtherMethod(HeaderValue::from_static("GET, HEAD, POST")));
        assert_eq!(names(&table, "h", &Method::HEAD, "/a/b"), "get");
        assert_eq!(names(&table, "h", &Method::GET, "/a"), "other method");

        let rest = Route { label: Some("rest".to_owned()), ..priced("/", 5) };
        let open = table.unknown(Some(rest));
        assert_eq!(names(&open, "h", &Method::DELETE, "/a/b"), "rest");
        assert_eq!(names(&open, "h", &Method::GET, "/z"), "rest");
    }

    #[test]
    fn a_route_that_is_never_reached_is_refused() {
        for routes in [
            vec![route("/"), route("/paid")],
            vec![route("/paid"), exact("/PAID")],
            vec![route("/{x}/**"), on("a.b", of(&["GET"], "get", route("/x")))],
            vec![on("*.b", route("/")), on("a.b", route("/x"))],
            vec![of(&["GET"], "one", route("/")), of(&["HEAD"], "two", route("/x"))],
            vec![route("/x"), route("/y"), route("/x/z")],
        ] {
            let later = routes.len() - 1;
            let refused = Table::new(routes);
            assert!(
                matches!(&refused, Err(TableError::NeverReached { earlier: 0, later: at, .. }) if *at == later),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_route_that_could_be_reached_is_not_refused() {
        for routes in [
            vec![exact("/"), route("/")],
            vec![on("a.b", route("/a")), route("/a/x")],
            vec![on("*.b", route("/")), on("b", route("/x"))],
            vec![of(&["GET"], "one", route("/")), route("/x")],
            vec![of(&["GET"], "one", route("/")), of(&["GET", "POST"], "two", route("/x"))],
            vec![route("/x*"), route("/x1")],
            vec![route("/{x}"), route("/x")],
        ] {
            let label = |index| Some(format!("{index}"));
            let labelled = |(index, route)| Route { label: label(index), ..route };
            let routes: Vec<Route> = routes.into_iter().enumerate().map(labelled).collect();
            assert!(Table::new(routes.clone()).is_ok(), "{routes:?}");
        }
    }

    #[test]
    fn two_routes_never_have_one_name() {
        let one = || on("a.b", route("/x"));
        let refused = Table::new(vec![one(), route("/x")]);
        assert!(matches!(refused, Err(TableError::SameName { earlier: 0, later: 1, .. })));
        let named = Route { label: Some("x".to_owned()), ..route("/x") };
        assert!(Table::new(vec![one(), named]).is_ok());
    }

    #[test]
    fn the_cheapest_is_the_least_that_can_be_charged() {
        let table = Table::new(vec![priced("/a", 7), priced("/b", 5), route("/c")]).unwrap();
        assert_eq!(table.cheapest().get(), 5);
        assert_eq!(table.unknown(Some(priced("/", 3))).cheapest().get(), 3);
        assert_eq!(Table::new(vec![route("/c")]).unwrap().cheapest(), Msat::ZERO);
    }

    #[test]
    fn the_cheapest_is_the_least_that_is_believed_where_prices_are_asked() {
        let msat = |amount| Msat::new(amount).unwrap();
        let asked = |usual, least| {
            let ask = Ask {
                url: "http://127.0.0.1/".parse().unwrap(),
                authorities: None,
                keep: Duration::ZERO,
                timeout: Duration::ZERO,
                least: msat(least),
                most: msat(100),
                when_down: WhenDown::Route,
            };
            Route { ask: Some(ask), ..priced("/asked", usual) }
        };
        let cheapest = |route| Table::new(vec![priced("/a", 50), route]).unwrap().cheapest();
        assert_eq!(cheapest(asked(40, 3)), msat(3));
        assert_eq!(cheapest(asked(2, 3)), msat(2), "it is charged while no price is given");
        assert_eq!(cheapest(asked(90, 60)), msat(50));
    }

    #[test]
    fn what_a_trial_does_not_charge_is_worth_its_price_all_the_same() {
        let shadow = Route { price: Price::Shadow(Msat::new(4).unwrap()), ..route("/shadow") };
        let tried = Table::new(vec![shadow.clone()]).unwrap();
        assert_eq!(tried.cheapest().get(), 4);
        let mixed = Table::new(vec![priced("/a", 7), shadow]).unwrap();
        assert_eq!(mixed.cheapest().get(), 4);
    }
}
