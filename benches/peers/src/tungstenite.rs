//! tokio-tungstenite: as its examples have it, with buffers of 4 KiB, and with those and one flush
//! for all messages that are there already.

use std::io;
use std::net::TcpListener;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// How it is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    AsShipped,
    SmallBuffers,
    Batching,
}

const BUFFER_BYTES: usize = 4 << 10;

pub(crate) async fn serve(listener: TcpListener, variant: Variant) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            // A client that goes away is none of our business.
            let _ended = echo(socket, variant).await;
        });
    }
}

async fn echo(socket: TcpStream, variant: Variant) -> Result<(), Error> {
    let config = match variant {
        Variant::AsShipped => WebSocketConfig::default(),
        Variant::SmallBuffers | Variant::Batching => WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES),
    };
    let mut socket = tokio_tungstenite::accept_async_with_config(socket, Some(config)).await?;
    if variant == Variant::Batching {
        return echo_in_batches(socket).await;
    }
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn echo_in_batches(mut socket: WebSocketStream<TcpStream>) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        let mut next = Some(message);
        while let Some(message) = next {
            let message = message?;
            if message.is_text() || message.is_binary() {
                socket.feed(message).await?;
            }
            next = socket.next().now_or_never().flatten();
        }
        socket.flush().await?;
    }
    Ok(())
}
