//! The sink's certificate: a CA made for this run, and a certificate of it for one name.
//!
//! The server under test trusts the CA by its file; its key is never written. `sink.rs` calls it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;

/// Makes both, writes the CA to `folder/ca.pem`, and gives what takes TLS connections.
pub(super) fn acceptor(name: &str, folder: &Path) -> Result<TlsAcceptor> {
    let (ca_pem, config) = certificate(name).context("failed to make the sink's certificate")?;
    let file = folder.join("ca.pem");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&file, ca_pem))
        .with_context(|| format!("failed to write {}", file.display()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificate(name: &str) -> Result<(String, ServerConfig)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params
        .distinguished_name
        .push(DnType::CommonName, "webhook-bench");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &ca)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )?;
    Ok((ca.pem(), config))
}
