//! TLS over a byte stream: the public authorities, and those the operator adds.

use std::sync::Arc;

use otto_sandbox::ByteStream;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::exchange::Failed;
use super::target::Target;

// BOUND: certificates the operator may add.
const MAX_ADDED: usize = 64;

/// An encrypted stream.
pub(super) type Encrypted = StreamOwned<ClientConnection, Box<dyn ByteStream>>;

/// Wraps a stream. The handshake happens with the first bytes.
pub(super) fn start(
    stream: Box<dyn ByteStream>,
    target: &Target,
    added: Option<&str>,
) -> Result<Encrypted, Failed> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    if let Some(pem) = added {
        for certificate in certificates(pem).map_err(Failed::Tls)? {
            roots
                .add(certificate)
                .map_err(|error| Failed::Tls(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failed::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(target.host.clone())
        .map_err(|error| Failed::Tls(error.to_string()))?;
    let connection = ClientConnection::new(Arc::new(config), name)
        .map_err(|error| Failed::Tls(error.to_string()))?;
    Ok(StreamOwned::new(connection, stream))
}

/// Checks certificates when configuration is loaded.
pub(super) fn check(pem: &str) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots
            .add(certificate)
            .map_err(|error| format!("`trusted_pem`: {error}"))?;
    }
    if roots.is_empty() {
        Err("`trusted_pem` holds no certificate".to_owned())
    } else {
        Ok(())
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .take(MAX_ADDED)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("`trusted_pem`: {error}"))
}
