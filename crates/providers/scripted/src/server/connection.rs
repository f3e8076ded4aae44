//! One connection: the socket, its requests one after the other, and the ways it may end.
//!
//! HTTP itself is left to hyper. What a script may want besides (a reset, bytes that are no HTTP) is done to
//! the socket after hyper has let go of it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures_util::task::AtomicWaker;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::{State, route};
use crate::limits;

/// Serves one connection to its end.
pub(super) async fn serve(stream: TcpStream, state: Arc<State>) {
    // Small writes are what a stream consists of; without this they would wait for acknowledgements.
    let _ = stream.set_nodelay(true);
    let control = Arc::new(Control::default());
    let socket = TokioIo::new(Socket {
        stream,
        control: Arc::clone(&control),
    });
    let service = service_fn(|request| {
        Box::pin(route::answer(
            request,
            Arc::clone(&state),
            Arc::clone(&control),
        ))
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIMEOUT);
    let mut connection = builder.serve_connection(socket, service);
    // How it ended says nothing to anybody: clients leave as they like, and faults end it with an error.
    let _ = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let mut stream = connection.into_parts().io.into_inner().stream;
    match control.farewell() {
        Farewell::Close => {
            let _ = stream.shutdown().await;
        }
        Farewell::Reset => {
            let _ = stream.set_zero_linger();
        }
        Farewell::Write(bytes) => {
            let _ = stream.write_all(bytes.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    }
}

/// What the body of a response and the owner of the connection tell each other.
#[derive(Default)]
pub(super) struct Control {
    /// How often everything written so far was handed to the kernel.
    flushes: AtomicU64,
    waiting: AtomicWaker,
    farewell: Mutex<Farewell>,
}

/// What is done to the socket at the end.
#[derive(Default)]
pub(super) enum Farewell {
    #[default]
    Close,
    Reset,
    Write(String),
}

impl Control {
    /// Says how the connection is to end.
    pub(super) fn end_with(&self, farewell: Farewell) {
        *self.lock() = farewell;
    }

    /// How often everything was flushed.
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Acquire)
    }

    /// Wakes `waker` at the next flush.
    pub(super) fn wake_at_flush(&self, waker: &Waker) {
        self.waiting.register(waker);
    }

    fn flushed(&self) {
        self.flushes.fetch_add(1, Ordering::AcqRel);
        self.waiting.wake();
    }

    fn farewell(&self) -> Farewell {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Farewell> {
        // Only whole values are ever assigned.
        self.farewell
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A socket that tells when it was flushed: hyper flushes it when its own buffer is empty.
struct Socket {
    stream: TcpStream,
    control: Arc<Control>,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(result, Poll::Ready(Ok(()))) {
            self.control.flushed();
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
