//! The egress process: questions in, streams out, bytes through.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};

use crate::confine::Prepared;
use crate::ctx::EgressRefusal;
use crate::spec::Layers;
use crate::wire;

use super::gate::{self, Passed, Resolver, Search};
use super::rate::Rates;
use super::relay::Relay;
use super::rule::Host;
use super::{Answer, Ask, EgressPolicy, MAX_ASK_BYTES, UnlistedHost, confine};

// BOUND: connections of one worker at the same time; a call uses one or two.
const MAX_CONNECTIONS: usize = 8;

/// Serves one worker until it is gone. Called in a process that has just been copied from the launcher.
pub(crate) fn serve(
    policy: &EgressPolicy,
    layers: Layers,
    prepared: &Prepared,
    channel: BorrowedFd<'_>,
    notes: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    // An egress process that cannot be confined ends here; its worker then cannot ask anybody.
    confine::enter(policy, layers, prepared).map_err(io::Error::other)?;
    let mut service = Service {
        policy,
        notes,
        rates: Rates::new(policy.rate),
        relays: VecDeque::new(),
    };
    loop {
        let is_asked = service.wait(channel)?;
        service
            .relays
            .retain_mut(|relay| relay.step().is_ok_and(|goes_on| goes_on));
        if is_asked && !service.answer(channel)? {
            return Ok(());
        }
    }
}

struct Service<'a> {
    policy: &'a EgressPolicy,
    /// Where notes of audit mode go.
    notes: Option<BorrowedFd<'a>>,
    rates: Rates,
    relays: VecDeque<Relay>,
}

impl Service<'_> {
    /// Waits until a relay can go on or a question has come; says which.
    fn wait(&self, channel: BorrowedFd<'_>) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(&channel, PollFlags::IN)];
        for relay in &self.relays {
            fds.extend(relay.interests());
        }
        match poll(&mut fds, None) {
            Ok(_) => Ok(!fds[0].revents().is_empty()),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes and answers one question; `false` when the worker is gone.
    fn answer(&mut self, channel: BorrowedFd<'_>) -> io::Result<bool> {
        let mut message = [0; MAX_ASK_BYTES];
        let (read, length) = match recv(
            channel,
            &mut message,
            RecvFlags::DONTWAIT | RecvFlags::TRUNC,
        ) {
            Err(Errno::INTR | Errno::AGAIN) => return Ok(true),
            other => other?,
        };
        if length == 0 {
            return Ok(false);
        }
        // A question that is not one comes from a worker that runs foreign code; it gets no second one.
        if length > read {
            return Err(wire::BadFrame::Malformed.into());
        }
        let ask: Ask = wire::decode(&message[..read])?;
        let (result, stream) = match self.connect(&ask) {
            Ok(stream) => (Ok(()), Some(stream)),
            Err(refusal) => (Err(refusal), None),
        };
        send(channel, &Answer { id: ask.id, result }, stream.as_ref())?;
        Ok(true)
    }

    fn connect(&mut self, ask: &Ask) -> Result<UnixStream, EgressRefusal> {
        let deadline = Instant::now() + ask.time_left;
        if self.relays.len() >= MAX_CONNECTIONS {
            return Err(EgressRefusal::Refused(format!(
                "{MAX_CONNECTIONS} connections are open already; close one first"
            )));
        }
        let Passed { host, is_listed } = gate::allow(self.policy, &ask.host, ask.port)?;
        // Counted when the host has passed the allowlist and before anything is sent anywhere.
        self.rates
            .take(&host.to_string(), Instant::now())
            .map_err(EgressRefusal::RateLimited)?;
        if !is_listed {
            note(self.notes, &host, ask.port)?;
        }
        let addresses = gate::vet(self.policy, &host, ask.port, &mut SystemResolver)?;
        let outside = dial(&host, &addresses, deadline)?;
        let connected = || -> io::Result<(Relay, UnixStream)> {
            let (ours, theirs) = UnixStream::pair()?;
            Ok((Relay::new(ours, outside)?, theirs))
        };
        let (relay, stream) = connected().map_err(|error| {
            EgressRefusal::Unreachable(format!("make a stream to the worker: {error}"))
        })?;
        self.relays.push_back(relay);
        Ok(stream)
    }
}

/// Writes the note that is due for a host on no list. What cannot be noted does not pass.
fn note(notes: Option<BorrowedFd<'_>>, host: &Host, port: u16) -> Result<(), EgressRefusal> {
    let failed = |error: io::Error| {
        EgressRefusal::Refused(format!(
            "{host} port {port} is not on the list of allowed hosts, and audit mode could not note it: {error}"
        ))
    };
    let notes = notes.ok_or_else(|| failed(io::ErrorKind::NotConnected.into()))?;
    let message = wire::encode(&UnlistedHost {
        host: host.to_string(),
        port,
    })
    .map_err(failed)?;
    rustix::net::send(notes, &message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
        .map(drop)
        .map_err(|error| failed(error.into()))
}

struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&mut self, name: &str, search: Search) -> io::Result<Vec<IpAddr>> {
        let name = match search {
            Search::HostsFileAndDomains => name.to_owned(),
            // The dot at the end keeps the system from trying its search domains, which would be other names.
            Search::ExactName => format!("{name}."),
        };
        Ok((name.as_str(), 0)
            .to_socket_addrs()?
            .map(|address| address.ip())
            .collect())
    }
}

/// Connects to the first address that answers.
fn dial(
    host: &Host,
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<TcpStream, EgressRefusal> {
    let mut last = None;
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(EgressRefusal::TimedOut);
        }
        match TcpStream::connect_timeout(address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(EgressRefusal::TimedOut);
            }
            Err(error) => last = Some(error),
        }
    }
    let why = last.map_or_else(|| "it has no address".to_owned(), |error| error.to_string());
    Err(EgressRefusal::Unreachable(format!(
        "connect to {host}: {why}"
    )))
}

fn send(channel: BorrowedFd<'_>, answer: &Answer, stream: Option<&UnixStream>) -> io::Result<()> {
    let message = wire::encode(answer)?;
    let handles: Vec<BorrowedFd<'_>> = stream.iter().map(|stream| stream.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !handles.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&handles)) {
        return Err(Errno::NOBUFS.into());
    }
    sendmsg(
        channel,
        &[IoSlice::new(&message)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}
