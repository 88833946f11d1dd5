//! One of both ways of a tunnel.

use std::io;

use bytes::{Buf, BytesMut};
use farebox_middleware::Problem;
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

/// From one side to the other. What it has begun can be gone on with after its futures are dropped.
#[derive(Debug)]
pub(super) struct Way<'t, R, W> {
    from: Side,
    toll: &'t Toll,
    reader: R,
    writer: W,
    scanner: Scanner,
    /// What has come and has not been sent.
    buffer: BytesMut,
    /// What waits at the toll.
    waiting: Option<Piece>,
    /// How much has passed the toll.
    ready: usize,
}

impl<'t, R, W> Way<'t, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    pub(super) fn new(from: Side, toll: &'t Toll, reader: R, writer: W) -> Self {
        let (scanner, buffer) = (Scanner::new(from), BytesMut::new());
        Self { from, toll, reader, writer, scanner, buffer, waiting: None, ready: 0 }
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
            (self.waiting, self.ready) = (None, piece.length);
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

impl<R, W> Drop for Way<'_, R, W> {
    /// Gives back what was charged for a frame that will not be finished.
    fn drop(&mut self) {
        // What waits was not charged.
        let unsent = if self.waiting.is_some() { 0 } else { self.scanner.prepaid() };
        self.toll.take_back(self.from, unsent);
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
