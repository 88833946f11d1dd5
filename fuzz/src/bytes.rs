//! Choices made by bytes.

/// What is left of the bytes. Where they end, they go on with zeros.
#[derive(Debug)]
pub(crate) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Takes one byte, or nothing at the end.
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Takes one byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.next().unwrap_or_default()
    }

    /// Takes four bytes as a number, the highest first.
    pub(crate) fn number(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// Takes one byte to pick one of `values`.
    pub(crate) fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        let index = usize::from(self.byte()).checked_rem(values.len());
        *index.and_then(|index| values.get(index)).unwrap()
    }

    /// Takes all the rest.
    pub(crate) const fn rest(self) -> &'a [u8] {
        self.0
    }
}
