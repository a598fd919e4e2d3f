//! Where a sealed secret opens, where it does not, and which key rings are refused.

use super::*;

const RING: &str = "\
old AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
new ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=
";

fn vault(ring: &str) -> Vault {
    Vault::parse(ring, Path::new("keyring")).unwrap()
}

fn context<'a>(purpose: &'static str, merchant: &'a MerchantId, row_id: &'a str) -> Context<'a> {
    Context {
        purpose,
        merchant_id: merchant,
        row_id,
    }
}

/// How an attempt to open ends, in a word.
fn ending(result: Result<Zeroizing<Vec<u8>>, VaultError>) -> String {
    match result {
        Ok(plaintext) => String::from_utf8(plaintext.to_vec()).unwrap(),
        Err(error) => error
            .to_string()
            .split([':', ';'])
            .next()
            .unwrap()
            .to_owned(),
    }
}

#[test]
fn a_secret_opens_only_where_it_belongs() {
    let vault = vault(RING);
    let (ours, theirs) = (MerchantId::new("ms"), MerchantId::new("other"));
    let sealed = vault.seal(context("endpoint password", &ours, "ep_1"), b"s3cret");
    let open = |context| ending(vault.open(context, &sealed));

    let refused = "open a secret sealed with key new";
    assert_eq!(open(context("endpoint password", &ours, "ep_1")), "s3cret");
    assert_eq!(open(context("endpoint password", &ours, "ep_2")), refused);
    assert_eq!(open(context("endpoint password", &theirs, "ep_1")), refused);
    assert_eq!(open(context("signing secret", &ours, "ep_1")), refused);
    // The same letters, cut elsewhere.
    assert_eq!(
        open(context("endpoint passwordm", &MerchantId::new("s"), "ep_1")),
        refused
    );
}

#[test]
fn an_endpoints_secrets_do_not_change_places() {
    let vault = vault(RING);
    let (merchant, other) = (MerchantId::new("ms"), MerchantId::new("other"));
    let [first, second] = ["ep_1", "ep_2"].map(EndpointId::new);
    let contexts = [
        Context::signing_secret(&merchant, &first),
        Context::endpoint_password(&merchant, &first),
        Context::signing_secret(&merchant, &second),
        Context::signing_secret(&other, &first),
    ];
    let sealed = vault.seal(contexts[0], b"s3cret");
    let holds = contexts.map(|context| vault.holds(context, &sealed, b"s3cret"));
    assert_eq!(holds, [true, false, false, false]);
}

#[test]
fn what_is_set_twice_is_sealed_once() {
    let vault = vault(RING);
    let (merchant, endpoint) = (MerchantId::new("ms"), EndpointId::new("ep_1"));
    let context = Context::endpoint_password(&merchant, &endpoint);
    let sealed = vault.seal_once(context, None, b"s3cret");
    let again = |plaintext: &[u8]| vault.seal_once(context, Some(&sealed), plaintext);
    assert_eq!(again(b"s3cret"), sealed);
    assert_ne!(again(b"s3crets"), sealed);
    assert_eq!(ending(vault.open(context, &again(b"other"))), "other");
    // What never was sealed holds nothing.
    let blank = Sealed(String::new());
    assert_ne!(vault.seal_once(context, Some(&blank), b""), blank);
}

#[test]
fn any_flipped_bit_is_noticed() {
    let vault = vault(RING);
    let merchant = MerchantId::new("ms");
    let context = context("endpoint password", &merchant, "ep_1");
    let Sealed(text) = vault.seal(context, b"s3cret");
    let encoded = text.strip_prefix("v1.new.").unwrap();
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).unwrap();

    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let sealed = Sealed(format!("v1.new.{}", BASE64_URL_SAFE_NO_PAD.encode(flipped)));
        assert_eq!(
            ending(vault.open(context, &sealed)),
            "open a secret sealed with key new"
        );
    }
    let other_key = Sealed(text.replace("v1.new.", "v1.old."));
    assert_eq!(
        ending(vault.open(context, &other_key)),
        "open a secret sealed with key old"
    );
}

#[test]
fn texts_that_are_not_sealed_secrets_are_told_apart() {
    let vault = vault(RING);
    let merchant = MerchantId::new("ms");
    let error = |text: &str| {
        let sealed = Sealed(text.to_owned());
        vault
            .open(context("endpoint password", &merchant, "ep_1"), &sealed)
            .unwrap_err()
    };
    for text in [
        "",
        "s3cret",
        "v1.new",
        "v1.new.",
        "v1.new.AAAA",
        "v1.new.=",
        "v2.new.AAAA",
    ] {
        assert!(matches!(error(text), VaultError::Malformed), "{text}");
    }
    insta::assert_snapshot!(
        error("v1.gone.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        @"open a secret: its key gone is not in the key ring; add that key's line again"
    );
}

#[test]
fn the_newest_key_encrypts_and_all_decrypt() {
    let (before, after) = RING.split_at(RING.find("new").unwrap());
    let merchant = MerchantId::new("ms");
    let context = context("endpoint password", &merchant, "ep_1");

    let sealed = vault(before).seal(context, b"s3cret");
    assert!(sealed.0.starts_with("v1.old."));
    assert_eq!(ending(vault(RING).open(context, &sealed)), "s3cret");
    assert_eq!(
        ending(vault(after).open(context, &sealed)),
        "open a secret",
        "a key that was taken out of the ring",
    );
}

#[test]
fn sealing_twice_gives_different_texts() {
    let vault = vault(RING);
    let merchant = MerchantId::new("ms");
    let context = context("endpoint password", &merchant, "ep_1");
    assert_ne!(vault.seal(context, b""), vault.seal(context, b""));
}

#[test]
fn one_vault_serves_all_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&vault(RING));
}

#[test]
fn nothing_secret_is_printed() {
    let vault = vault(RING);
    let merchant = MerchantId::new("ms");
    let sealed = vault.seal(context("endpoint password", &merchant, "ep_1"), b"s3cret");
    insta::assert_snapshot!(format!("{vault:?} {sealed:?}"), @r#"["old", "new"] Sealed"#);
}

#[test]
fn a_broken_ring_is_refused_with_its_line() {
    let error = |text: &str| {
        Vault::parse(text, Path::new("keyring"))
            .unwrap_err()
            .to_string()
    };
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let errors = [
        error(""),
        error("# no key\n"),
        error("k1\n"),
        error(&format!("k.1 {key}\n")),
        error(&format!("k1 {key}\n\nk2 AAEC\n")),
        error(&format!("k1 {key}\nk1 {key}\n")),
    ];
    insta::assert_snapshot!(errors.join("\n"), @"
    use line 0 of the key ring keyring: the file ends without a key; restore the file from a backup
    use line 1 of the key ring keyring: the file ends without a key; restore the file from a backup
    use line 1 of the key ring keyring: it is not a key id, a space and a key; restore the file from a backup
    use line 1 of the key ring keyring: its key id is not made of letters and digits; restore the file from a backup
    use line 3 of the key ring keyring: its key is not the base64 of 32 bytes; restore the file from a backup
    use line 2 of the key ring keyring: its key id is used twice; restore the file from a backup
    ");
}

#[test]
fn a_ring_is_made_once_and_then_kept() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keyring");
    let merchant = MerchantId::new("ms");
    let context = context("endpoint password", &merchant, "ep_1");

    let sealed = Vault::open_or_create(&file)
        .unwrap()
        .seal(context, b"s3cret");
    let reopened = Vault::open_or_create(&file).unwrap();
    assert_eq!(ending(reopened.open(context, &sealed)), "s3cret");
}

#[cfg(unix)]
#[test]
fn a_ring_that_others_can_read_is_refused() {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keyring");
    Vault::open_or_create(&file).unwrap();
    for mode in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let message = Vault::open_or_create(&file).unwrap_err().to_string();
        let message = message.replace(&directory.path().display().to_string(), "data");
        assert_eq!(
            message,
            format!(
                "use the key ring data/keyring: others can read it (mode {mode:o}); run \
                 `chmod 600 data/keyring` and consider its keys known"
            ),
        );
    }
}

#[test]
fn a_missing_directory_is_named() {
    let error = Vault::open_or_create(Path::new("no-such-directory/keyring")).unwrap_err();
    insta::assert_snapshot!(
        error,
        @"create the key ring no-such-directory/keyring; its directory must exist and belong to this user"
    );
}
