//! What earlier payment channels got wrong, and what is tried against this one: the rows of
//! `docs/threats.md` that no other test shows.

mod batches;
mod flags;
mod life;
mod openings;
mod refunds;
