//! New TCP connections: a byte there, a byte back, and gone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{runtime, say_ready};

/// What all clients together have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Connected {
    /// Connections over which a byte came back.
    pub(crate) connected: u64,
    /// Those that were refused, reset, or took longer than the rest of the time.
    pub(crate) failed: u64,
    /// How long the clients went on.
    pub(crate) seconds: f64,
}

/// Answers one byte on each connection, for ever.
///
/// # Errors
/// What the system says at the start.
pub(crate) fn accept(port: u16) -> io::Result<()> {
    runtime()?.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
        let listener = socket.listen(4_096)?;
        say_ready()?;
        serve(listener).await
    })
}

async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if receive(&stream).await.is_ok() && send(&stream).await.is_ok() {
                    // The client closes first, and its reset leaves nothing behind.
                    let _ = receive(&stream).await;
                }
            });
        }
    }
}

/// Lets so many clients connect one time after the other, for that long.
///
/// # Errors
/// What the system says at the start.
pub(crate) fn connect(to: SocketAddr, clients: usize, length: Duration) -> io::Result<Connected> {
    runtime()?.block_on(async {
        let begun = Instant::now();
        let end = begun + length;
        let mut all = JoinSet::new();
        for _ in 0..clients {
            all.spawn(client(to, end));
        }
        let mut sum = Connected::default();
        while let Some(one) = all.join_next().await {
            let one = one.unwrap_or_default();
            sum.connected += one.connected;
            sum.failed += one.failed;
        }
        sum.seconds = begun.elapsed().as_secs_f64();
        Ok(sum)
    })
}

async fn client(to: SocketAddr, end: Instant) -> Connected {
    let mut count = Connected::default();
    while Instant::now() < end {
        match tokio::time::timeout_at(end.into(), exchange(to)).await {
            Ok(Ok(())) => count.connected += 1,
            Ok(Err(_)) => count.failed += 1,
            // Cut off by the end of the time, which says nothing of it.
            Err(_) => break,
        }
    }
    count
}

/// Closed by a reset, so that no port waits a minute for late segments: at these rates they would
/// run out.
async fn exchange(to: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    stream.set_zero_linger()?;
    send(&stream).await?;
    receive(&stream).await
}

/// Sends one byte.
async fn send(stream: &TcpStream) -> io::Result<()> {
    loop {
        stream.writable().await?;
        match stream.try_write(&[1]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done.map(|_| ()),
        }
    }
}

/// Receives one byte.
async fn receive(stream: &TcpStream) -> io::Result<()> {
    loop {
        stream.readable().await?;
        match stream.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            done => return done.map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_connect_again_and_again_and_what_is_refused_is_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            runtime().unwrap().block_on(async {
                serve(TcpListener::from_std(listener).unwrap())
                    .await
                    .unwrap();
            });
        });
        let done = connect(address, 2, Duration::from_millis(300)).unwrap();
        assert!(done.connected > 0 && done.failed == 0, "{done:?}");
        // Port 1 of the loopback: nobody listens (RFC 1078's tcpmux is long gone).
        let refused =
            connect("127.0.0.1:1".parse().unwrap(), 1, Duration::from_millis(50)).unwrap();
        assert!(refused.connected == 0 && refused.failed > 0, "{refused:?}");
    }
}
