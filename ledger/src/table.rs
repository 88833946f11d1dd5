//! Tables of channels and of what belongs to them.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// A hash table by outpoint, transaction id or named request.
///
/// What is in one is on record: channels, their settlements, and requests of channels, of which few
/// are under way at a time. To have many fall into one place takes a contract for each, chosen for a
/// hash whose key is made at random and never shown. So a fast hash is enough, where that of the
/// standard library is a part of what a paid request costs. Keys that a stranger could fill a table
/// with do not go into one of these.
pub type Table<K, V> = HashMap<K, V, RandomState>;
