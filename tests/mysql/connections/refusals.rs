//! What is said when a server, or something that isn't one, refuses us or asks for what we don't give.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::fake::{Fake, Step, error, greeting, more, ok, one_text, switch};
use super::{CDC, KINDS, at_port, shop, shop_on, verified, yaml, yaml_at};
use crate::support::daemon::Daemon;
use crate::support::local::{refused, run, stops, streams};
use crate::support::mysql::{Db, Kind};
use crate::support::source::PATIENCE;
use crate::support::{Servers, env};

const MYSQL: &str = "8.4.0";

/// A daemon of a MySQL source at this port.
async fn at(port: u16, source: &str) -> Daemon {
    // nothing of the database is asked before the login
    let db = shop(Kind::Mysql, "fake").await;
    run(&yaml_at(&db, &at_port(port), &format!("{CDC}{source}")))
}

async fn waits(daemon: &mut Daemon, parts: &[&str]) {
    let said = daemon.wait_for_log("waiting ", PATIENCE).await;
    for part in parts {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
    stops(daemon).await;
}

/// A server that wants the password itself gets it only with the operator's word and where nobody listens.
#[tokio::test]
async fn a_password_in_clear_needs_tls_and_the_operators_word() {
    const ASK: &str = "mysql_clear_password";
    const WORD: &str = "  cleartext_password: true\n";
    let plain = vec![greeting(MYSQL, false), Step::Hear, switch(ASK, b""), Step::Hear, error(1045, "no")];
    let tls = vec![greeting(MYSQL, true), Step::Tls, Step::Hear, switch(ASK, b""), Step::Hear, error(1045, "no")];
    for (script, source, part, told) in [
        (&plain, "", "on a connection without TLS", false),
        (&plain, WORD, "on a connection without TLS", false),
        (&tls, "", "`source.cleartext_password: true`", false),
        (&tls, WORD, "logging in: no (server error 1045)", true),
    ] {
        let fake = Fake::new(script.clone()).await;
        refused(&mut at(fake.port, source).await, &[part]).await;
        assert_eq!(fake.heard_of(b"cdcpw"), told, "{source:?} {part}");
        assert!(fake.heard_of(b"cdc\0"), "it was asked");
    }
}

/// Without TLS a password is for the key that the operator named; one that the server sends is believed only without such a word.
#[tokio::test]
async fn a_known_rsa_key_is_the_only_one() {
    let key = std::fs::read_to_string(std::path::Path::new(env().var("MYSQL_DATA")).join("public_key.pem")).unwrap();
    let known = format!("  server_public_key: {}/public_key.pem\n", env().var("MYSQL_DATA"));
    for (source, asked, answers) in [("", true, 1 + 256), (known.as_str(), false, 256)] {
        let mut script = vec![greeting(MYSQL, false), Step::Hear, more(&[4]), Step::Hear];
        if asked {
            script.extend([more(key.as_bytes()), Step::Hear]);
        }
        script.push(error(1045, "no"));
        let fake = Fake::new(script).await;
        refused(&mut at(fake.port, source).await, &["server error 1045"]).await;
        let heard = fake.heard();
        assert!(!fake.heard_of(b"cdcpw"));
        // the response to the greeting ends with the plugin's name
        let name = b"caching_sha2_password\0";
        let end = heard.windows(name.len()).position(|window| window == name).unwrap() + name.len();
        assert_eq!(heard.len() - end, answers, "{source:?}");
    }
}

/// Somebody takes TLS out of the greeting: a mode that demands it doesn't go on, not even with the user's name.
#[tokio::test]
async fn a_greeting_without_tls_does_not_weaken_a_mode() {
    for mode in ["mode: REQUIRED".to_owned(), "mode: VERIFY_CA".to_owned(), verified()] {
        let fake = Fake::new(vec![greeting(MYSQL, false), Step::Hear]).await;
        let parts = ["the server offers no TLS, but `source.tls.mode` demands it"];
        refused(&mut at(fake.port, &format!("  tls: {{{mode}}}\n")).await, &parts).await;
        assert_eq!(fake.heard(), b"", "{mode}");
    }
    // and bytes that are smuggled in ahead of the handshake end the login
    let both = match (greeting(MYSQL, true), ok()) {
        (Step::Say(greeting), Step::Say(ok)) => (greeting, ok),
        _ => unreachable!(),
    };
    let fake = Fake::new(vec![Step::Say(both.0), Step::Say(both.1), Step::Tls, Step::Hear]).await;
    let mut daemon = at(fake.port, "  tls: {mode: required}\n").await;
    // they come with the greeting, or a moment later in the place of the handshake's first ones
    let said = daemon.wait_for_log("waiting ", PATIENCE).await;
    let noticed = ["bytes ahead of the TLS handshake", "tls handshake with 127.0.0.1 failed"];
    assert!(noticed.iter().any(|what| said.contains(what)), "{said}");
    assert!(!fake.heard_of(b"cdc\0"), "the user's name went out");
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let asks = |step: Step| vec![greeting(MYSQL, true), Step::Tls, Step::Hear, step, Step::Hear];
    for (script, parts) in [
        (asks(switch("dialog", b"")), ["authentication plugin `dialog`", "IDENTIFIED VIA ed25519"]),
        (asks(switch("authentication_kerberos_client", b"")), ["`authentication_kerberos_client`", "ALTER USER"]),
        (asks(Step::Say(vec![0xfe])), ["`mysql_old_password`", "ALTER USER"]),
        (
            asks(Step::Say(b"\x02authentication_webauthn_client\0xyz".to_vec())),
            [
                "a second authentication factor, `authentication_webauthn_client`",
                "ALTER USER 'cdc'@'...' DROP 2 FACTOR",
            ],
        ),
        (
            vec![greeting("8.0.30-ProxySQL", false), Step::Hear],
            ["ProxySQL answers there", "the database server itself"],
        ),
        (
            vec![greeting("5.5.5-10.11.2-MariaDB", false), Step::Hear],
            ["the server is MariaDB", "`source.type` to `mariadb`"],
        ),
        (vec![error(1130, "Host 'x' is not allowed to connect")], ["1130", "CREATE USER 'cdc'@'<host>'"]),
        (
            [vec![greeting(MYSQL, false), Step::Hear, ok(), Step::Until("version_comment")], one_text("(ProxySQL)")]
                .concat(),
            ["ProxySQL answers there", "the database server itself"],
        ),
    ] {
        let fake = Fake::new(script).await;
        refused(&mut at(fake.port, "").await, &parts).await;
        assert!(!fake.heard_of(b"cdcpw"), "{parts:?}");
    }
}

/// What may pass is waited for, and says what to do if it doesn't.
#[tokio::test]
async fn a_full_server_and_one_that_blocks_us_are_waited_for() {
    for (script, parts) in [
        (vec![error(1040, "Too many connections")], ["Too many connections", "max_connections"]),
        (vec![error(1129, "Host 'x' is blocked because of many connection errors")], ["is blocked", "host_cache"]),
        (
            vec![greeting(MYSQL, false), Step::Hear, error(1226, "max_user_connections")],
            ["1226", "MAX_USER_CONNECTIONS"],
        ),
        (vec![greeting(MYSQL, false), Step::Hear], ["while logging in: the server closed the connection", ""]),
        (vec![greeting(MYSQL, true), Step::Tls], ["while logging in: the server closed the connection", ""]),
        (vec![], ["while logging in: the server closed the connection", ""]),
    ] {
        let fake = Fake::new(script).await;
        waits(&mut at(fake.port, "").await, &parts).await;
    }
}

/// The same of real servers; a source that waits begins when there is room.
#[tokio::test]
async fn a_server_without_a_free_connection_is_waited_for() {
    for kind in KINDS {
        let servers = Servers::private(&[kind.server()]);
        let db = shop_on(&servers, kind, "full").await;
        db.exec("set global max_connections = 10").await;
        let mut held = Vec::new();
        for _ in 0..9 {
            held.push(db.connect().await);
        }
        let mut daemon = run(&yaml(&db, ""));
        let said = daemon.wait_for_log("waiting ", PATIENCE).await;
        assert!(said.contains("Too many connections") && said.contains("max_connections=..."), "{said}");
        held.clear();
        streams(&mut daemon).await;
        stops(&mut daemon).await;
    }
}

/// Silence at any phase ends with the time-out.
#[tokio::test]
async fn a_server_that_falls_silent_in_the_login_is_given_up_in_time() {
    let (hello, tls) = (greeting(MYSQL, false), greeting(MYSQL, true));
    for script in [
        vec![Step::Hang],
        vec![hello.clone(), Step::Hang],
        vec![tls.clone(), Step::Hang],
        vec![tls, Step::Tls, Step::Hang],
        vec![hello.clone(), Step::Hear, switch("mysql_native_password", &[1; 21]), Step::Hang],
        vec![hello.clone(), Step::Hear, more(&[4]), Step::Hang],
        vec![hello, Step::Hear, ok(), Step::Hang],
    ] {
        let shown = format!("{script:?}");
        let fake = Fake::new(script).await;
        let began = std::time::Instant::now();
        let mut daemon = at(fake.port, "  connect_timeout: 1s\n  read_timeout: 1s\n").await;
        let said = daemon.wait_for_log("waiting ", PATIENCE).await;
        // what it waited for is in the message; this is that it was over then
        assert!(began.elapsed().as_secs() < 40, "{shown}: {:?}", began.elapsed());
        assert!(said.contains("within 1s") || said.contains("sent nothing for 1s"), "{shown}: {said}");
        stops(&mut daemon).await;
    }
}

/// A login that never ends, and answers to nothing: bounded.
#[tokio::test]
async fn a_login_without_an_end_is_given_up() {
    let mut script = vec![greeting(MYSQL, false), Step::Hear];
    for _ in 0..20 {
        script.extend([switch("mysql_native_password", &[1; 21]), Step::Hear]);
    }
    let fake = Fake::new(script).await;
    waits(&mut at(fake.port, "").await, &["a login without an end"]).await;
}

#[tokio::test]
async fn what_is_not_a_server_of_ours_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            // web servers wait for a request; ours never comes
            let _ = tokio::time::timeout(std::time::Duration::from_millis(100), client.read(&mut [0; 1024])).await;
            let _ = client.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n").await;
            let _ = client.write_all(&[0; 65536]).await;
        }
    });
    let parts = ["not a MySQL or MariaDB server", "check `source.host` and `source.port`"];
    refused(&mut at(port, "").await, &parts).await;
}

/// Real accounts: expired, locked, limited, of the wrong password.
#[tokio::test]
async fn accounts_that_may_not_log_in_say_why() {
    for kind in KINDS {
        let db: Db = shop(kind, "accounts").await;
        let mut users = Vec::new();
        for (word, clause, parts) in [
            ("expired", "password expire", ["expired", "IDENTIFIED BY"]),
            ("locked", "account lock", ["is locked", "ACCOUNT UNLOCK"]),
        ] {
            let user = super::user(&db, word, &format!("identified by 'cdcpw' {clause}")).await;
            let yaml = yaml_at(&db, &at_port(db.port()), &format!("  user: {user}\n  password: cdcpw\n"));
            refused(&mut run(&yaml), &parts).await;
            users.push(user);
        }
        let user = super::user(&db, "limited", "identified by 'cdcpw' with max_user_connections 1").await;
        let yaml = yaml_at(&db, &at_port(db.port()), &format!("  user: {user}\n  password: cdcpw\n"));
        waits(&mut run(&yaml), &["max_user_connections", "MAX_USER_CONNECTIONS 0"]).await;
        users.push(user);
        for user in users {
            db.exec(&format!("drop user '{user}'@'%'")).await;
        }
    }
}
