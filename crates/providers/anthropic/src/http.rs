//! The HTTP client behind the calls.
//!
//! Built at the first call, not at the start: loading the system's certificates takes longer than everything
//! else Otto does before its first request. HTTP/2 is used where it is offered; redirects are never followed,
//! nothing is retried, nothing is decompressed. Idle connections are dropped before a server or a firewall
//! in between forgets them, and dead ones are noticed by keep-alives and the kernel's own timeout.
//!
//! Invariant: a request goes to the configured endpoint or nowhere.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use otto_core::invocation::{Billing, ModelFailure, ModelFailureKind};
use reqwest::{Client, ClientBuilder, Proxy, redirect, retry};
use tokio::sync::OnceCell;

use crate::config::{AnthropicConfig, ConfigError, ProxySource};
use crate::failure::without_response;
use crate::mask::Masker;

/// How long a connection stays open without a call.
const POOL_IDLE: Duration = Duration::from_secs(45);

/// How often an idle peer is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How long sent bytes may stay unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// The client, built when it is first needed.
pub(crate) struct Http {
    is_local: bool,
    connect_timeout: Duration,
    proxy: ProxySource,
    client: OnceCell<Client>,
}

impl Http {
    pub(crate) fn new(config: &AnthropicConfig) -> Result<Self, ConfigError> {
        if let ProxySource::Url(url) = &config.proxy {
            let is_usable = matches!(url.scheme(), "http" | "https") && url.has_host();
            if !is_usable || Proxy::all(url.clone()).is_err() {
                return Err(ConfigError::InvalidProxy);
            }
        }
        Ok(Self {
            is_local: config.is_loopback_plaintext(),
            connect_timeout: config.connect_timeout,
            proxy: config.proxy.clone(),
            client: OnceCell::new(),
        })
    }

    /// The client. Certificates are read on a thread for blocking work.
    pub(crate) async fn client(&self, masker: &Masker) -> Result<&Client, ModelFailure> {
        let build = || async {
            let builder = self.builder();
            if self.needs_certificates() {
                tokio::task::spawn_blocking(|| builder.build().map_err(|error| chain(&error)))
                    .await
                    .unwrap_or_else(|error| Err(error.to_string()))
            } else {
                builder.build().map_err(|error| chain(&error))
            }
        };
        self.client.get_or_try_init(build).await.map_err(|how| {
            let message = masker.clean(&format!(
                "cannot set up TLS: {how}; are the system's certificates installed?"
            ));
            let mut failure =
                without_response(ModelFailureKind::Unreachable, &message, Billing::NotBilled);
            failure.should_retry = Some(false);
            failure
        })
    }

    fn builder(&self) -> ClientBuilder {
        let builder = Client::builder()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEP_ALIVE)
            .tcp_keepalive_interval(KEEP_ALIVE)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(UNACKNOWLEDGED);
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "fuchsia"))]
        let builder = builder.tcp_user_timeout(UNACKNOWLEDGED);
        let builder = match &self.proxy {
            // The key would leave the machine in the clear.
            ProxySource::Environment if self.is_local => builder.no_proxy(),
            ProxySource::Environment => builder,
            ProxySource::None => builder.no_proxy(),
            ProxySource::Url(url) => match Proxy::all(url.clone()) {
                Ok(proxy) => builder.proxy(proxy),
                Err(_) => builder.no_proxy(),
            },
        };
        if self.is_local {
            // Whatever a resolver says, this name means this machine.
            let addresses = [
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ];
            let addresses = addresses.map(|address| SocketAddr::new(address, 0));
            let builder = builder.resolve_to_addrs("localhost", &addresses);
            if self.needs_certificates() {
                builder
            } else {
                builder.tls_certs_only([])
            }
        } else {
            builder
        }
    }

    /// Whether a call can lead to a TLS server.
    fn needs_certificates(&self) -> bool {
        !self.is_local || matches!(&self.proxy, ProxySource::Url(url) if url.scheme() == "https")
    }
}

/// An error with all its causes, without the URL and without repetitions.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    // BOUND: no honest chain of causes is longer.
    const MAX_CAUSES: usize = 10;
    let mut text = String::new();
    let mut next = Some(error);
    for _ in 0..MAX_CAUSES {
        let Some(error) = next else { break };
        let cause = error.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
        next = error.source();
    }
    text
}
