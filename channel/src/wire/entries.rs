//! The entries of a dictionary in the order in which they come: a field has so few that looking at
//! all of them is quicker than a table.

use std::convert::Infallible;

use sfv::visitor::{
    DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor,
};
use sfv::{BareItemFromInput, KeyRef};

/// The entries of a dictionary, without their parameters.
#[derive(Default)]
pub(super) struct Entries<'v>(Vec<(&'v str, Value<'v>)>);

/// The value of an entry.
pub(super) enum Value<'v> {
    /// One item.
    Item(BareItemFromInput<'v>),
    /// A list of items.
    List(Vec<BareItemFromInput<'v>>),
}

impl<'v> Entries<'v> {
    /// Returns the value of a key. The last one counts (RFC 9651 §4.2.2).
    pub(super) fn get(&self, key: &str) -> Option<&Value<'v>> {
        self.0.iter().rev().find(|(known, _)| *known == key).map(|(_, value)| value)
    }
}

impl<'v> DictionaryVisitor<'v> for Entries<'v> {
    type Out = Self;
    type Error = Infallible;

    fn entry(&mut self, key: &'v KeyRef) -> Result<impl EntryVisitor<'v>, Infallible> {
        Ok(Entry { entries: self, key: key.as_str() })
    }

    fn finish(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}

/// An entry that is being read.
struct Entry<'e, 'v> {
    entries: &'e mut Entries<'v>,
    key: &'v str,
}

impl<'v> EntryVisitor<'v> for Entry<'_, 'v> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'v>, Infallible> {
        Ok(move |item: BareItemFromInput<'v>| {
            self.entries.0.push((self.key, Value::Item(item)));
            Ok::<_, Infallible>(Ignored)
        })
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'v>, Infallible> {
        Ok(InnerList { entry: self, items: Vec::new() })
    }
}

/// A list that is being read.
struct InnerList<'e, 'v> {
    entry: Entry<'e, 'v>,
    items: Vec<BareItemFromInput<'v>>,
}

impl<'v> InnerListVisitor<'v> for InnerList<'_, 'v> {
    type Error = Infallible;

    fn item(&mut self) -> Result<impl ItemVisitor<'v>, Infallible> {
        Ok(|item: BareItemFromInput<'v>| {
            self.items.push(item);
            Ok::<_, Infallible>(Ignored)
        })
    }

    fn finish(self) -> Result<impl ParameterVisitor<'v>, Infallible> {
        let Self { entry, items } = self;
        entry.entries.0.push((entry.key, Value::List(items)));
        Ok(Ignored)
    }
}
