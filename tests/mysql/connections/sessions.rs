//! The session as the server sees it: TLS in every mode and version, client certificates, compression, sockets, attributes.

use super::{CDC, KINDS, at_port, shop, shop_on, verified, yaml, yaml_at};
use crate::support::daemon::Daemon;
use crate::support::local::{command, ids, keeps_alive, refused, run, sees, stops, streams};
use crate::support::mysql::{Db, Kind};
use crate::support::proxy::Proxy;
use crate::support::source::PATIENCE;
use crate::support::{Servers, env, eventually};

/// A private server that keeps account of its sessions, with settings of its own.
async fn observed(kind: Kind, settings: &str) -> (Servers, Db) {
    let (name, settings) = match kind {
        Kind::Mysql => ("ROWCAST_MYSQL_CONF", format!("--performance-schema=ON {settings}")),
        Kind::Mariadb => ("ROWCAST_MARIADB_CONF", format!("--performance-schema=ON {settings}")),
    };
    let servers = Servers::private_with(&[kind.server()], &[(name, &settings)]);
    let db = shop_on(&servers, kind, "observed").await;
    (servers, db)
}

/// Of each of the daemon's sessions: what it is doing, and these status variables.
async fn sessions(db: &Db, variables: &[&str]) -> Vec<String> {
    let columns: String = variables
        .iter()
        .map(|name| format!(", max(case when s.variable_name = '{name}' then s.variable_value end)"))
        .collect();
    let sql = format!(
        "select if(t.processlist_command like 'Binlog Dump%', 'dump', 'sql'){columns} from performance_schema.threads t \
         join performance_schema.status_by_thread s using (thread_id) where t.processlist_user like 'cdc%' group by t.thread_id order by 1, 2"
    );
    let text = |row: Vec<Option<String>>| row.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let mut rows: Vec<String> = db.query(&sql).await.into_iter().map(text).collect();
    rows.dedup();
    rows
}

/// Waits until the daemon's sessions are these, whatever others it had at its start.
async fn has_sessions(db: &Db, variables: &[&str], expected: &[&str]) {
    eventually(PATIENCE, "sessions", || async {
        let found = sessions(db, variables).await;
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
}

async fn gone(db: &Db) {
    eventually(PATIENCE, "the end of all sessions", || async {
        let left = db.query("select user from information_schema.processlist where user like 'cdc%'").await;
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

/// The mysql client's words and libpq's; users that must have TLS, and a certificate.
#[tokio::test]
async fn tls_modes_have_the_words_of_the_mysql_client_and_of_libpq() {
    let ca = env().tls_ca().display().to_string();
    let (cert, key) = env().tls_client();
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    for kind in KINDS {
        let db = shop(kind, "tls").await;
        let with = |user: &str, tls: &str| {
            yaml_at(&db, &at_port(db.port()), &format!("  user: {user}\n  password: cdcpw\n  tls: {{{tls}}}\n"))
        };
        for (user, tls) in [
            ("cdc", "mode: DISABLED".to_owned()),
            ("cdc_tls", "mode: PREFERRED".to_owned()),
            ("cdc_tls", "mode: required".to_owned()),
            ("cdc_tls", format!("mode: VERIFY_CA, server_name: other.example, ca: {ca}")),
            ("cdc_tls", verified()),
            ("cdc_tls", format!("mode: verify-full, ca: {ca}")),
            ("cdc_cert", format!("mode: verify_identity, ca: {ca}, cert: {cert}, key: {key}")),
        ] {
            let mut daemon = run(&with(user, &tls));
            streams(&mut daemon).await;
            stops(&mut daemon).await;
        }
        for (user, tls, parts) in [
            ("cdc_tls", "mode: disabled".to_owned(), ["Access denied", "REQUIRE SSL, X509", "`source.tls`"]),
            ("cdc_cert", verified(), ["Access denied", "REQUIRE SSL, X509", "`cert` and `key`"]),
            (
                "cdc_tls",
                format!("mode: verify_identity, server_name: other.example, ca: {ca}"),
                ["tls handshake with 127.0.0.1 failed", "other.example", "`server_name`"],
            ),
            // a certificate that is no authority
            (
                "cdc_tls",
                format!("mode: VERIFY_CA, ca: {cert}"),
                ["tls handshake with 127.0.0.1 failed", "UnknownIssuer", "`ca`"],
            ),
            // the system trusts no such authority
            ("cdc_tls", "mode: VERIFY_CA".to_owned(), ["UnknownIssuer", "`source.tls`", "`ca`"]),
        ] {
            let yaml = with(user, &tls);
            // of the system's trust this is all that a test can say
            let mut daemon = match tls.contains("ca: ") || !tls.contains("VERIFY_CA") {
                true => run(&yaml),
                false => command(&yaml).env("SSL_CERT_FILE", &cert).spawn(),
            };
            refused(&mut daemon, &parts).await;
        }
    }
}

async fn versions_of_tls(kind: Kind) {
    for version in ["TLSv1.2", "TLSv1.3"] {
        let (_servers, db) = observed(kind, &format!("--tls-version={version}")).await;
        let mut daemon = run(&yaml(&db, &format!("  tls: {{mode: required, ca: {}}}\n", env().tls_ca().display())));
        streams(&mut daemon).await;
        has_sessions(&db, &["Ssl_version"], &[&format!("dump {version}"), &format!("sql {version}")]).await;
        stops(&mut daemon).await;
        gone(&db).await;
        let mut daemon = run(&yaml(&db, "  tls: {mode: disabled}\n"));
        streams(&mut daemon).await;
        has_sessions(&db, &["Ssl_version"], &["dump ", "sql "]).await;
        stops(&mut daemon).await;
    }
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken_on_every_connection() {
    tokio::join!(versions_of_tls(Kind::Mysql), versions_of_tls(Kind::Mariadb));
}

#[tokio::test]
async fn a_server_that_demands_tls_of_everybody_is_understood() {
    for kind in KINDS {
        let (_servers, db) = observed(kind, "").await;
        db.exec("set global require_secure_transport = on").await;
        let parts = ["require_secure_transport", "`source.tls"];
        refused(&mut run(&yaml(&db, "  tls: {mode: disabled}\n")), &parts).await;
        let mut daemon = run(&yaml(&db, ""));
        streams(&mut daemon).await;
        stops(&mut daemon).await;
    }
}

/// Every connection, the stream and the SQL ones; what comes is what comes without.
async fn compressed(kind: Kind) {
    let (_servers, db) = observed(kind, "").await;
    let proxy = Proxy::to(db.port());
    let words: &[&str] = if kind == Kind::Mysql { &["none", "zlib", "zstd"] } else { &["none", "zlib"] };
    let mut costs = Vec::new();
    for (round, word) in words.iter().enumerate() {
        for tls in ["disabled", "required"] {
            let source = format!("{CDC}  compression: {word}\n  tls: {{mode: {tls}}}\n");
            let yaml = yaml_at(&db, &at_port(proxy.port()), &source);
            let mut daemon = run(&yaml);
            streams(&mut daemon).await;
            let on = if *word == "none" { "OFF" } else { "ON" };
            let expected = [format!("dump {on}"), format!("sql {on}")];
            has_sessions(&db, &["Compression"], &expected.each_ref().map(String::as_str)).await;
            if kind == Kind::Mysql && *word != "none" {
                let expected = [format!("dump {word}"), format!("sql {word}")];
                has_sessions(&db, &["Compression_algorithm"], &expected.each_ref().map(String::as_str)).await;
            }
            // many small packets, then some that fill frames
            let before = proxy.passed().1;
            for id in 0..300 {
                db.exec(&format!("insert into orders values ({id}, repeat('abcdefgh', 100))")).await;
            }
            db.exec("insert into orders values (300, repeat('z', 20000000)), (301, repeat('y', 100)), (302, '')").await;
            let expected: Vec<i64> = (0..303).collect();
            sees(&daemon, &expected).await;
            costs.push((*word, proxy.passed().1 - before));
            stops(&mut daemon).await;
            gone(&db).await;
            // the same rows by a copy
            let mut copied = run(&yaml.replace("backfill: never", "backfill: initial_only"));
            assert_eq!(copied.wait(PATIENCE).await, 0, "{}", copied.logs());
            // by several readers, in any order
            let mut found = ids(&copied);
            found.sort_unstable();
            assert_eq!(found, expected);
            assert!(large_is_whole(&daemon, 'z') && large_is_whole(&copied, 'z'));
            gone(&db).await;
            db.exec("truncate table orders").await;
        }
        if round > 0 {
            let least = costs.iter().filter(|(word, _)| *word == "none").map(|(_, bytes)| *bytes).min().unwrap();
            let most = costs[round * 2..].iter().map(|(_, bytes)| *bytes).max().unwrap();
            assert!(most * 20 < least, "{word}: {costs:?}");
        }
    }
    println!("{}: bytes from the server: {costs:?}", kind.server());
}

fn large_is_whole(daemon: &Daemon, letter: char) -> bool {
    let text = std::fs::read_to_string(daemon.dir().join("out.jsonl")).unwrap();
    text.lines().any(|line| line.matches(letter).count() >= 20_000_000)
}

#[tokio::test]
async fn compressed_connections_carry_the_same() {
    tokio::join!(compressed(Kind::Mysql), compressed(Kind::Mariadb));
}

#[tokio::test]
async fn a_server_that_does_not_compress_is_refused() {
    let servers = Servers::private_with(
        &["mysql"],
        &[("ROWCAST_MYSQL_CONF", "--protocol-compression-algorithms=uncompressed,zlib")],
    );
    let db = shop_on(&servers, Kind::Mysql, "uncompressed").await;
    let parts = ["the server doesn't compress by zstd", "protocol_compression_algorithms='zlib,zstd,uncompressed'"];
    refused(&mut run(&yaml(&db, "  compression: zstd\n")), &parts).await;
}

#[tokio::test]
async fn a_unix_socket_takes_the_place_of_host_and_port() {
    for kind in KINDS {
        let (_servers, db) = observed(kind, "").await;
        let there = format!("  socket: {}\n", db.socket());
        let mut daemon = run(&yaml_at(&db, &there, CDC));
        streams(&mut daemon).await;
        // all of them: TCP has another kind in `threads`
        has_sessions(&db, &["Ssl_version"], &["dump ", "sql "]).await;
        let hosts = db.query("select distinct host from information_schema.processlist where user = 'cdc'").await;
        assert_eq!(hosts, [[Some("localhost".to_owned())]]);
        db.exec("insert into orders values (1, 'a')").await;
        sees(&daemon, &[1]).await;
        stops(&mut daemon).await;
        let wrong = yaml_at(&db, "  socket: /no/such.sock\n", CDC);
        let mut daemon = run(&wrong);
        let said = daemon.wait_for_log("waiting ", PATIENCE).await;
        for part in [&format!("{} /no/such.sock as user `cdc`", kind.server()), "No such file", "the socket's path"] {
            assert!(said.contains(part), "no {part:?} in: {said}");
        }
    }
}

/// Who we are, in the server's list of connections.
#[tokio::test]
async fn connections_say_whose_they_are() {
    for kind in KINDS {
        let (_servers, db) = observed(kind, "").await;
        let mut daemon = run(&yaml(&db, ""));
        streams(&mut daemon).await;
        let sql = "select distinct attr_name, attr_value from performance_schema.session_connect_attrs a join \
                   information_schema.processlist p on p.id = a.processlist_id where p.user = 'cdc' order by 1";
        let found: Vec<String> = db
            .query(sql)
            .await
            .into_iter()
            .map(|row| row.into_iter().flatten().collect::<Vec<_>>().join("="))
            .collect();
        let expected = [
            format!("_client_version={}", env!("CARGO_PKG_VERSION")),
            format!("_pid={}", daemon.pid()),
            "program_name=rowcast".to_owned(),
            format!("rowcast_source={}", db.name),
        ];
        assert_eq!(found, expected);
        stops(&mut daemon).await;
    }
}

/// A peer that vanished is noticed by TCP, on each connection.
#[tokio::test]
async fn tcp_keeps_alive_on_every_connection() {
    let db = shop(Kind::Mysql, "alive").await;
    let proxy = Proxy::to(db.port());
    let mut daemon = run(&yaml_at(&db, &at_port(proxy.port()), CDC));
    streams(&mut daemon).await;
    keeps_alive(proxy.port(), 2).await;
    stops(&mut daemon).await;
}
