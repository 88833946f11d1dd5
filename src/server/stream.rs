//! The stream of a connection, plain or through TLS, with an eye on who waits for whom.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

use super::vitals::Vitals;

/// How much of an upload is discarded once its answer has ended, in bytes.
const LINGER_BYTES: usize = 4 << 20;
/// For how long.
const LINGER_TIME: Duration = Duration::from_secs(2);
/// How much of it is read at once.
const PIECE: usize = 8 << 10;

/// A socket, or TLS over it.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A stream whose waiting is noted.
#[derive(Debug)]
pub(crate) struct Watched {
    socket: Socket,
    vitals: Arc<Vitals>,
    linger: Option<Linger>,
}

/// The end of a connection whose client may still be uploading: nothing more is written, and what
/// comes is discarded. If bytes were left unread, the system would reset the connection, and many
/// clients then lose the answer that they have already got (RFC 9112 §9.6).
#[derive(Debug)]
struct Linger {
    until: Pin<Box<Sleep>>,
    left: usize,
}

impl Linger {
    fn begin() -> Self {
        Self { until: Box::pin(sleep(LINGER_TIME)), left: LINGER_BYTES }
    }

    /// Reads until the client has ended, or for as long as it is waited for.
    fn poll(&mut self, socket: &mut TcpStream, context: &mut Context<'_>) -> Poll<()> {
        let mut piece = [0; PIECE];
        while self.left > 0 && self.until.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut piece);
            let read = ready!(Pin::new(&mut *socket).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            self.left = self.left.saturating_sub(buffer.filled().len());
        }
        Poll::Ready(())
    }
}

impl Watched {
    pub(crate) const fn new(socket: Socket, vitals: Arc<Vitals>) -> Self {
        Self { socket, vitals, linger: None }
    }

    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        match &written {
            Poll::Ready(_) => self.vitals.unblocked(),
            Poll::Pending => self.vitals.blocked(),
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Socket::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if read.is_ready() {
            self.vitals.read();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_write_vectored(context, pieces),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        };
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(socket) => socket.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_flush(context),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(context),
        };
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, vitals, linger } = &mut *self;
        let linger = match linger {
            Some(linger) => linger,
            None => {
                ready!(match socket {
                    Socket::Plain(socket) => Pin::new(socket).poll_shutdown(context),
                    Socket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
                })?;
                if !vitals.is_uploading() {
                    return Poll::Ready(Ok(()));
                }
                linger.insert(Linger::begin())
            }
        };
        let socket = match socket {
            Socket::Plain(socket) => socket,
            Socket::Tls(stream) => stream.get_mut().0,
        };
        linger.poll(socket, context).map(Ok)
    }
}
