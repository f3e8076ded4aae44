//! One connection: HTTP over a socket whose client may be slow, but not for long.
//!
//! HTTP itself is left to hyper, with a bound on the size and the time of a request's head. What hyper does not
//! bound is a client that does not read what it is sent: the socket does.
//!
//! Invariant: a connection that makes no progress ends within its bounds, whatever the client does.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::Service;

use crate::config::Bounds;
use crate::server::stopped;

/// BOUND: the head of a request, and what is kept of a response that its client does not read.
const BUFFER_BYTES: usize = 64 * 1024;
/// BOUND: header lines of a request.
const MAX_HEADERS: usize = 64;
/// BOUND: how long a client that is turned away may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves one connection to its end; once `stop` holds `true`, to the end of the response that is under way.
pub(crate) async fn serve(
    stream: TcpStream,
    router: Router,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    // Events are small writes; without this they would wait for acknowledgements.
    let _ = stream.set_nodelay(true);
    let socket = TokioIo::new(Watched::new(stream, bounds.unread));
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        // A router is always ready.
        router.clone().call(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(socket, service);
    tokio::pin!(connection);
    // How it ended says nothing to anybody: clients leave as they like.
    tokio::select! {
        _ = &mut connection => {}
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Tells a client that there is no room, in a form that it can read.
pub(crate) async fn turn_away(mut stream: TcpStream) {
    let body = "{\"type\":\"urn:otto:problem:busy\",\"title\":\"Service Unavailable\",\"status\":503,\
                \"detail\":\"the server has as many connections as it takes; try again soon\"}";
    let response = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let told = async {
        stream.write_all(response.as_bytes()).await?;
        stream.shutdown().await?;
        // Closed with unread bytes, the socket would be reset and the client would never see the answer.
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether it listened is its own matter.
    let _ = timeout(FAREWELL, told).await;
}

/// A socket that fails when its peer does not take what is written to it.
struct Watched<S> {
    stream: S,
    patience: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    const fn new(stream: S, patience: Duration) -> Self {
        Self {
            stream,
            patience,
            waiting: None,
        }
    }

    /// Passes the answer of a write on, unless it has been waited for too long.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let patience = self.patience;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        if waiting.as_mut().poll(cx).is_ready() {
            // Polled again after this, it must not be ready at once for ever.
            waiting.as_mut().reset(Instant::now() + patience);
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client does not read",
            )));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_write_that_nobody_takes_fails_in_time() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut watched = Watched::new(near, Duration::from_millis(10));
        watched.write_all(&[0; 16]).await.unwrap();
        let error = watched.write_all(&[0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // Once it is read again, the wait begins anew.
        let mut taken = [0; 16];
        far.read_exact(&mut taken).await.unwrap();
        watched.write_all(&[0; 16]).await.unwrap();
    }
}
