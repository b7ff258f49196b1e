//! Reaching the server: TLS in every mode, client certificates, channel binding, passwords from a program, Unix sockets, several hosts,
//! poolers in the way. Both kinds of connection are looked at on the server: the SQL session and the walsender.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rowcast_net::{TlsMode, TlsOptions, upgrade_tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::block_in_place;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::local::{CDC, becomes, place, refused, run, sees, shop, shop_on, stops, streams, yaml_at};
use crate::support::daemon::Daemon;
use crate::support::local::keeps_alive;
use crate::support::proxy::Proxy;
use crate::support::source::PATIENCE;
use crate::support::{ClosedPort, Servers, env, eventually, postgres};

/// What the server says of the daemon's sessions, each kind once: `client backend` and `walsender`.
async fn sessions(db: &postgres::Db, of_each: &str) -> Vec<String> {
    let sql = format!(
        "select distinct a.backend_type || ' ' || {of_each} from pg_stat_activity a join pg_stat_ssl s using (pid) \
         where a.datname = '{}' and a.usename like 'cdc%' order by 1",
        db.name
    );
    db.query(&sql).await.into_iter().map(|row| row[0].clone().unwrap_or_default()).collect()
}

/// Waits until the daemon's sessions are these: one is made beside the stream.
async fn has_sessions(db: &postgres::Db, of_each: &str, expected: &[String], what: &str) {
    eventually(PATIENCE, what, || async {
        let found = sessions(db, of_each).await;
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
}

fn with(db: &postgres::Db, user: &str, tls: &str) -> String {
    yaml_at(db, &place(db), &format!("  user: {user}\n  password: cdcpw\n  tls: {{{tls}}}\n"))
}

#[tokio::test]
async fn tls_modes_are_those_of_libpq_on_both_connections() {
    let db = shop("tls").await;
    let ca = env().tls_ca().display().to_string();
    let (cert, key) = env().tls_client();
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    // `cdc_tls` must have TLS, `cdc` may do without
    let trusted = format!("ca: {ca}");
    for (user, tls, encrypted) in [
        ("cdc", "mode: disable".to_owned(), false),
        ("cdc", "mode: allow".to_owned(), false),
        ("cdc_tls", "mode: allow".to_owned(), true),
        ("cdc", "mode: prefer".to_owned(), true),
        ("cdc_tls", "mode: require".to_owned(), true),
        ("cdc_tls", format!("mode: verify-ca, server_name: other.example, {trusted}"), true),
        ("cdc_tls", format!("mode: verify-full, {trusted}"), true),
        ("cdc_cert", format!("mode: verify-full, {trusted}, cert: {cert}, key: {key}"), true),
    ] {
        db.exec(&format!("alter table orders owner to {user}; grant all on schema public to {user}")).await;
        db.exec(&format!("grant create on database {} to {user}", db.name)).await;
        let mut daemon = run(&with(&db, user, &tls));
        streams(&mut daemon).await;
        let dn = if user == "cdc_cert" { "/CN=cdc_cert" } else { "" };
        let each = format!("{user} {encrypted} {dn} rowcast {}", db.name);
        let expected = [format!("client backend {each}"), format!("walsender {each}")];
        let each = "a.usename || ' ' || s.ssl::text || ' ' || coalesce(s.client_dn, '') || ' ' || a.application_name";
        has_sessions(&db, each, &expected, &tls).await;
        stops(&mut daemon).await;
        becomes(&db, "select count(*) from pg_replication_slots where active and database = current_database()", "0")
            .await;
        db.exec(&format!("select pg_drop_replication_slot('rowcast_{0}'); drop publication rowcast_{0}", db.name))
            .await;
    }
    for (user, tls, parts) in [
        ("cdc_tls", "mode: disable".to_owned(), ["rejects connection", "no encryption", "pg_hba.conf"]),
        (
            "cdc_tls",
            format!("mode: verify-full, server_name: other.example, {trusted}"),
            ["tls handshake with 127.0.0.1 failed", "other.example", "`server_name`"],
        ),
        // a certificate that is no authority
        (
            "cdc_tls",
            format!("mode: verify-ca, ca: {cert}"),
            ["tls handshake with 127.0.0.1 failed", "UnknownIssuer", "`ca`"],
        ),
        ("cdc_cert", format!("mode: verify-full, {trusted}"), ["client certificate", "cdc_cert", "SQLSTATE 28000"]),
        ("cdc_tls", "mode: require, ca: /no/such".to_owned(), ["", "", ""]),
    ] {
        if tls.contains("/no/such") {
            let (code, _, error) = Daemon::command()
                .file("source.yaml", &with(&db, user, &tls))
                .args(&["run", "source.yaml"])
                .output(PATIENCE)
                .await;
            assert!(code == 2 && error.contains("/no/such"), "{error}");
        } else {
            refused(&mut run(&with(&db, user, &tls)), &parts).await;
        }
    }
    db.exec("alter table orders owner to app; drop owned by cdc_tls, cdc_cert").await;
}

/// Somebody between us and the server, with a certificate of his own, who decrypts all connections from the n-th on.
async fn man_in_the_middle(server: u16, from: usize) -> u16 {
    let (cert, key) = env().tls_client();
    let chain = CertificateDer::pem_file_iter(cert).unwrap().map(Result::unwrap).collect();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (acceptor, index) = (acceptor.clone(), count.fetch_add(1, Ordering::Relaxed));
            tokio::spawn(async move {
                let mut upstream = TcpStream::connect(("127.0.0.1", server)).await.ok()?;
                if index < from {
                    return copy_bidirectional(&mut client, &mut upstream).await.ok();
                }
                let mut request = [0; 8];
                client.read_exact(&mut request).await.ok()?;
                upstream.write_all(&request).await.ok()?;
                assert_eq!(upstream.read_u8().await.ok()?, b'S');
                client.write_all(b"S").await.ok()?;
                let unchecked = TlsOptions { mode: TlsMode::Require, ..TlsOptions::default() };
                let mut inside = acceptor.accept(client).await.ok()?;
                let mut outside = upgrade_tls(upstream, &unchecked, "127.0.0.1").await.ok()?;
                copy_bidirectional(&mut inside, &mut outside).await.ok()
            });
        }
    });
    port
}

/// SCRAM-SHA-256-PLUS: the password's proof holds for one TLS connection only. Without it nobody would notice him.
#[tokio::test(flavor = "multi_thread")]
async fn channel_binding_finds_a_man_in_the_middle_on_both_connections() {
    let db = shop("middle").await;
    let control = man_in_the_middle(db.port(), 0).await;
    let psql = |binding: &str| {
        let conninfo = format!(
            "host=127.0.0.1 port={control} user=cdc password=cdcpw dbname={} sslmode=require channel_binding={binding}",
            db.name
        );
        let psql = env().pg_bin().join("psql");
        block_in_place(|| std::process::Command::new(psql).args(["-qAtc", "select 1", &conninfo]).output().unwrap())
    };
    assert_eq!(psql("disable").stdout, b"1\n", "he is good at it");
    assert!(!psql("require").status.success());
    for from in [0, 1] {
        let port = man_in_the_middle(db.port(), from).await;
        let there = format!("  host: 127.0.0.1\n  port: {port}\n");
        let yaml = yaml_at(&db, &there, &format!("{CDC}  tls: {{mode: require}}\n"));
        refused(&mut run(&yaml), &["channel binding"]).await;
    }
}

#[tokio::test]
async fn a_password_may_come_from_a_program() {
    let db = shop("command").await;
    let with = |command: &str| {
        yaml_at(&db, &place(&db), &format!("  user: cdc\n  connect_timeout: 2s\n  password_command: {command}\n"))
    };
    let mut daemon = run(&with("[sh, -c, \"echo $0; echo noise >&2\", cdcpw]"));
    streams(&mut daemon).await;
    db.exec("insert into orders values (1)").await;
    sees(&daemon, &[1]).await;
    stops(&mut daemon).await;
    for (command, part) in [
        ("[sh, -c, \"echo no token >&2; exit 1\"]", "`sh`: it ended with exit status: 1 and says: no token"),
        ("[sleep, \"600\"]", "`sleep`: it printed nothing and ended not within 2s"),
    ] {
        let mut daemon = run(&with(command));
        let said = daemon.wait_for_log("waiting ", PATIENCE).await;
        assert!(said.contains(part) && said.contains("`source.password_command` by hand"), "{said}");
    }
    refused(&mut run(&with("[/no/such/program]")), &["`/no/such/program`: it can't be started: "]).await;
    refused(&mut run(&with("[echo, wrongpw]")), &["password authentication failed"]).await;
}

#[tokio::test]
async fn a_unix_socket_is_a_host() {
    let db = shop("socket").await;
    let socket = env().var("PG_SOCKET_DIR");
    let there = format!("  host: {socket}\n  port: {}\n", db.port());
    // the server trusts those who come this way; TLS isn't spoken there, whatever is preferred
    let mut daemon = run(&yaml_at(&db, &there, "  user: cdc\n"));
    streams(&mut daemon).await;
    let expected = ["client backend local", "walsender local"].map(str::to_owned);
    has_sessions(&db, "coalesce(a.client_addr::text, 'local')", &expected, "local sessions").await;
    db.exec("insert into orders values (1)").await;
    sees(&daemon, &[1]).await;
    stops(&mut daemon).await;
    let mut daemon = run(&yaml_at(&db, "  host: /no/such\n", "  user: cdc\n"));
    let said = daemon.wait_for_log("waiting ", PATIENCE).await;
    assert!(said.contains("/no/such/.s.PGSQL.5432: No such file"), "{said}");
}

#[tokio::test]
async fn several_hosts_are_tried_in_their_order_until_one_is_as_wanted() {
    let db = shop("hosts").await;
    let port = ClosedPort::take();
    let closed = port.port();
    let both = format!("  host: \"127.0.0.1:{closed},127.0.0.1\"\n  port: {}\n", db.port());
    for want in ["", "read-write", "any", "prefer-standby"] {
        let more = if want.is_empty() { String::new() } else { format!("  target_session_attrs: {want}\n") };
        let mut daemon = run(&yaml_at(&db, &both, &format!("{CDC}{more}")));
        streams(&mut daemon).await;
        let said = daemon.wait_for_log("connected to this one of several servers", PATIENCE).await;
        assert!(said.contains(&format!("127.0.0.1:{}", db.port())), "{said}");
        stops(&mut daemon).await;
    }
    for (want, lacks) in [("standby", "it is no standby"), ("read-only", "its sessions are not read-only")] {
        let more = format!("{CDC}  target_session_attrs: {want}\n");
        let mut daemon = run(&yaml_at(&db, &both, &more));
        let said = daemon.wait_for_log("waiting ", PATIENCE).await;
        for part in [
            &*format!("no server is there that is `{want}`: 127.0.0.1:{closed}: "),
            "refused",
            &format!("127.0.0.1:{}: {lacks}", db.port()),
            "`source.target_session_attrs`",
        ] {
            assert!(said.contains(part), "no {part:?} in: {said}");
        }
    }
    // a refused login ends the search
    let wrong = yaml_at(&db, &both, "  user: cdc\n  password: wrong\n");
    refused(&mut run(&wrong), &["password authentication failed"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_the_way_is_recognised() {
    let servers = block_in_place(|| {
        let servers = Servers::private(&["pg"]);
        servers.start("pgbouncer");
        servers
    });
    let db = shop_on(&servers, "pooler").await;
    let folder = servers.dir.join("pgbouncer");
    let text = std::fs::read_to_string(folder.join("env")).unwrap();
    let port = text.trim().strip_prefix("PGBOUNCER_PORT='").unwrap().trim_end_matches('\'').to_owned();
    let there = format!("  host: 127.0.0.1\n  port: {port}\n");
    let parts =
        ["a connection pooler such as PgBouncer", "`source.host` and `source.port` to the PostgreSQL server itself"];
    refused(&mut run(&yaml_at(&db, &there, CDC)), &parts).await;
    // one that takes the settings of a session and forgets them, as many are set up
    let ini = folder.join("pgbouncer.ini");
    for ignored in ["options, extra_float_digits", "options, extra_float_digits, replication"] {
        let settings = std::fs::read_to_string(&ini).unwrap() + &format!("ignore_startup_parameters = {ignored}\n");
        std::fs::write(&ini, settings).unwrap();
        block_in_place(|| servers.restart("pgbouncer"));
        refused(&mut run(&yaml_at(&db, &there, CDC)), &parts).await;
    }
    assert_eq!(db.value("select count(*) from pg_publication").await, "0");
}

/// What answers isn't PostgreSQL.
#[tokio::test]
async fn another_kind_of_server_is_told_apart() {
    let db = shop("http").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let _ = client.read(&mut [0; 1024]).await;
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
        }
    });
    let there = format!("  host: 127.0.0.1\n  port: {port}\n");
    for mode in ["prefer", "disable"] {
        let yaml = yaml_at(&db, &there, &format!("{CDC}  tls: {{mode: {mode}}}\n"));
        refused(&mut run(&yaml), &["not PostgreSQL's", "check `source.port`"]).await;
    }
}

/// A peer that vanished is noticed by TCP, on each connection.
#[tokio::test]
async fn tcp_keeps_alive_on_every_connection() {
    let db = shop("alive").await;
    let proxy = Proxy::to(db.port());
    let there = format!("  host: 127.0.0.1\n  port: {}\n", proxy.port());
    let mut daemon = run(&yaml_at(&db, &there, CDC));
    streams(&mut daemon).await;
    keeps_alive(proxy.port(), 2).await;
    stops(&mut daemon).await;
}
