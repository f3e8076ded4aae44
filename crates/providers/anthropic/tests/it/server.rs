//! A server that sends what it is told, byte for byte, and remembers what it got.
//!
//! Each request on any connection takes the next script. A script that does not close leaves the connection
//! open for the next request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What to do after a request came.
#[derive(Clone)]
pub(crate) enum Step {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Send these bytes again and again until the other side closes.
    Flood(Vec<u8>),
    /// Wait for the signal.
    Wait(Arc<Notify>),
    /// Say that this point is reached.
    Signal(Arc<Notify>),
    /// Say nothing more until the other side closes; then signal.
    Hang(Arc<Notify>),
    /// Close the connection.
    Close,
    /// Close it with a reset.
    Reset,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// Counted from zero.
    pub(crate) connection: usize,
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    pub(crate) async fn start(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (log, next) = (received.clone(), Arc::new(AtomicUsize::new(0)));
        let scripts = Arc::new(scripts);
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                tokio::spawn(serve(
                    stream,
                    connection,
                    scripts.clone(),
                    next.clone(),
                    log.clone(),
                ));
            }
        });
        Self { address, received }
    }

    /// A server whose every request gets the same answer.
    pub(crate) async fn always(steps: Vec<Step>) -> Self {
        Self::start(vec![steps; 200]).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    scripts: Arc<Vec<Vec<Step>>>,
    next: Arc<AtomicUsize>,
    log: Arc<Mutex<Vec<Received>>>,
) {
    stream.set_nodelay(true).unwrap();
    while let Some((head, body)) = read_request(&mut stream).await {
        log.lock().unwrap().push(Received {
            connection,
            head,
            body,
        });
        let Some(script) = scripts.get(next.fetch_add(1, Ordering::SeqCst)) else {
            return;
        };
        for step in script {
            match step {
                Step::Send(bytes) => {
                    if stream.write_all(bytes).await.is_err() {
                        return;
                    }
                }
                Step::Flood(bytes) => while stream.write_all(bytes).await.is_ok() {},
                Step::Wait(signal) => signal.notified().await,
                Step::Signal(signal) => signal.notify_one(),
                Step::Hang(closed) => {
                    let mut rest = [0; 64];
                    while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
                    closed.notify_one();
                    return;
                }
                Step::Close => return,
                Step::Reset => {
                    let _ = stream.set_zero_linger();
                    return;
                }
            }
        }
    }
}

/// The next request, or nothing when the other side is done.
async fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length:")
                        .map(|n| n.trim().parse().unwrap())
                })
                .unwrap_or(0);
            let mut body = bytes.split_off(end + 4);
            while body.len() < length {
                match stream.read(&mut chunk).await {
                    Ok(count) if count > 0 => body.extend_from_slice(&chunk[..count]),
                    _ => return None,
                }
            }
            return Some((head, body));
        }
        match stream.read(&mut chunk).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    }
}

/// A whole response with a length.
pub(crate) fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Step {
    let mut text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    Step::Send(format!("{text}\r\n{body}").into_bytes())
}

/// The head of a chunked stream of events.
pub(crate) fn events_head() -> Step {
    Step::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nrequest-id: req_head\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec(),
    )
}

/// One chunk of a chunked body.
pub(crate) fn chunk(bytes: impl AsRef<[u8]>) -> Step {
    let bytes = bytes.as_ref();
    let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    Step::Send(framed)
}

/// The end of a chunked body.
pub(crate) fn last_chunk() -> Step {
    Step::Send(b"0\r\n\r\n".to_vec())
}

/// A whole streamed reply.
pub(crate) fn streamed(body: &str) -> Vec<Step> {
    vec![events_head(), chunk(body), last_chunk()]
}
