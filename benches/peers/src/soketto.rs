//! soketto: as its example has it, with a buffered reader and writer.

use std::io;
use std::net::TcpListener;

use futures_util::io::{BufReader, BufWriter};
use soketto::handshake::Server;
use soketto::handshake::server::Response;
use soketto::{BoxedError, Incoming};
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

pub(crate) async fn serve(listener: TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            let _ended = echo(socket).await;
        });
    }
}

async fn echo(socket: TcpStream) -> Result<(), BoxedError> {
    let mut server = Server::new(BufReader::new(BufWriter::new(socket.compat())));
    let key = server.receive_request().await?.key();
    let accept = Response::Accept {
        key,
        protocol: None,
    };
    server.send_response(&accept).await?;
    let (mut sender, mut receiver) = server.into_builder().finish();
    let mut message = Vec::new();
    loop {
        message.clear();
        match receiver.receive(&mut message).await? {
            Incoming::Data(data) if data.is_text() => {
                sender.send_text(std::str::from_utf8(&message)?).await?;
            }
            Incoming::Data(_) => sender.send_binary_mut(&mut message).await?,
            Incoming::Pong(_) => continue,
            Incoming::Closed(_) => return Ok(()),
        }
        sender.flush().await?;
    }
}
