//! One HTTP/1.1 request and its answer over a byte stream.
//!
//! One request per connection. Answers are not compressed, because none is asked for, so no few bytes can become many.
//! Whatever can be read in two ways (two lengths, a length beside chunks) is refused.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};

use super::Method;

// BOUND: the status line and all headers of an answer, interim answers included.
const MAX_HEAD_BYTES: u64 = 64 * 1024;

// BOUND: headers of an answer.
const MAX_HEADERS: usize = 200;

// BOUND: the line before a chunk, with its extensions.
const MAX_CHUNK_LINE_BYTES: u64 = 1_024;

// BOUND: answers such as `103 Early Hints` before the real one.
const MAX_INTERIM: usize = 8;

/// What is asked.
pub(super) struct Asked<'a> {
    pub(super) method: Method,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: &'a [u8],
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: String,
    /// Names in lower case, in the order of the answer.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether the body is longer than what was read.
    pub(super) cut: bool,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    Io(io::Error),
    Tls(String),
    /// The server does not speak HTTP as it should.
    Protocol(&'static str),
}

impl Failed {
    pub(super) fn is_timeout(&self) -> bool {
        matches!(self, Self::Io(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock))
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            error if error.is_timeout() => f.write_str("it took longer than the call may"),
            Self::Io(error) => write!(f, "{error}"),
            Self::Tls(reason) => write!(f, "TLS: {reason}"),
            Self::Protocol(reason) => write!(f, "the answer is not valid HTTP: {reason}"),
        }
    }
}

/// Sends the request and reads the answer, with at most `max` bytes of its body.
pub(super) fn run(
    stream: &mut (impl Read + Write),
    asked: &Asked<'_>,
    max: u64,
) -> Result<Answer, Failed> {
    stream.write_all(&head(asked))?;
    stream.write_all(asked.body)?;
    stream.flush()?;
    let mut reader = BufReader::new(stream);
    let mut answer = read_head(&mut reader)?;
    let mut interim = 0;
    while (100..200).contains(&answer.status) {
        interim += 1;
        if interim > MAX_INTERIM || answer.status == 101 {
            return Err(Failed::Protocol("an interim answer that was not asked for"));
        }
        answer = read_head(&mut reader)?;
    }
    if answer
        .header("content-encoding")
        .is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"))
    {
        return Err(Failed::Protocol(
            "the body is compressed although that was not asked for",
        ));
    }
    read_body(&mut reader, &mut answer, max)?;
    Ok(answer)
}

fn head(asked: &Asked<'_>) -> Vec<u8> {
    let method = match asked.method {
        Method::Get => "GET",
        Method::Post => "POST",
    };
    let mut head = format!(
        "{method} {} HTTP/1.1\r\nHost: {}\r\n",
        asked.path, asked.host
    );
    let mut add = |name: &str, value: &str| {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    };
    let has = |wanted: &str| {
        asked
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case(wanted))
    };
    if !has("user-agent") {
        add("User-Agent", concat!("otto/", env!("CARGO_PKG_VERSION")));
    }
    if !has("accept") {
        add("Accept", "*/*");
    }
    add("Accept-Encoding", "identity");
    add("Connection", "close");
    for (name, value) in &asked.headers {
        add(name, value);
    }
    if asked.method == Method::Post {
        add("Content-Length", &asked.body.len().to_string());
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn line(
    reader: &mut impl BufRead,
    left: &mut u64,
    too_long: &'static str,
) -> Result<String, Failed> {
    let mut bytes = Vec::new();
    let read = reader.by_ref().take(*left).read_until(b'\n', &mut bytes)? as u64;
    *left -= read;
    if bytes.pop() != Some(b'\n') {
        return Err(Failed::Protocol(if *left == 0 {
            too_long
        } else {
            "it ends too early"
        }));
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_head(reader: &mut impl BufRead) -> Result<Answer, Failed> {
    let mut left = MAX_HEAD_BYTES;
    let mut next = || line(reader, &mut left, "the headers are too long");
    let status_line = next()?;
    let mut parts = status_line.splitn(3, ' ');
    let version = parts.next().unwrap_or_default();
    let status = parts
        .next()
        .filter(|status| status.len() == 3)
        .and_then(|status| status.parse::<u16>().ok());
    let (true, Some(status @ 100..=599)) = (version == "HTTP/1.1" || version == "HTTP/1.0", status)
    else {
        return Err(Failed::Protocol("the first line is not a status line"));
    };
    let mut answer = Answer {
        status,
        reason: parts.next().unwrap_or_default().to_owned(),
        ..Answer::default()
    };
    loop {
        let line = next()?;
        if line.is_empty() {
            return Ok(answer);
        }
        if answer.headers.len() >= MAX_HEADERS {
            return Err(Failed::Protocol("there are too many headers"));
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(Failed::Protocol("a header without `:`"));
        };
        if name.is_empty() || name.contains([' ', '\t']) {
            return Err(Failed::Protocol("a header with a space in its name"));
        }
        answer
            .headers
            .push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_body(reader: &mut impl BufRead, answer: &mut Answer, max: u64) -> Result<(), Failed> {
    if matches!(answer.status, 204 | 304) {
        return Ok(());
    }
    let lengths: Vec<&str> = values(answer, "content-length");
    let codings: Vec<&str> = values(answer, "transfer-encoding");
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => take(reader, answer, u64::MAX, max),
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => {
            read_chunks(reader, answer, max)
        }
        ([first, rest @ ..], []) if rest.iter().all(|other| other == first) => {
            let is_number = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
            let length = first.parse::<u64>().ok().filter(|_| is_number);
            let length = length.ok_or(Failed::Protocol("the length is not a number"))?;
            take(reader, answer, length, max)?;
            if !answer.cut && (answer.body.len() as u64) < length {
                return Err(Failed::Protocol("the body ends before its length"));
            }
            Ok(())
        }
        _ => Err(Failed::Protocol("it says in two ways how long its body is")),
    }
}

fn values<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    answer
        .headers
        .iter()
        .filter(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
        .collect()
}

/// Reads up to `length` bytes, and no more than fit.
fn take(
    reader: &mut impl BufRead,
    answer: &mut Answer,
    length: u64,
    max: u64,
) -> Result<(), Failed> {
    let room = max - answer.body.len() as u64;
    let wanted = length.min(room + 1);
    let before = answer.body.len();
    let read = reader.by_ref().take(wanted).read_to_end(&mut answer.body);
    match read {
        Ok(_) => {}
        // Many servers close TLS without saying goodbye. Where a length says what is missing, it is noticed there.
        Err(error)
            if error.kind() == io::ErrorKind::UnexpectedEof
                && length == u64::MAX
                && answer.body.len() > before => {}
        Err(error) => return Err(error.into()),
    }
    if answer.body.len() as u64 > max {
        answer
            .body
            .truncate(usize::try_from(max).unwrap_or(usize::MAX));
        answer.cut = true;
    }
    Ok(())
}

fn read_chunks(reader: &mut impl BufRead, answer: &mut Answer, max: u64) -> Result<(), Failed> {
    // BOUND: chunks of one byte would make the lines between them longer than the body.
    let mut lines = max.saturating_mul(8).saturating_add(MAX_CHUNK_LINE_BYTES);
    loop {
        let mut left = MAX_CHUNK_LINE_BYTES.min(lines);
        let size_line = line(reader, &mut left, "a chunk line is too long")?;
        lines = lines.saturating_sub(size_line.len() as u64 + 2);
        let digits = size_line.split(';').next().unwrap_or_default().trim();
        let is_hex = !digits.is_empty()
            && digits.len() <= 16
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = u64::from_str_radix(digits, 16).ok().filter(|_| is_hex);
        let size = size.ok_or(Failed::Protocol("the size of a chunk is not a number"))?;
        if size == 0 {
            return Ok(());
        }
        let before = answer.body.len() as u64;
        take(reader, answer, size, max)?;
        if answer.cut {
            return Ok(());
        }
        if (answer.body.len() as u64) - before < size {
            return Err(Failed::Protocol("the body ends within a chunk"));
        }
        let mut left = 2;
        if !line(reader, &mut left, "a chunk is longer than its size")?.is_empty() {
            return Err(Failed::Protocol("a chunk is longer than its size"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that has written its answer already.
    struct Canned<'a> {
        answer: &'a [u8],
        sent: Vec<u8>,
    }

    impl Read for Canned<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.answer.read(buffer)
        }
    }

    impl Write for Canned<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.sent.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn get(answer: &str, max: u64) -> Result<(Answer, String), String> {
        let mut stream = Canned {
            answer: answer.as_bytes(),
            sent: Vec::new(),
        };
        let asked = Asked {
            method: Method::Get,
            host: "h".to_owned(),
            path: "/p".to_owned(),
            headers: vec![("X".to_owned(), "y".to_owned())],
            body: b"",
        };
        let answer = run(&mut stream, &asked, max).map_err(|error| error.to_string())?;
        Ok((answer, String::from_utf8(stream.sent).unwrap()))
    }

    #[test]
    fn a_request_is_what_servers_expect() {
        let (_, sent) = get("HTTP/1.1 204 No\r\n\r\n", 10).unwrap();
        let expected = format!(
            "GET /p HTTP/1.1\r\nHost: h\r\nUser-Agent: otto/{}\r\nAccept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\nX: y\r\n\r\n",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(sent, expected);
    }

    #[test]
    fn bodies_of_every_kind_are_read() {
        for (answer, body, cut) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                "hello",
                false,
            ),
            ("HTTP/1.0 200 OK\n\nuntil the end", "until the end", false),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
                "hello!",
                false,
            ),
            (
                "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                "ok",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n01234567890123456789012345",
                "01234567890123456789",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\n01234567890123456789012345\r\n0\r\n\r\n",
                "01234567890123456789",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\n01234567890123456789012345",
                "01234567890123456789",
                true,
            ),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
                "",
                false,
            ),
        ] {
            let (read, _) = get(answer, 20).unwrap();
            assert_eq!(
                (String::from_utf8_lossy(&read.body).as_ref(), read.cut),
                (body, cut),
                "{answer}"
            );
        }
    }

    #[test]
    fn answers_that_can_be_read_in_two_ways_are_refused() {
        for answer in [
            "",
            "HTTP/1.1",
            "HTTP/2 200 OK\r\n\r\n",
            "SSH-2.0-x\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 999 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA B: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            "HTTP/1.1 101 Switching\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        ] {
            assert!(get(answer, 100).is_err(), "{answer:?}");
        }
        assert!(
            get(
                &format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(500)),
                10
            )
            .unwrap_err()
            .contains("too many")
        );
        assert!(
            get(
                &format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "b".repeat(100_000)),
                10
            )
            .unwrap_err()
            .contains("too long")
        );
        assert!(get(&"HTTP/1.1 103 x\r\n\r\n".repeat(100), 10).is_err());
        assert!(
            get(&"x".repeat(1_000_000), 10)
                .unwrap_err()
                .contains("too long")
        );
    }
}
