//! Frames of HTTP/2, written and read by hand (RFC 9113 §4.1).

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::PATIENCE;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// Returns a frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Reads a frame: its kind, its stream and its length.
pub(super) async fn next(socket: &mut TcpStream) -> (u8, u32, usize) {
    try_next(socket).await.unwrap()
}

/// The same, unless the gateway hangs up.
pub(super) async fn try_next(socket: &mut TcpStream) -> io::Result<(u8, u32, usize)> {
    let reading = async {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        socket.read_exact(&mut vec![0; length]).await?;
        Ok((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), length))
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("a frame comes")
}
