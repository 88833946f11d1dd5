//! The protocol's test vectors, case by case: what is accepted, and what is refused and why.
//!
//! A case that is not wholly understood fails: each of its keys must be read.

mod case;
mod fields;
mod money;
