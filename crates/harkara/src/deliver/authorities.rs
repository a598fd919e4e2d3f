//! An endpoint's own certificate authorities, read from the PEM that its merchant gave.
//!
//! Pure: text in, certificates out. The API asks before an endpoint is saved, `connect` when it makes
//! a connection of that endpoint; both get the same answer. Whom the platform trusts is not known here.

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, pem};

const MAX_PEM_BYTES: usize = 16 * 1024;

/// Why a text is not taken for an endpoint's authorities, as a sentence for the merchant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAuthorities {
    #[error(
        "the PEM must not be longer than {MAX_PEM_BYTES} bytes, and has {bytes}; keep the \
         authorities that your server's certificate needs"
    )]
    TooLong { bytes: usize },
    #[error(
        "the PEM holds a private key; take the key out, make a new one, for this one has been \
         shown, and send the certificates alone"
    )]
    PrivateKey,
    #[error(
        "the PEM holds no certificate; send that of the authority that signed your server's, from \
         -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----"
    )]
    NoCertificate,
    #[error("certificate {number} of the PEM is damaged; export it once more")]
    Damaged { number: usize },
}

/// The authorities in a PEM text, at least one.
pub fn read(text: &str) -> Result<RootCertStore, NotAuthorities> {
    let bytes = text.len();
    if bytes > MAX_PEM_BYTES {
        return Err(NotAuthorities::TooLong { bytes });
    }
    if text.contains("PRIVATE KEY-----") {
        return Err(NotAuthorities::PrivateKey);
    }
    let mut store = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    for (number, certificate) in (1..).zip(certificates) {
        let damaged = NotAuthorities::Damaged { number };
        let certificate = certificate.map_err(|_: pem::Error| damaged)?;
        store.add(certificate).map_err(|_| damaged)?;
    }
    if store.is_empty() {
        return Err(NotAuthorities::NoCertificate);
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn authority() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn one_certificate_or_several_with_text_around_them() {
        let (first, second) = (authority().0, authority().0);
        assert_eq!(read(&first).map(|store| store.len()), Ok(1));
        let both = format!("Our CA:\n{first}\nThe next one:\n{second}");
        assert_eq!(read(&both).map(|store| store.len()), Ok(2));
    }

    #[test]
    fn what_is_refused_with_a_sentence() {
        let (certificate, key) = authority();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let said: String = [
            "hello",
            broken,
            &format!("{certificate}{broken}"),
            &format!("{certificate}{key}"),
            "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
            &"-".repeat(MAX_PEM_BYTES + 1),
        ]
        .map(|text| match read(text) {
            Ok(store) => format!("{} certificates\n", store.len()),
            Err(refused) => format!("{refused}\n"),
        })
        .concat();
        insta::assert_snapshot!(said, @r"
        the PEM holds no certificate; send that of the authority that signed your server's, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----
        certificate 1 of the PEM is damaged; export it once more
        certificate 2 of the PEM is damaged; export it once more
        the PEM holds a private key; take the key out, make a new one, for this one has been shown, and send the certificates alone
        certificate 1 of the PEM is damaged; export it once more
        the PEM must not be longer than 16384 bytes, and has 16385; keep the authorities that your server's certificate needs
        ");
    }
}
