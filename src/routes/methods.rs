//! Methods: which of them a route takes.

use http::Method;
use thiserror::Error;

/// The methods of a route are none. The words say what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("at least one method in upper case, such as in [\"GET\", \"POST\"]")]
pub struct BadMethods;

/// Some methods. `HEAD` goes with `GET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Methods(Vec<Method>);

impl Methods {
    /// Reads the names of methods.
    ///
    /// # Errors
    /// [`BadMethods`] where there is none, or one that no client sends.
    pub fn new(names: &[String]) -> Result<Self, BadMethods> {
        let method = |name: &String| {
            let is_upper = !name.bytes().any(|byte| byte.is_ascii_lowercase());
            Method::from_bytes(name.as_bytes()).ok().filter(|_| is_upper).ok_or(BadMethods)
        };
        let mut methods = names.iter().map(method).collect::<Result<Vec<Method>, _>>()?;
        if methods.is_empty() {
            return Err(BadMethods);
        }
        if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
            methods.push(Method::HEAD);
        }
        Ok(Self(methods))
    }

    /// Tells whether a method is among them. Upper and lower case are the same, because they are
    /// to some services.
    pub(super) fn contains(&self, method: &Method) -> bool {
        let is_same = |own: &Method| own.as_str().eq_ignore_ascii_case(method.as_str());
        self.0.iter().any(|own| own == method || is_same(own))
    }

    /// Returns the methods.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Method> {
        self.0.iter()
    }

    /// Returns their names.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }

    /// Tells whether all of `other` are among them.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.iter().all(|method| self.contains(method))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn methods(names: &[&str]) -> Result<Methods, BadMethods> {
        Methods::new(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn get_takes_head_and_nothing_else() {
        let get = methods(&["GET"]).unwrap();
        assert!(get.contains(&Method::GET) && get.contains(&Method::HEAD));
        assert!(!get.contains(&Method::POST));
        assert!(get.contains(&Method::from_bytes(b"Get").unwrap()));
        assert!(!methods(&["HEAD"]).unwrap().contains(&Method::GET));
        assert!(get.covers(&methods(&["HEAD"]).unwrap()));
        assert!(!get.covers(&methods(&["GET", "POST"]).unwrap()));
    }

    #[test]
    fn a_method_that_no_client_sends_is_refused() {
        for names in [&[] as &[&str], &["get"], &["GET", ""], &["GET POST"]] {
            assert_eq!(methods(names), Err(BadMethods), "{names:?}");
        }
        assert!(methods(&["PROPFIND", "M-SEARCH"]).is_ok());
    }
}
