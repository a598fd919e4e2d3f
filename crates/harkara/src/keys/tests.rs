//! What counts as an API key, how callers may present one, and that none is ever printed.

use base64::prelude::BASE64_STANDARD;

use super::*;

const KEY: &str = "hk_0aA1bB2cC3dD_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGQhZkUV";

fn verdict(text: &str) -> &'static str {
    match PresentedKey::parse(text) {
        Ok(_) => "ok",
        Err(KeyError::Form) => "form",
        Err(KeyError::Checksum) => "checksum",
    }
}

#[test]
fn form_and_checksum_are_checked_before_any_look_up() {
    let table = [
        (KEY.to_owned(), "ok"),
        (KEY.replace("hk_", "sk_"), "form"),
        (KEY.replace("hk_", ""), "form"),
        (KEY[..KEY.len() - 1].to_owned(), "form"),
        (format!("{KEY}0"), "form"),
        (KEY.replace('9', "-"), "form"),
        (KEY.replace('9', "ü"), "form"),
        (String::new(), "form"),
        (KEY.replace("0123", "0132"), "checksum"),
        (KEY.replace("0aA1", "0aA2"), "checksum"),
    ];
    for (text, expected) in table {
        assert_eq!(verdict(&text), expected, "{text}");
    }
}

#[test]
fn a_new_key_is_recognised_and_no_other_is() {
    let (key, stored) = ApiKey::generate();
    let (other, _) = ApiKey::generate();
    let again = PresentedKey::parse(key.expose()).unwrap();

    assert_eq!(again.key_id(), stored.key_id);
    assert!(again.matches(&stored));
    assert!(!other.matches(&stored));
    assert_eq!(key.expose().len(), 3 + 12 + 1 + 43 + 6);
}

#[test]
fn callers_present_a_key_in_four_ways() {
    let presented = |header: &str| basic_key(header).is_some();
    let base64 = |text: String| BASE64_STANDARD.encode(text);

    assert!(presented(&format!("Basic {}", base64(format!("{KEY}:")))));
    assert!(presented(&format!("Basic {}", base64(KEY.to_owned()))));
    assert!(presented(&format!(
        "basic {}",
        base64(format!("{KEY}:")).trim_end_matches('=')
    )));
    assert!(presented(&format!("Bearer {KEY}")));

    assert!(!presented(&format!(
        "Basic {}",
        base64(format!("{KEY}:password"))
    )));
    assert!(!presented(&format!("Basic {KEY}")));
    assert!(!presented(&format!("Digest {KEY}")));
    assert!(!presented(KEY));
    assert!(!presented(""));
}

#[test]
fn debug_shows_the_id_and_never_the_secret() {
    let key = PresentedKey::parse(KEY).unwrap();
    insta::assert_snapshot!(format!("{key:?}"), @"PresentedKey(0aA1bB2cC3dD…)");
}

#[test]
fn errors_say_what_to_do() {
    insta::assert_snapshot!(
        KeyError::Form,
        @"read the API key: it must be hk_, 12 letters and digits, an underscore and 49 more; copy the whole key again"
    );
}

#[test]
fn passwords_differ_and_need_no_quoting() {
    let password = random_password();
    assert_eq!(password.len(), 32);
    assert!(password.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_ne!(password, random_password());
}

#[cfg(unix)]
#[test]
fn a_private_file_is_for_its_owner_and_is_never_replaced() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials");
    write_private(&path, b"first").unwrap();
    let refused = write_private(&path, b"second").unwrap_err();

    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&path).unwrap(), b"first");
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn what_is_kept_of_a_key_survives_the_store() {
    let (presented, stored) = ApiKey::generate();
    let kept = StoredKey::from_parts(&stored.key_id, &stored.hash_hex()).unwrap();
    assert_eq!(kept, stored);
    assert!(presented.matches(&kept));

    let hash = stored.hash_hex();
    for broken in [
        "",
        &hash[1..],
        &format!("{hash}0"),
        &hash.replacen(&hash[..1], "g", 1),
    ] {
        assert_eq!(
            StoredKey::from_parts(&stored.key_id, broken),
            None,
            "{broken}"
        );
    }
}
