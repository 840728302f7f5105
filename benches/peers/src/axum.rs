//! axum: its `WebSocketUpgrade`, as its example has it, and with small buffers.

use std::io;
use std::net::TcpListener;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::routing::any;
use axum::serve::ListenerExt as _;

pub(crate) async fn serve(listener: TcpListener, buffer_bytes: Option<usize>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|socket| {
        let _best_effort = socket.set_nodelay(true);
    });
    let upgrade = move |upgrade: WebSocketUpgrade| async move {
        match buffer_bytes {
            Some(bytes) => upgrade.read_buffer_size(bytes).write_buffer_size(bytes),
            None => upgrade,
        }
        .on_upgrade(echo)
    };
    axum::serve(listener, Router::new().fallback(any(upgrade))).await
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
        if is_data && socket.send(message).await.is_err() {
            return;
        }
    }
}
