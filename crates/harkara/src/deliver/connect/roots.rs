//! Whose certificates are trusted: the platform's authorities, and for one endpoint its own as well.
//!
//! A TLS configuration is made once for each set of authorities and kept. Sessions are never resumed,
//! so that nothing of a connection to one address is shown to another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use harkara_core::delivery::Failure;
use harkara_core::id::EndpointId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use crate::deliver::authorities;

/// Configurations that are kept for endpoints; more begin anew, which costs a few of them a parse.
const MAX_KEPT: usize = 1_024;

/// Whose certificates are trusted. Built once, at start.
#[derive(Clone)]
pub struct Roots {
    verifier: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
    note: Option<String>,
}

/// Why no set of trusted certificates could be made.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error("read the extra CA certificates: the file is not PEM; use one that holds certificates")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("read the extra CA certificates: the file holds none; add one or drop the setting")]
    Empty,
    #[error("trust the CA certificates: one of them is damaged or none is left")]
    Tls(#[source] rustls::Error),
    #[error("trust the CA certificates: no verifier can be built from them")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
}

impl Roots {
    /// The system's store, or the bundled Mozilla roots where it has none, and with either the
    /// certificates of `extra_pem`, such as a sandbox's own CA.
    pub fn load(extra_pem: Option<&[u8]>) -> Result<Self, RootsError> {
        let extra = extra_pem
            .map(read_certificates)
            .transpose()?
            .unwrap_or_default();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // Asked without the extra certificates first: with them, an empty store is no error.
        let system = rustls_platform_verifier::Verifier::new(Arc::clone(&provider));
        let (verifier, note): (Arc<dyn ServerCertVerifier>, _) = match system {
            Ok(verifier) if extra.is_empty() => (Arc::new(verifier), None),
            Ok(_) => {
                let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(
                    extra,
                    Arc::clone(&provider),
                );
                (Arc::new(verifier.map_err(RootsError::Tls)?), None)
            }
            Err(error) => {
                let note = format!(
                    "the system's certificate store cannot be used ({error}); trusting the bundled \
                     Mozilla roots, which age with this program: install the ca-certificates \
                     package"
                );
                (bundled(extra, Arc::clone(&provider))?, Some(note))
            }
        };
        Ok(Self {
            verifier,
            provider,
            note,
        })
    }

    /// What an operator should hear at start.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// For another protocol, to a server that must show a certificate for the name it is called by.
    pub(crate) fn config_beside_http(&self) -> ClientConfig {
        let mut config = self.client_config(Arc::clone(&self.verifier));
        config.alpn_protocols.clear();
        config
    }

    fn client_config(&self, verifier: Arc<dyn ServerCertVerifier>) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has cipher suites for both versions")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A ticket that is shown to another address than it came from can smuggle bytes into it.
        config.resumption = Resumption::disabled();
        config
    }
}

fn read_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(RootsError::Pem)?;
    if certificates.is_empty() {
        Err(RootsError::Empty)
    } else {
        Ok(certificates)
    }
}

fn bundled(
    extra: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, RootsError> {
    let mut store: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    for certificate in extra {
        store.add(certificate).map_err(RootsError::Tls)?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build();
    Ok(verifier.map_err(RootsError::Verifier)?)
}

/// The authorities that an endpoint trusts besides the platform's.
#[derive(Clone, Copy, Debug)]
pub struct OwnAuthorities<'a> {
    pub endpoint_id: &'a EndpointId,
    pub pem: &'a str,
    /// Of the PEM.
    pub digest: [u8; 32],
}

/// The TLS configurations in use.
pub(super) struct Tls {
    roots: Roots,
    platform: TlsConnector,
    own: Mutex<HashMap<EndpointId, ([u8; 32], TlsConnector)>>,
}

impl Tls {
    pub(super) fn new(roots: Roots) -> Self {
        let config = roots.client_config(Arc::clone(&roots.verifier));
        Self {
            roots,
            platform: TlsConnector::from(Arc::new(config)),
            own: Mutex::default(),
        }
    }

    /// What a connection is secured with.
    pub(super) fn connector(
        &self,
        own: Option<OwnAuthorities<'_>>,
    ) -> Result<TlsConnector, Failure> {
        let Some(own) = own else {
            return Ok(self.platform.clone());
        };
        let mut kept = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((digest, connector)) = kept.get(own.endpoint_id)
            && *digest == own.digest
        {
            return Ok(connector.clone());
        }
        // The PEM was read before it was stored.
        let store = authorities::read(own.pem).map_err(|_| Failure::Internal)?;
        let provider = Arc::clone(&self.roots.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
            .build()
            .map_err(|_| Failure::Internal)?;
        let either = Either {
            platform: Arc::clone(&self.roots.verifier),
            own: verifier,
        };
        let config = self.roots.client_config(Arc::new(either));
        let connector = TlsConnector::from(Arc::new(config));
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(own.endpoint_id.clone(), (own.digest, connector.clone()));
        Ok(connector)
    }
}

/// Trusts a certificate that either of two verifiers trusts.
#[derive(Debug)]
struct Either {
    platform: Arc<dyn ServerCertVerifier>,
    own: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Either {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |verifier: &dyn ServerCertVerifier| {
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        verify(&*self.own).or_else(|_| verify(&*self.platform))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.own.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.own.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.own.supported_verify_schemes()
    }
}
