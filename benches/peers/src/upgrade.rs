//! The opening handshake by hand, for servers that bring none: it trusts the client, which is ours.
//! It must never be used for anything but this comparison.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The answer to a request head, once that is complete; what came behind it is not looked at, since
/// the client waits for the answer.
pub(crate) fn answer(head: &[u8]) -> Option<String> {
    if !head.ends_with(b"\r\n\r\n") {
        return None;
    }
    let text = String::from_utf8_lossy(head);
    let key = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key")
            .then(|| value.trim().to_owned())
    });
    let accept = derive_accept_key(key.unwrap_or_default().as_bytes());
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ))
}

/// The same, on a socket of tokio.
pub(crate) async fn accept(socket: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    loop {
        if socket.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(answer) = answer(&head) {
            return socket.write_all(answer.as_bytes()).await;
        }
    }
}
