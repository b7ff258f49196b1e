#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;

const NOBODY: Trust<'_> = Trust { private: false, cleartext: false, key: None };
const PRIVATE: Trust<'_> = Trust { private: true, ..NOBODY };
const NONCE: [u8; 21] = [7; 21];
const KEY: &[u8] = b"-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALAWyF9CNeK8TEjLU8wUxuxHT35XdSev
-----END PUBLIC KEY-----
";

#[test]
fn clear_text_needs_a_private_connection_and_a_word_of_the_operator() {
    for (trust, part) in [
        (NOBODY, "without TLS"),
        (Trust { cleartext: true, ..NOBODY }, "without TLS"),
        (PRIVATE, "mysql_clear_password"),
    ] {
        let refused = Exchange::new(b"secret", trust).begin(CLEAR, &[]).unwrap_err();
        assert!(refused.what.contains(part), "{refused:?}");
        assert!(refused.repair.contains("`source.cleartext_password: true`"), "{refused:?}");
    }
    let asked = Trust { cleartext: true, ..PRIVATE };
    assert_eq!(Exchange::new(b"secret", asked).begin(CLEAR, &[]).unwrap(), b"secret\0");
}

/// Whatever a server asks for, and in whatever order: the password's bytes never leave on a connection without TLS.
#[test]
fn without_tls_no_answer_holds_the_password() {
    let plugins = [CACHING_SHA2, NATIVE, SHA256, ED25519, PARSEC, CLEAR, "dialog", "mysql_old_password"];
    let challenges: [&[u8]; 8] = [&[], &[FAST], &[FULL], &[0], &NONCE, &[9; 32], KEY, b"P\0aaaaaaaaaaaaaaaaaa"];
    for (plugin, first) in plugins.iter().flat_map(|plugin| challenges.map(|first| (plugin, first))) {
        for (second, third) in challenges.iter().flat_map(|second| challenges.map(|third| (second, third))) {
            let mut exchange = Exchange::new(b"s3cret", Trust { cleartext: true, ..NOBODY });
            let answers = [
                exchange.begin(plugin, first).ok(),
                exchange.more(second).ok().flatten(),
                exchange.more(third).ok().flatten(),
            ];
            for answer in answers.into_iter().flatten() {
                assert!(!answer.windows(6).any(|bytes| bytes == b"s3cret"), "{plugin} {first:?} {second:?}");
            }
        }
    }
}

#[test]
fn the_long_way_is_the_password_where_nobody_listens_and_the_rsa_key_elsewhere() {
    let mut exchange = Exchange::new(b"secret", PRIVATE);
    assert_eq!(exchange.begin(CACHING_SHA2, &NONCE).unwrap().len(), 32);
    assert_eq!(exchange.more(&[FULL]).unwrap().unwrap(), b"secret\0");
    assert_eq!(Exchange::new(b"secret", PRIVATE).begin(SHA256, &NONCE).unwrap(), b"secret\0");

    let mut exchange = Exchange::new(b"secret", NOBODY);
    exchange.begin(CACHING_SHA2, &NONCE).unwrap();
    assert_eq!(exchange.more(&[FULL]).unwrap().unwrap(), [CACHING_SHA2_KEY]);
    assert_eq!(Exchange::new(b"secret", NOBODY).begin(SHA256, &NONCE).unwrap(), [SHA256_KEY]);
    assert_eq!(Exchange::new(b"", NOBODY).begin(SHA256, &NONCE).unwrap(), [0]);
}

/// A key that we didn't ask for, a verdict twice, anything after the last step.
#[test]
fn a_plugin_out_of_its_order_is_refused() {
    let mut exchange = Exchange::new(b"secret", NOBODY);
    exchange.begin(CACHING_SHA2, &NONCE).unwrap();
    assert!(exchange.more(KEY).is_err());
    let mut exchange = Exchange::new(b"secret", PRIVATE);
    exchange.begin(CACHING_SHA2, &NONCE).unwrap();
    assert_eq!(exchange.more(&[FAST]).unwrap(), None);
    assert!(exchange.more(&[FULL]).is_err());
    let mut exchange = Exchange::new(b"secret", PRIVATE);
    exchange.begin(NATIVE, &NONCE).unwrap();
    assert!(exchange.more(&[FULL]).is_err());
}

#[test]
fn what_we_do_not_speak_is_named() {
    for plugin in ["authentication_kerberos_client", "dialog", "mysql_old_password"] {
        let refused = Exchange::new(b"x", PRIVATE).begin(plugin, &NONCE).unwrap_err();
        assert!(refused.what.contains(plugin) && refused.what.contains(SPOKEN), "{refused:?}");
    }
    let refused = Exchange::new(b"x", PRIVATE).begin(&format!("a\n{}", "b".repeat(500)), &NONCE).unwrap_err();
    assert!(!refused.what.contains('\n') && refused.what.len() < 300, "{refused:?}");
}

/// A random nonce ends in a zero one time in 256; only what is behind it is no part of it.
#[test]
fn a_nonce_may_end_in_a_zero() {
    let mut nonce = [5; 33];
    nonce[31] = 0;
    assert_eq!(Exchange::new(b"x", NOBODY).begin(ED25519, &nonce[..32]).unwrap().len(), 64);
    assert_eq!(Exchange::new(b"x", NOBODY).begin(ED25519, &nonce).unwrap().len(), 64);
    assert!(Exchange::new(b"x", NOBODY).begin(ED25519, &nonce[..31]).is_err());
    nonce[19] = 0;
    let with_nul = Exchange::new(b"x", NOBODY).begin(NATIVE, &nonce[..21]).unwrap();
    assert_eq!(with_nul, Exchange::new(b"x", NOBODY).begin(NATIVE, &nonce[..20]).unwrap());
}

/// `parsec` (MariaDB 11.6): an empty answer, then our nonce and a signature.
#[test]
fn parsec_answers_in_two_steps() {
    let mut exchange = Exchange::new(b"secret", NOBODY);
    assert_eq!(exchange.begin(PARSEC, &[9; 32]).unwrap(), b"");
    assert_eq!(exchange.more(b"P\0aaaaaaaaaaaaaaaaaa").unwrap().unwrap().len(), 96);
    for wrong in [&b"P\0aaaa"[..], b"Q\0aaaaaaaaaaaaaaaaaa", b"P\xffaaaaaaaaaaaaaaaaaa", b""] {
        let mut exchange = Exchange::new(b"secret", NOBODY);
        exchange.begin(PARSEC, &[9; 32]).unwrap();
        assert!(exchange.more(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_malformed_key_is_an_error() {
    for key in [&b"not a key"[..], b"", KEY, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        let mut exchange = Exchange::new(b"secret", NOBODY);
        exchange.begin(SHA256, &NONCE).unwrap();
        assert!(exchange.more(key).is_err());
        let known = Trust { key: Some(key), ..NOBODY };
        assert!(Exchange::new(b"secret", known).begin(SHA256, &NONCE).is_err());
    }
}
