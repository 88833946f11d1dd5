//! The frames of a WebSocket (RFC 6455 §5), as far as somebody in between has to know them: where each
//! begins and ends, and what it is. No payload is kept or unmasked.

use farebox_middleware::Load;
use thiserror::Error;

/// The length of the longest head of a frame, in bytes.
pub(super) const HEAD_MAX: usize = 14;
/// The greatest length of a data frame's payload that is paid as a whole before any of it passes, in
/// bytes: nobody can use half a frame.
const WHOLE_MAX: u64 = 64 << 10;
/// The greatest length of a control frame's payload (§5.5).
const CONTROL_MAX: u64 = 125;
/// The greatest length of the reason in a close frame, which has a code before it.
const REASON_MAX: usize = 123;

/// Says that a frame is the last one of its message.
const FINAL: u8 = 0x80;
/// Says that a payload is masked.
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// A side of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Who has asked for it.
    Client,
    /// Who has agreed to it.
    Service,
}

impl Side {
    /// Returns its name in a reason.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Service => "service",
        }
    }
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum Malformed {
    #[error("a reserved opcode")]
    Opcode,
    #[error("a control frame in pieces")]
    ControlInPieces,
    #[error("a control frame of more than 125 bytes")]
    ControlTooLong,
    #[error("a payload that is not masked")]
    NotMasked,
    #[error("a payload that is masked")]
    Masked,
    #[error("a length of more than 63 bits")]
    TooLong,
    #[error("a message within a message")]
    Nested,
    #[error("the end of no message")]
    Unbegun,
}

/// What is passed on at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its length, with the heads of frames, in bytes.
    pub(super) length: usize,
    /// How much payload is in it, of frames of every kind.
    pub(super) payload: u64,
    /// How many data messages have their last frame begin in it.
    pub(super) messages: u64,
    /// What is charged for it: payload of data frames, and messages that begin. Short frames are charged
    /// with their first piece.
    pub(super) load: Load,
    /// Whether it begins with the head of a frame.
    pub(super) begins: bool,
}

/// How many frames a piece may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frames {
    /// As many as have come.
    All,
    /// What has come of one.
    One,
}

/// Reads along with what one side sends.
#[derive(Debug)]
pub(super) struct Scanner {
    from: Side,
    /// How much of the payload of the frame under way is to come.
    left: u64,
    /// Whether a message has begun whose last frame has not.
    is_in_message: bool,
    has_closed: bool,
    /// Whether what is left is to be charged yet.
    is_due: bool,
    /// Whether it was charged with what stands before it.
    is_prepaid: bool,
}

impl Scanner {
    pub(super) const fn new(from: Side) -> Self {
        let (is_in_message, has_closed, is_due, is_prepaid) = (false, false, false, false);
        Self { from, left: 0, is_in_message, has_closed, is_due, is_prepaid }
    }

    /// Tells whether the payload of the frame under way, or of the last one, is charged.
    pub(super) const fn is_charged(&self) -> bool {
        self.is_prepaid || self.is_due
    }

    /// Returns how much is to come of a frame that was charged as a whole.
    pub(super) const fn prepaid(&self) -> u64 {
        if self.is_prepaid { self.left } else { 0 }
    }

    /// Tells whether a frame may begin after what was scanned.
    pub(super) const fn is_between_frames(&self) -> bool {
        self.left == 0
    }

    /// Tells whether a close frame has begun.
    pub(super) const fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Returns how much of what has come can be passed on. The head of a frame is passed on once all of
    /// it has come.
    ///
    /// # Errors
    /// [`Malformed`] when a frame begins there that must not be passed on.
    pub(super) fn scan(&mut self, bytes: &[u8], frames: Frames) -> Result<Piece, Malformed> {
        let mut all = Piece::default();
        loop {
            let rest = bytes.get(all.length..).unwrap_or_default();
            let piece = match self.next(rest) {
                Ok(piece) => piece,
                Err(malformed) if all.length == 0 => return Err(malformed),
                // What stands before it is passed on first.
                Err(_) => return Ok(all),
            };
            if piece.length == 0 {
                return Ok(all);
            }
            all.length = all.length.saturating_add(piece.length);
            all.payload = all.payload.saturating_add(piece.payload);
            all.messages = all.messages.saturating_add(piece.messages);
            all.load.bytes = all.load.bytes.saturating_add(piece.load.bytes);
            all.load.messages = all.load.messages.saturating_add(piece.load.messages);
            all.begins |= piece.begins;
            if frames == Frames::One {
                return Ok(all);
            }
        }
    }

    /// Returns what has come of one frame.
    fn next(&mut self, bytes: &[u8]) -> Result<Piece, Malformed> {
        let mut piece = Piece::default();
        if self.left == 0 {
            let Some(head) = Head::read(bytes, self.from)? else { return Ok(piece) };
            if head.is_data() {
                match (head.opcode == CONTINUATION, self.is_in_message) {
                    (true, false) => return Err(Malformed::Unbegun),
                    (false, true) => return Err(Malformed::Nested),
                    (true, true) | (false, false) => self.is_in_message = !head.is_final,
                }
                piece.messages = u64::from(head.is_final);
                piece.load.messages = u64::from(head.opcode != CONTINUATION);
            }
            let is_short = head.payload <= WHOLE_MAX;
            self.is_prepaid = head.is_data() && is_short;
            self.is_due = head.is_data() && !is_short;
            piece.load.bytes = if self.is_prepaid { head.payload } else { 0 };
            piece.begins = true;
            self.has_closed |= head.opcode == CLOSE;
            (piece.length, self.left) = (head.length, head.payload);
        }
        let here = bytes.len().saturating_sub(piece.length);
        // What is left may be more than there is memory.
        let here = usize::try_from(self.left).map_or(here, |left| left.min(here));
        piece.length = piece.length.saturating_add(here);
        piece.payload = u64::try_from(here).unwrap_or(u64::MAX);
        if self.is_due {
            piece.load.bytes = piece.payload;
        }
        self.left = self.left.saturating_sub(piece.payload);
        Ok(piece)
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
struct Head {
    length: usize,
    opcode: u8,
    is_final: bool,
    payload: u64,
}

impl Head {
    /// Reads a head, once all of it has come. What is wrong is told as soon as it shows.
    fn read(bytes: &[u8], from: Side) -> Result<Option<Self>, Malformed> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let (opcode, is_final) = (first & 0x0f, first & FINAL != 0);
        let (is_masked, short) = (second & MASKED != 0, u64::from(second & 0x7f));
        match opcode {
            CONTINUATION | TEXT | BINARY => {}
            CLOSE | PING | PONG if !is_final => return Err(Malformed::ControlInPieces),
            CLOSE | PING | PONG if short > CONTROL_MAX => return Err(Malformed::ControlTooLong),
            CLOSE | PING | PONG => {}
            _ => return Err(Malformed::Opcode),
        }
        match (from, is_masked) {
            (Side::Client, false) => return Err(Malformed::NotMasked),
            (Side::Service, true) => return Err(Malformed::Masked),
            (Side::Client, true) | (Side::Service, false) => {}
        }
        let (more, payload) = match short {
            126 => {
                let Some(length) = rest.first_chunk() else { return Ok(None) };
                (length.len(), u64::from(u16::from_be_bytes(*length)))
            }
            127 => {
                let Some(length) = rest.first_chunk() else { return Ok(None) };
                (length.len(), u64::from_be_bytes(*length))
            }
            short => (0, short),
        };
        if payload > u64::MAX >> 1 {
            return Err(Malformed::TooLong);
        }
        let mask = if is_masked { 4 } else { 0 };
        let length = [2, more, mask].into_iter().fold(0, usize::saturating_add);
        Ok((length <= bytes.len()).then_some(Self { length, opcode, is_final, payload }))
    }

    const fn is_data(&self) -> bool {
        matches!(self.opcode, CONTINUATION | TEXT | BINARY)
    }
}

/// Makes a close frame, with a mask for the service. A reason that is too long is cut.
pub(super) fn close(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let (reason, _) = reason.split_at(reason.floor_char_boundary(REASON_MAX));
    let payload = code.to_be_bytes().into_iter().chain(reason.bytes());
    let length = u8::try_from(reason.len()).unwrap_or(u8::MAX).saturating_add(2);
    let mut frame = vec![CLOSE | FINAL];
    match mask {
        None => {
            frame.push(length);
            frame.extend(payload);
        }
        Some(mask) => {
            frame.push(length | MASKED);
            frame.extend(mask);
            frame.extend(payload.zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns a frame of the service's with a payload of so many bytes.
    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match u16::try_from(length) {
            Ok(short @ 0..=125) => frame.extend(u8::try_from(short)),
            Ok(length) => frame.extend([126].into_iter().chain(length.to_be_bytes())),
            Err(_) => frame.extend([127].into_iter().chain((length as u64).to_be_bytes())),
        }
        frame.resize(frame.len() + length, b'x');
        frame
    }

    fn scan(bytes: &[u8], from: Side) -> Result<Piece, Malformed> {
        Scanner::new(from).scan(bytes, Frames::All)
    }

    proptest! {
        #[test]
        fn however_frames_come_in_pieces_the_same_is_counted(
            lengths in proptest::collection::vec(prop_oneof![0..130_usize, 65_530..65_540_usize], 1..8),
            cuts in proptest::collection::vec(1..70_000_usize, 1..20),
        ) {
            let ping = frame(0x89, 5);
            let all: Vec<u8> = lengths.iter().flat_map(|length| [frame(0x82, *length), ping.clone()].concat()).collect();
            let (mut scanner, mut counted, mut waiting) = (Scanner::new(Side::Service), Piece::default(), Vec::new());
            let mut cuts = cuts.iter().cycle();
            let mut rest = all.as_slice();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                waiting.extend_from_slice(piece);
                rest = after;
                let scanned = scanner.scan(&waiting, Frames::All).unwrap();
                prop_assert!(waiting.len() - scanned.length < HEAD_MAX, "no payload is kept");
                waiting.drain(..scanned.length);
                counted.length += scanned.length;
                counted.payload += scanned.payload;
                counted.messages += scanned.messages;
            }
            let payload = lengths.iter().sum::<usize>() + 5 * lengths.len();
            prop_assert_eq!(counted.length, all.len());
            prop_assert_eq!(counted.payload, payload as u64);
            prop_assert_eq!(counted.messages, lengths.len() as u64);
            prop_assert!(scanner.is_between_frames() && !scanner.has_closed());
        }
    }

    proptest! {
        #[test]
        fn of_any_bytes_no_more_passes_than_has_come(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            from in prop_oneof![Just(Side::Client), Just(Side::Service)],
        ) {
            if let Ok(piece) = scan(&bytes, from) {
                prop_assert!(piece.length <= bytes.len());
                prop_assert!(piece.payload <= piece.length as u64);
                prop_assert!(piece.length > 0 || bytes.len() < HEAD_MAX, "a whole head passes");
            }
        }
    }

    #[test]
    fn a_message_in_pieces_is_one_and_may_have_control_frames_within() {
        let all = [frame(0x01, 3), frame(0x89, 1), frame(0x00, 3), frame(0x80, 3)].concat();
        let piece = scan(&all, Side::Service).unwrap();
        assert_eq!((piece.length, piece.payload, piece.messages), (all.len(), 10, 1));
    }

    #[test]
    fn what_must_not_be_sent_is_malformed() {
        for (bytes, from, malformed) in [
            (&[0x83, 0x00][..], Side::Service, Malformed::Opcode),
            (&[0x8b, 0x80], Side::Client, Malformed::Opcode),
            (&[0x09, 0x00], Side::Service, Malformed::ControlInPieces),
            (&[0x88, 0x7e], Side::Service, Malformed::ControlTooLong),
            (&[0x82, 0x01], Side::Client, Malformed::NotMasked),
            (&[0x82, 0x81], Side::Service, Malformed::Masked),
            (&[0x82, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0], Side::Service, Malformed::TooLong),
            (&[0x80, 0x00], Side::Service, Malformed::Unbegun),
        ] {
            assert_eq!(scan(bytes, from), Err(malformed), "{bytes:?}");
        }
        let nested = [frame(0x01, 1), frame(0x81, 1)].concat();
        let mut scanner = Scanner::new(Side::Service);
        assert_eq!(scanner.scan(&nested, Frames::All).unwrap().length, 3, "the good one passes");
        assert_eq!(scanner.scan(&nested[3..], Frames::All), Err(Malformed::Nested));
    }

    #[test]
    fn reserved_bits_are_the_business_of_both_ends() {
        assert_eq!(scan(&frame(0xf2, 1), Side::Service).unwrap().messages, 1);
    }

    #[test]
    fn a_frame_of_any_length_is_followed_without_its_bytes() {
        let mut scanner = Scanner::new(Side::Service);
        let head = [0x82, 0x7f, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2];
        assert_eq!(scanner.scan(&head, Frames::All).unwrap().payload, 2);
        assert!(!scanner.is_between_frames());
    }

    #[test]
    fn a_close_frame_has_a_code_and_a_reason_that_fits() {
        assert_eq!(close(1001, "bye", None), b"\x88\x05\x03\xe9bye");
        let masked = close(1001, "bye", Some([1, 2, 3, 4]));
        assert_eq!(masked, b"\x88\x85\x01\x02\x03\x04\x02\xeba}d");
        for (frame, from) in [
            (close(1002, &"é".repeat(100), None), Side::Service),
            (close(1002, &"é".repeat(100), Some([9; 4])), Side::Client),
        ] {
            let mut scanner = Scanner::new(from);
            let piece = scanner.scan(&frame, Frames::All).unwrap();
            assert_eq!((piece.length, piece.payload, piece.messages), (frame.len(), 124, 0));
            assert!(scanner.has_closed());
        }
    }
}
