//! One of both ways of a tunnel.

use std::io;

use bytes::{Buf, BytesMut};
use farebox_middleware::{Load, Problem};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Stop;
use super::frames::{Frames, HEAD_MAX, Malformed, Piece, Scanner, Side, close};
use super::toll::Toll;

/// How much is read at once. No more of one way than that, and the head of a frame, ever waits.
const PIECE: usize = 16 << 10;

/// Why nothing more goes one way.
#[derive(Debug, Error)]
pub(super) enum End {
    /// One side has hung up.
    #[error("it has ended")]
    HungUp,
    /// It cannot be read from or written to.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// What is sent is no WebSocket.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It is not paid any further.
    #[error("{}", .0.detail)]
    Unpaid(Problem),
}

/// From one side to the other. What it has begun can be gone on with after its futures are dropped. When
/// it is dropped itself, what was charged and is not sent is given back.
#[derive(Debug)]
pub(super) struct Way<'a, R, W> {
    from: Side,
    toll: &'a Toll,
    reader: R,
    writer: W,
    scanner: Scanner,
    /// What has come and has not been sent.
    buffer: BytesMut,
    /// What waits at the toll.
    waiting: Option<Piece>,
    /// What has passed the toll last.
    passed: Piece,
    /// How much of it is not sent.
    ready: usize,
}

impl<'a, R, W> Way<'a, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    pub(super) fn new(from: Side, (reader, writer): (R, W), toll: &'a Toll) -> Self {
        Self {
            from,
            toll,
            reader,
            writer,
            scanner: Scanner::new(from),
            buffer: BytesMut::new(),
            waiting: None,
            passed: Piece::default(),
            ready: 0,
        }
    }

    /// Tells whether a close frame has gone this way.
    pub(super) const fn has_closed(&self) -> bool {
        self.scanner.has_closed()
    }

    /// Passes everything on until there is nothing more, and returns why.
    pub(super) async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.step(self.toll.at_once()).await {
                return end;
            }
        }
    }

    /// Sends what is ready, and makes more ready.
    async fn step(&mut self, frames: Frames) -> Result<(), End> {
        self.send().await?;
        if self.waiting.is_none() {
            let piece = self.scanner.scan(&self.buffer, frames)?;
            self.waiting = Some(piece).filter(|piece| piece.length > 0);
        }
        if let Some(piece) = self.waiting {
            // Nothing more is read meanwhile.
            self.toll.pass(self.from, piece).await.map_err(End::Unpaid)?;
            (self.waiting, self.passed, self.ready) = (None, piece, piece.length);
            return Ok(());
        }
        self.writer.flush().await?;
        // There is no more than the beginning of a head in it.
        self.buffer.reserve(PIECE.saturating_add(HEAD_MAX));
        if self.reader.read_buf(&mut self.buffer).await? == 0 {
            return Err(End::HungUp);
        }
        self.toll.moves();
        Ok(())
    }

    async fn send(&mut self) -> Result<(), End> {
        while self.ready > 0 {
            let mut ready = Buf::take(&mut self.buffer, self.ready);
            match self.writer.write_buf(&mut ready).await? {
                0 => return Err(End::HungUp),
                sent => self.ready = self.ready.saturating_sub(sent),
            }
            self.toll.moves();
        }
        Ok(())
    }

    /// Sends the rest of the frame under way, and a close frame unless there was one. Of a frame that
    /// waits at the toll nothing was sent, unless it is a long one: that cannot be finished.
    pub(super) async fn stop(&mut self, stop: &Stop) -> Result<(), End> {
        self.send().await?;
        if self.waiting.is_none_or(|piece| !piece.begins) {
            while self.waiting.is_some() || !self.scanner.is_between_frames() {
                self.step(Frames::One).await?;
            }
        }
        self.send().await?;
        if !self.has_closed() {
            let mask = (self.from == Side::Client).then(mask);
            self.writer.write_all(&close(stop.code, &stop.reason, mask)).await?;
        }
        Ok(())
    }

    /// Says that nothing more comes.
    pub(super) async fn hang_up(&mut self) {
        // Who has gone has no need to know.
        let _shut = self.writer.shutdown().await;
    }

    /// Hangs up, and reads on until the other side has, too. If bytes were left unread, the system
    /// would reset the connection, and what was sent last might be lost.
    pub(super) async fn end(&mut self) {
        self.hang_up().await;
        loop {
            self.buffer.clear();
            self.buffer.reserve(PIECE);
            if !matches!(self.reader.read_buf(&mut self.buffer).await, Ok(1..)) {
                return;
            }
        }
    }
}

impl<R, W> Way<'_, R, W> {
    /// Returns what is charged of the frame under way, and not sent.
    fn unsent(&self) -> Load {
        if self.waiting.is_some() {
            // What waits is not charged, and all before it is sent.
            return Load::default();
        }
        let Piece { length, payload, load, .. } = self.passed;
        let ready = u64::try_from(self.ready).unwrap_or(u64::MAX);
        let bytes = if self.scanner.is_charged() { ready.min(payload) } else { 0 };
        let bytes = bytes.saturating_add(self.scanner.prepaid());
        // A message of which anything is sent has begun.
        let messages = if self.ready == length { load.messages } else { 0 };
        Load { bytes, messages }
    }
}

impl<R, W> Drop for Way<'_, R, W> {
    fn drop(&mut self) {
        self.toll.take_back(self.from, self.unsent());
    }
}

/// Returns a mask that nobody can guess (RFC 6455 §5.3).
fn mask() -> [u8; 4] {
    let mut mask = [0; 4];
    if let Err(error) = getrandom::fill(&mut mask) {
        tracing::warn!(%error, "the system has no random bytes for a mask");
    }
    mask
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::duplex;

    use super::*;

    /// Returns what is charged and not sent where a service has sent this, and its client takes so many
    /// bytes of it.
    async fn unsent(frames: &[&[u8]], taken: usize) -> (u64, u64) {
        let toll = Toll::new(None);
        let (mut service, reader) = duplex(1 << 20);
        service.write_all(&frames.concat()).await.unwrap();
        let (mut writer, _client) = duplex(taken + 1); // there is none for nothing
        writer.write_all(b".").await.unwrap();
        let mut way = Way::new(Side::Service, (reader, writer), &toll);
        let passing = async { while way.step(Frames::One).await.is_ok() {} };
        assert!(passing.now_or_never().is_none(), "it waits for the client");
        let Load { bytes, messages } = way.unsent();
        (bytes, messages)
    }

    #[tokio::test]
    async fn what_is_charged_of_a_frame_and_not_sent_is_known() {
        let short = [&[0x82, 126, 0x03, 0xe8][..], &[b'x'; 1_000]].concat();
        assert_eq!(unsent(&[&short], 0).await, (1_000, 1));
        assert_eq!(unsent(&[&short], 2).await, (1_000, 0), "of its head something is sent");
        assert_eq!(unsent(&[&short], 504).await, (500, 0));
        assert_eq!(unsent(&[&short], 1_004).await, (0, 0));
        assert_eq!(unsent(&[&short, &short], 1_004).await, (1_000, 1));
        assert_eq!(unsent(&[&short[..104]], 1_004).await, (900, 0), "the rest has not come");
        assert_eq!(unsent(&[&short[..104]], 54).await, (950, 0));

        let ping = [0x89, 3, b'a', b'b', b'c'];
        assert_eq!(unsent(&[&ping], 0).await, (0, 0), "it costs nothing");
        assert_eq!(unsent(&[&short, &ping], 1_005).await, (0, 0));

        let long = [&[0x82, 127, 0, 0, 0, 0, 0, 2, 0, 0][..], &[b'x'; 5_000]].concat();
        assert_eq!(unsent(&[&long], 0).await, (5_000, 1), "no more of it is charged than has come");
        assert_eq!(unsent(&[&long], 510).await, (4_500, 0));
        assert_eq!(unsent(&[&long], 5_010).await, (0, 0));
    }
}
