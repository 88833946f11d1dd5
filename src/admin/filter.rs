//! Which channels an operator wants to see: the query of `GET /channels`.

use farebox_channel::Timestamp;
use farebox_channel::gateway::Channel;
use farebox_channel::message::StateName;
use reqwest::Url;

use super::AdminError;

/// Which channels are wanted. Nothing set means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The states, if not all.
    states: Option<Vec<StateName>>,
    /// The most seconds until the expiry, if there is a limit.
    within_secs: Option<u64>,
    /// How the client's key begins, in hexadecimal digits.
    client: Option<String>,
}

impl Filter {
    /// Reads the query of a request.
    pub(crate) fn parse(query: &str) -> Result<Self, AdminError> {
        let malformed = |words: String| AdminError::Malformed(words);
        // Only the query of this URL is looked at.
        let url = Url::parse(&format!("http://gateway/?{query}"))
            .map_err(|error| malformed(error.to_string()))?;
        let mut filter = Self::default();
        for (name, value) in url.query_pairs() {
            match &*name {
                "state" => {
                    let states = value.split(',').map(|name| name.trim().parse());
                    let states: Result<Vec<StateName>, _> = states.collect();
                    let states = states.map_err(|error| malformed(error.to_string()))?;
                    filter.states.get_or_insert_default().extend(states);
                }
                "within" => {
                    let secs = value.parse().map_err(|_| {
                        malformed("`within` is a whole number of seconds".to_owned())
                    })?;
                    filter.within_secs = Some(secs);
                }
                "client" => {
                    let is_hex = value.bytes().all(|digit| digit.is_ascii_hexdigit());
                    if value.is_empty() || !is_hex {
                        let words = "`client` is a client's key in hexadecimal digits, or how it \
                                     begins";
                        return Err(malformed(words.to_owned()));
                    }
                    filter.client = Some(value.to_ascii_lowercase());
                }
                other => {
                    let known = "`state`, `within` and `client`";
                    return Err(malformed(format!("`{other}` is none of {known}")));
                }
            }
        }
        Ok(filter)
    }

    /// Tells whether a channel is wanted.
    pub(crate) fn takes(&self, channel: &Channel, now: Timestamp) -> bool {
        let terms = &channel.contract().terms;
        let left_secs = terms.expiry.timestamp().get().saturating_sub(now.get());
        self.states.as_ref().is_none_or(|states| states.contains(&channel.name()))
            && self.within_secs.is_none_or(|within| left_secs <= within)
            && self.client.as_ref().is_none_or(|key| terms.client_key.to_string().starts_with(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_from_a_query() {
        let read = Filter::parse("state=open%2Cclosing&within=60&client=02Ab").unwrap();
        assert_eq!(read.states, Some(vec![StateName::Open, StateName::Closing]));
        assert_eq!((read.within_secs, read.client.as_deref()), (Some(60), Some("02ab")));
        assert_eq!(Filter::parse("state=open&state=late").unwrap().states.unwrap().len(), 2);
        assert_eq!(Filter::parse("").unwrap(), Filter::default());
    }

    #[test]
    fn a_filter_that_says_something_else_is_malformed() {
        for query in ["state=opened", "state=", "within=12h", "within=-1", "client=xy", "all=1"] {
            assert!(matches!(Filter::parse(query), Err(AdminError::Malformed(_))), "{query}");
        }
    }
}
