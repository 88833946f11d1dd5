//! The pass: the bearer secret of a channel.

use std::fmt;

/// The 16 bytes that every payment carries and that are compared before all else.
///
/// They are handed out only after a valid signature of the client's key, so a stranger costs no
/// signature check and cannot tell a foreign channel from an unknown one.
#[derive(Clone, Copy)]
pub struct Pass([u8; 16]);

impl Pass {
    /// Takes 16 bytes as a pass.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, to be sent to the channel's client.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl PartialEq for Pass {
    /// Compares in constant time.
    fn eq(&self, other: &Self) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

impl Eq for Pass {}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pass(..)")
    }
}

/// A channel's name where people and services read it, such as a log.
///
/// It tells apart the channels of one gateway. Only the gateway can tell which channel it is, so
/// nobody finds it on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label([u8; 8]);

impl Label {
    /// Takes 8 bytes as a label.
    #[must_use]
    pub const fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}
