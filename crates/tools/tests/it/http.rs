//! `http` against servers on loopback, through an egress that records what it is asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use otto_sandbox::{
    ByteStream, Egress, EgressRefusal, FailureKind, RefusedBy, ToolFailure, WorkerAnswer,
    WorkerCtx, WorkerRequest,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

const AUTHORITY: &str = include_str!("../samples/test_authority.pem");
const CERTIFICATE: &str = include_str!("../samples/secure_test.pem");
const KEY: &str = include_str!("../samples/secure_test_key.pem");

/// A server that gives its answers one after the other, each on a connection of its own, and keeps what it was sent.
struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<()>,
}

impl Server {
    fn new(answers: Vec<String>, tls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                // Bounded, so that a failing test ends.
                stream
                    .set_read_timeout(Some(Duration::from_secs(20)))
                    .unwrap();
                let request = if tls {
                    let certificate =
                        CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
                    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
                    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                    let config = rustls::ServerConfig::builder_with_provider(provider)
                        .with_safe_default_protocol_versions()
                        .unwrap()
                        .with_no_client_auth()
                        .with_single_cert(vec![certificate], key)
                        .unwrap();
                    let connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
                    serve(&mut rustls::StreamOwned::new(connection, stream), &answer)
                } else {
                    let request = serve(&mut &stream, &answer);
                    let _ = stream.shutdown(Shutdown::Write);
                    request
                };
                keep.lock().unwrap().push(request);
            }
        });
        Self { port, seen, thread }
    }

    fn end(self) -> Vec<String> {
        self.thread.join().unwrap();
        self.seen.lock().unwrap().clone()
    }
}

fn serve(stream: &mut (impl Read + Write), answer: &str) -> String {
    let mut request = String::new();
    let mut length = 0;
    {
        let mut reader = BufReader::new(&mut *stream);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return request;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            let ended = line == "\r\n";
            request.push_str(&line);
            if ended {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        request.push_str(&String::from_utf8(body).unwrap());
    }
    let _ = stream.write_all(answer.as_bytes());
    let _ = stream.flush();
    request
}

/// Dials loopback for the names it knows and refuses the others.
struct TestEgress {
    ports: BTreeMap<&'static str, u16>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Egress for TestEgress {
    fn connect(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Box<dyn ByteStream>, EgressRefusal> {
        self.asked.lock().unwrap().push(format!("{host}:{port}"));
        if host == "slow.test" {
            return Err(EgressRefusal::RateLimited(Duration::from_millis(250)));
        }
        let Some(port) = self.ports.get(host) else {
            return Err(EgressRefusal::Refused(format!(
                "`{host}` is not on the allowlist"
            )));
        };
        let stream = TcpStream::connect(("127.0.0.1", *port))
            .map_err(|error| EgressRefusal::Unreachable(error.to_string()))?;
        let mut stream = Dialled(stream);
        stream.set_deadline(deadline).unwrap();
        Ok(Box::new(stream))
    }
}

struct Dialled(TcpStream);

impl Read for Dialled {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Dialled {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl ByteStream for Dialled {
    fn set_deadline(&mut self, deadline: Instant) -> std::io::Result<()> {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        self.0.set_read_timeout(Some(left))
    }
}

struct Outcome {
    answer: Result<String, ToolFailure>,
    asked: Vec<String>,
}

fn call(ports: &[(&'static str, u16)], input: Value, settings: Option<Value>) -> Outcome {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let egress = TestEgress {
        ports: ports.iter().copied().collect(),
        asked: Arc::clone(&asked),
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    let ctx = WorkerCtx {
        egress: Some(Box::new(egress)),
        ..WorkerCtx::compute(deadline)
    };
    let request = WorkerRequest {
        tool: "http".to_owned(),
        input: input.to_string(),
        settings: settings.map(|settings| settings.to_string()),
        max_output_bytes: 8 * 1024 * 1024,
        time_left: Duration::from_secs(20),
        exec: None,
        takes_files: false,
    };
    let answer = match otto_tools::dispatch(&ctx, &request) {
        WorkerAnswer::Done { content } => Ok(content),
        WorkerAnswer::Failed(failure) => Err(failure),
        WorkerAnswer::Exec(_) | WorkerAnswer::HandedOver { .. } => {
            panic!("http runs no programs and opens no files")
        }
    };
    let asked = asked.lock().unwrap().clone();
    Outcome { answer, asked }
}

fn reply(head: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn get_and_post_over_plain_text() {
    let server = Server::new(
        vec![
            reply(
                "200 OK\r\nContent-Type: text/plain\r\nX-Other: 1",
                "hello\n",
            ),
            reply("404 Not Found\r\nX-Other: 1", "no\u{1b}[2J"),
        ],
        false,
    );
    let ports = [("plain.test", server.port)];
    let got = call(
        &ports,
        json!({"url": "http://plain.test/a?b=c", "headers": {"Accept": "text/plain"}}),
        None,
    );
    assert_eq!(
        got.answer.unwrap(),
        "HTTP 200 OK\ncontent-type: text/plain\ncontent-length: 6\n\nhello\n"
    );
    assert_eq!(got.asked, ["plain.test:80"]);
    let posted = call(
        &ports,
        json!({"url": "http://plain.test/", "method": "POST", "json": {"z": 1, "a": 2}, "all_headers": true}),
        None,
    );
    assert_eq!(
        posted.answer.unwrap(),
        "HTTP 404 Not Found\nx-other: 1\ncontent-length: 6\n\nno\\u{1b}[2J\n[http: 1 hidden character written out as \\u{...}]"
    );
    let seen = server.end();
    assert!(
        seen[0].starts_with("GET /a?b=c HTTP/1.1\r\nHost: plain.test\r\n")
            && seen[0].contains("Accept: text/plain\r\n"),
        "{}",
        seen[0]
    );
    assert!(
        seen[1].contains("Content-Type: application/json\r\n")
            && seen[1].ends_with("\r\n\r\n{\"a\":2,\"z\":1}"),
        "{}",
        seen[1]
    );
}

#[test]
fn tls_is_checked_and_keys_stay_hidden() {
    let server = Server::new(
        vec![reply("200 OK", "you sent Bearer the-secret-key")],
        true,
    );
    let settings = json!({"trusted_pem": AUTHORITY, "headers": {"secure.test": {"Authorization": "Bearer the-secret-key"}}});
    // The model cannot replace what the operator sets.
    let input = json!({"url": "https://secure.test/", "headers": {"authorization": "Bearer mine"}});
    let answer = call(&[("secure.test", server.port)], input, Some(settings))
        .answer
        .unwrap();
    assert_eq!(
        answer,
        "HTTP 200 OK\ncontent-length: 30\n\nyou sent [redacted]"
    );
    let seen = server.end();
    assert!(
        seen[0].contains("Authorization: Bearer the-secret-key\r\n") && !seen[0].contains("mine"),
        "{}",
        seen[0]
    );

    // Nobody vouches for the certificate, or it is for another name: not a byte of the request is sent.
    for (host, trusted) in [
        ("secure.test", None),
        ("other.test", Some(json!({"trusted_pem": AUTHORITY}))),
    ] {
        let server = Server::new(vec![reply("200 OK", "x")], true);
        let failure = call(
            &[(host, server.port)],
            json!({"url": format!("https://{host}/")}),
            trusted,
        )
        .answer
        .unwrap_err();
        assert!(
            failure.message.contains("certificate"),
            "{}",
            failure.message
        );
        assert_eq!(server.end(), [""]);
    }
}

#[test]
fn keys_are_not_sent_without_tls_or_to_another_host() {
    let other = Server::new(vec![reply("200 OK", "there")], false);
    let first = Server::new(
        vec![reply(
            &format!("302 Found\r\nLocation: http://other.test:{}/x", other.port),
            "",
        )],
        false,
    );
    let settings = json!({"headers": {"first.test": {"X-Api-Key": "the-secret-key"}, "other.test": {"X-Api-Key": "the-secret-key"}}});
    let input =
        json!({"url": "http://first.test/", "headers": {"Authorization": "mine", "X-Trace": "1"}});
    let got = call(
        &[("first.test", first.port), ("other.test", other.port)],
        input,
        Some(settings),
    );
    assert!(
        got.answer
            .unwrap()
            .contains("[http: 1 redirect to `http://other.test:"),
        "the redirect is shown"
    );
    let (first, other) = (first.end(), other.end());
    assert!(
        !first[0].contains("the-secret-key") && first[0].contains("Authorization: mine"),
        "{}",
        first[0]
    );
    assert!(
        !other[0].contains("the-secret-key") && !other[0].contains("Authorization"),
        "{}",
        other[0]
    );
    assert!(other[0].contains("X-Trace: 1"), "{}", other[0]);
}

#[test]
fn every_redirect_passes_egress_again() {
    for location in [
        "http://evil.test/",
        "http://169.254.169.254/latest/meta-data/",
        "//evil.test/",
        "https://evil.test:8443/x",
    ] {
        let server = Server::new(
            vec![reply(&format!("302 Found\r\nLocation: {location}"), "")],
            false,
        );
        let got = call(
            &[("plain.test", server.port)],
            json!({"url": "http://plain.test/"}),
            None,
        );
        let failure = got.answer.unwrap_err();
        assert_eq!(
            failure.kind,
            FailureKind::Denied(RefusedBy::Egress),
            "{}",
            failure.message
        );
        assert_eq!(got.asked.len(), 2, "{location}");
        server.end();
    }
    // What is no URL of HTTP does not even get there.
    for location in [
        "file:///etc/passwd",
        "gopher://plain.test/",
        "http://u:p@plain.test/",
    ] {
        let server = Server::new(
            vec![reply(&format!("302 Found\r\nLocation: {location}"), "")],
            false,
        );
        let got = call(
            &[("plain.test", server.port)],
            json!({"url": "http://plain.test/"}),
            None,
        );
        assert!(got.answer.unwrap_err().message.contains("was not followed"));
        assert_eq!(got.asked.len(), 1, "{location}");
        server.end();
    }
    let server = Server::new(vec![reply("302 Found\r\nLocation: /again", ""); 6], false);
    let got = call(
        &[("plain.test", server.port)],
        json!({"url": "http://plain.test/"}),
        None,
    );
    assert!(
        got.answer
            .unwrap_err()
            .message
            .contains("more than 5 redirects")
    );
    assert_eq!(got.asked.len(), 6);
    server.end();
}

#[test]
fn a_post_is_redirected_by_the_rules() {
    let server = Server::new(
        vec![
            reply("303 See Other\r\nLocation: /done", ""),
            reply("200 OK", "done"),
        ],
        false,
    );
    let input = json!({"url": "http://plain.test/form", "method": "POST", "body": "a=b"});
    call(&[("plain.test", server.port)], input.clone(), None)
        .answer
        .unwrap();
    let seen = server.end();
    assert!(
        seen[1].starts_with("GET /done ")
            && !seen[1].contains("a=b")
            && !seen[1].contains("Content-Type"),
        "{}",
        seen[1]
    );
    let server = Server::new(
        vec![
            reply("307 Temporary\r\nLocation: /there", ""),
            reply("200 OK", "done"),
        ],
        false,
    );
    call(&[("plain.test", server.port)], input.clone(), None)
        .answer
        .unwrap();
    assert!(server.end()[1].ends_with("\r\n\r\na=b"));
    // A body is not carried to another host.
    let server = Server::new(
        vec![reply("307 Temporary\r\nLocation: http://other.test/", "")],
        false,
    );
    let got = call(
        &[("plain.test", server.port), ("other.test", 1)],
        input,
        None,
    );
    assert_eq!(
        got.answer.unwrap_err().kind,
        FailureKind::Denied(RefusedBy::Policy)
    );
    assert_eq!(got.asked, ["plain.test:80"]);
    server.end();
}

#[test]
fn bad_requests_reach_nobody() {
    for (input, part) in [
        (json!({"url": "plain.test"}), "does not begin with"),
        (json!({"url": "https://good.test@evil.test/"}), "user name"),
        (
            json!({"url": "http://plain.test/", "body": "x"}),
            "GET has no body",
        ),
        (
            json!({"url": "http://plain.test/", "method": "DELETE"}),
            "unknown variant",
        ),
        (
            json!({"url": "http://plain.test/", "method": "POST", "body": "x", "json": 1}),
            "not both",
        ),
        (
            json!({"url": "http://plain.test/", "method": "POST", "body": "x".repeat(2_000_000)}),
            "more than the limit",
        ),
        (
            json!({"url": "http://plain.test/", "headers": {"Host": "evil"}}),
            "set by the tool itself",
        ),
        (
            json!({"url": "http://plain.test/", "headers": {"A": "b\r\nC: d"}}),
            "line break",
        ),
        (
            json!({"url": "http://plain.test/", "timeout_s": 0}),
            "from 1 to 120",
        ),
        (
            json!({"url": "http://plain.test/", "timeout_s": 999}),
            "from 1 to 120",
        ),
    ] {
        let got = call(&[], input, None);
        let failure = got.answer.unwrap_err();
        assert!(failure.message.contains(part), "{}", failure.message);
        assert!(got.asked.is_empty());
    }
    let refused = call(&[], json!({"url": "https://other.test:8443/x"}), None)
        .answer
        .unwrap_err();
    assert_eq!(refused.kind, FailureKind::Denied(RefusedBy::Egress));
    assert_eq!(
        refused.message,
        "connect to `other.test:8443`: `other.test` is not on the allowlist"
    );
    let limited = call(&[], json!({"url": "http://slow.test/"}), None)
        .answer
        .unwrap_err();
    assert!(
        limited.kind == FailureKind::ForModel && limited.message.contains("250 ms"),
        "{}",
        limited.message
    );
    for settings in [
        json!({"headers": {"a": {"Host": "b"}}}),
        json!({"trusted_pem": "nonsense"}),
        json!({"unknown": 1}),
    ] {
        let failure = call(&[], json!({"url": "http://plain.test/"}), Some(settings))
            .answer
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::ForOperator);
    }
}

#[test]
fn large_binary_and_silent_answers_are_bounded() {
    let server = Server::new(
        vec![reply("200 OK", &"x".repeat(5_000)), reply("200 OK", "a\0b")],
        false,
    );
    let ports = [("plain.test", server.port)];
    let input = json!({"url": "http://plain.test/"});
    let cut = call(&ports, input.clone(), Some(json!({"max_bytes": 100})))
        .answer
        .unwrap();
    assert!(
        cut.ends_with(&format!(
            "\n\n{}\n[http: the body is cut at 100 bytes]",
            "x".repeat(100)
        )),
        "{cut}"
    );
    let binary = call(&ports, input.clone(), None).answer.unwrap();
    assert!(
        binary.ends_with("[http: the body is not text: 3 bytes]"),
        "{binary}"
    );
    server.end();
    // A server that accepts and says nothing: the call ends at its own time limit.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let failure = call(
        &[("plain.test", port)],
        json!({"url": "http://plain.test/", "timeout_s": 1}),
        None,
    )
    .answer
    .unwrap_err();
    assert_eq!(failure.kind, FailureKind::TimedOut, "{}", failure.message);
}

#[test]
fn without_egress_there_is_no_network() {
    let ctx = WorkerCtx::compute(Instant::now() + Duration::from_secs(5));
    let request = WorkerRequest {
        tool: "http".to_owned(),
        input: json!({"url": "http://127.0.0.1/"}).to_string(),
        settings: None,
        max_output_bytes: 1_000,
        time_left: Duration::from_secs(5),
        exec: None,
        takes_files: false,
    };
    let WorkerAnswer::Failed(failure) = otto_tools::dispatch(&ctx, &request) else {
        panic!("it went out")
    };
    assert_eq!(failure.kind, FailureKind::Denied(RefusedBy::Policy));
}
