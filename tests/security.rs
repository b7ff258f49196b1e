//! TLS, client certificates, SASL and access control lists against a real broker that demands them; one PostgreSQL source each.
//!
//! What was delivered is read over a listener that demands nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use support::daemon::{Builder, Daemon};
use support::source::{Kind, Source};
use support::{Servers, env, eventually};

const LIMIT: Duration = Duration::from_secs(90);

/// The broker; started once for all tests of this file, unless it is among the shared servers.
fn secure() -> &'static Servers {
    static OWN: OnceLock<Servers> = OnceLock::new();
    match env().has("KAFKA_SECURE_BROKERS") {
        true => env(),
        // ends with this process
        false => OWN.get_or_init(|| Servers::private(&["kafka_secure"])),
    }
}

async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// The broker, without holding up the test's runtime while it starts.
async fn broker() -> &'static Servers {
    on_a_thread(secure).await
}

async fn shop(prefix: &str) -> Source {
    let source = Source::create(Kind::Postgres, prefix).await;
    source.create_table("orders", "id bigint primary key").await;
    source
}

fn sink(source: &Source, brokers: &str, properties: &[(&str, &str)]) -> String {
    let mut text = source.yaml("*") + "backfill: never\n";
    text.push_str(&format!("sink:\n  type: kafka\n  brokers: {brokers}\n  properties:\n"));
    for (name, value) in properties {
        text.push_str(&format!("    {name}: \"{value}\"\n"));
    }
    text
}

fn command(yaml: &str) -> Builder {
    Daemon::command().file("source.yaml", yaml).args(&["run", "source.yaml"])
}

async fn delivered(source: &Source) -> Vec<i64> {
    let topic = source.topic("orders");
    let records = support::kafka::read(secure().var("KAFKA_SECURE_BROKERS"), &topic, true).await;
    let mut ids: Vec<i64> =
        records.iter().map(|record| record.json()["after"]["id"].as_i64().unwrap_or_default()).collect();
    ids.sort_unstable();
    ids
}

async fn sees(source: &Source, expected: &[i64]) {
    eventually(LIMIT, "the events", || async {
        let found = delivered(source).await;
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
}

fn one_line<'a>(daemon: &'a str, level: &str) -> &'a str {
    let lines: Vec<&str> = daemon.lines().filter(|line| line.contains(level)).collect();
    assert_eq!(lines.len(), 1, "{daemon}");
    lines[0]
}

fn has_all(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "no {part:?} in: {line}");
    }
    for secret in ["plainpw", "scrampw", "limitedpw", "wrongpw"] {
        assert!(!line.contains(secret), "a password in: {line}");
    }
}

/// It stopped by itself, with one error.
async fn refused(daemon: &mut Daemon, parts: &[&str]) {
    assert_eq!(daemon.wait(LIMIT).await, 1);
    let log = daemon.stderr();
    let line = one_line(&log, "ERROR");
    has_all(line, parts);
    has_all(line, &["repair: "]);
}

/// It says why it waits, and goes on trying.
async fn waits(daemon: &mut Daemon, parts: &[&str]) {
    let line = daemon.wait_for_log("waiting ", LIMIT).await;
    has_all(&line, parts);
    has_all(&line, &["repair: "]);
    let mark = daemon.mark();
    daemon.wait_for_log_since(mark, "waiting ", LIMIT).await;
    assert!(daemon.is_running());
}

fn tls(servers: &Servers) -> [(&'static str, String); 2] {
    [("security.protocol", "SSL".to_owned()), ("ssl.ca.location", servers.tls_ca().to_str().unwrap().to_owned())]
}

fn sasl(servers: &Servers, mechanism: &str, user: &str, password: &str) -> Vec<(&'static str, String)> {
    vec![
        ("security.protocol", "SASL_SSL".to_owned()),
        ("ssl.ca.location", servers.tls_ca().to_str().unwrap().to_owned()),
        ("sasl.mechanism", mechanism.to_owned()),
        ("sasl.username", user.to_owned()),
        ("sasl.password", password.to_owned()),
    ]
}

fn borrowed<'a>(properties: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    properties.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// Everything arrives once, beyond a SIGKILL.
async fn delivers(listener: &str, properties: Vec<(&'static str, String)>) {
    let source = shop("secure").await;
    let mut daemon = command(&sink(&source, secure().var(listener), &borrowed(&properties))).spawn();
    daemon.wait_for_log("streaming: ", LIMIT).await;
    source.exec("insert into orders select generate_series(1, 50)").await;
    eventually(LIMIT, "the first event", || async {
        if delivered(&source).await.is_empty() { Err(()) } else { Ok(()) }
    })
    .await;
    daemon.kill9();
    source.exec("insert into orders select generate_series(51, 100)").await;
    daemon.start();
    sees(&source, &(1..=100).collect::<Vec<_>>()).await;
    assert_eq!(daemon.shutdown(LIMIT).await, 0);
    assert!(!daemon.stderr().contains("ERROR"), "{}", daemon.stderr());
    has_all(&daemon.logs(), &[]);
}

#[tokio::test]
async fn events_are_delivered_over_tls() {
    let properties = tls(broker().await).to_vec();
    delivers("KAFKA_SECURE_SSL", properties).await;
}

#[tokio::test]
async fn events_are_delivered_with_a_client_certificate() {
    let servers = broker().await;
    let (cert, key) = servers.tls_client();
    let mut properties = tls(servers).to_vec();
    properties.push(("ssl.certificate.location", cert.to_str().unwrap().to_owned()));
    properties.push(("ssl.key.location", key.to_str().unwrap().to_owned()));
    delivers("KAFKA_SECURE_MTLS", properties).await;
}

#[tokio::test]
async fn events_are_delivered_with_a_password() {
    let servers = broker().await;
    delivers("KAFKA_SECURE_SASL", sasl(servers, "PLAIN", "plain", "plainpw")).await;
}

/// Connect's topic of offsets is read as its brokers want it. There is no such topic here, but one that the user may read.
#[tokio::test]
async fn offsets_are_read_with_the_properties_of_a_file() {
    let servers = broker().await;
    let brokers = servers.var("KAFKA_SECURE_SASL");
    let source = shop("offsets").await;
    let properties = sasl(servers, "PLAIN", "plain", "plainpw");
    let mut daemon = command(&sink(&source, brokers, &borrowed(&properties))).spawn();
    daemon.wait_for_log("streaming: ", LIMIT).await;
    assert_eq!(daemon.shutdown(LIMIT).await, 0);
    let topic = format!("rowcast.checkpoint.{}", source.name());
    for (password, code, parts) in [
        ("plainpw", 2, ["no offset of a connector whose `topic.prefix` is `shop`", "connector.properties"]),
        ("wrongpw", 1, ["can't reach", "repair: `sasl.username` and `sasl.password` in the file of `--kafka-config`"]),
    ] {
        let properties = sasl(servers, "PLAIN", "plain", password);
        let properties: String = properties.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let command = Daemon::command()
            .file("connector.properties", "connector.class=x.MySqlConnector\ntopic.prefix=shop\n")
            .file("kafka.properties", &properties)
            .args(&["import", "debezium", "connector.properties", "--offsets-topic", &topic, "--brokers", brokers])
            .args(&["--kafka-config", "kafka.properties"]);
        let (found, out, said) = command.output(LIMIT).await;
        assert_eq!((found, out.as_str()), (code, ""), "{said}");
        has_all(&said, &parts);
    }
}

#[tokio::test]
async fn events_are_delivered_with_scram() {
    let servers = broker().await;
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        delivers("KAFKA_SECURE_SASL", sasl(servers, mechanism, "scram", "scrampw")).await;
    }
}

#[tokio::test]
async fn tail_reads_over_a_secured_listener() {
    let servers = broker().await;
    let source = shop("secure").await;
    let properties = sasl(servers, "SCRAM-SHA-512", "scram", "scrampw");
    let yaml = sink(&source, servers.var("KAFKA_SECURE_SASL"), &borrowed(&properties));
    let mut daemon = command(&yaml).spawn();
    daemon.wait_for_log("streaming: ", LIMIT).await;
    source.exec("insert into orders values (1)").await;
    sees(&source, &[1]).await;
    let tail = Daemon::command().file("source.yaml", &yaml);
    let args = ["tail", source.name(), "source.yaml", "--from", "beginning", "--until-end"];
    let (code, out, error) = tail.args(&args).output(LIMIT).await;
    assert_eq!((code, out.lines().count()), (0, 1), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let servers = broker().await;
    let source = shop("secure").await;
    for (mechanism, user) in [("PLAIN", "plain"), ("SCRAM-SHA-512", "scram"), ("PLAIN", "nobody")] {
        let properties = sasl(servers, mechanism, user, "wrongpw");
        let mut daemon = command(&sink(&source, servers.var("KAFKA_SECURE_SASL"), &borrowed(&properties))).spawn();
        refused(&mut daemon, &["uthentication failed", "`sasl.username` and `sasl.password` in `sink.properties`"])
            .await;
    }
}

/// An authority of somebody else.
fn other_authority(folder: &Path) -> String {
    let file = folder.join("other.crt");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj"])
        .args(["/CN=other", "-keyout", "/dev/null", "-out", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    file.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_wrong_with_tls_is_told_with_the_property() {
    let servers = broker().await;
    let source = shop("secure").await;
    let folder = tempfile::tempdir().unwrap();
    let other = other_authority(folder.path());
    let ca = servers.tls_ca();
    let ca = ca.to_str().unwrap();
    let ssl = ("security.protocol", "SSL");
    // listener, properties, words of the message
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: [Case<'_>; 5] = [
        ("KAFKA_SECURE_SSL", &[ssl, ("ssl.ca.location", &other)], &["certificate verify failed", "`ssl.ca.location`"]),
        ("KAFKA_SECURE_SSL", &[ssl], &["certificate verify failed", "`ssl.ca.location`"]),
        (
            "KAFKA_SECURE_MTLS",
            &[ssl, ("ssl.ca.location", ca)],
            &["certificate", "`ssl.certificate.location` and `ssl.key.location`"],
        ),
        // without TLS to a port with it, and the other way round
        ("KAFKA_SECURE_SSL", &[("client.id", "x")], &["`security.protocol`"]),
        ("KAFKA_SECURE_BROKERS", &[ssl, ("ssl.ca.location", ca)], &["`security.protocol`"]),
    ];
    let start = |case: &Case<'_>| command(&sink(&source, servers.var(case.0), case.1)).spawn();
    let mut daemons: Vec<Daemon> = cases.iter().map(start).collect();
    for (daemon, (_, _, parts)) in daemons.iter_mut().zip(cases) {
        waits(daemon, parts).await;
    }
}

async fn acl(change: &str, rights: &[&str]) {
    acl_of("User:limited", change, rights).await;
}

/// Changes what the lists allow to a user.
async fn acl_of(user: &str, change: &str, rights: &[&str]) {
    let mut args: Vec<String> =
        ["--bootstrap-server", secure().var("KAFKA_SECURE_BROKERS"), change, "--allow-principal", user]
            .map(str::to_owned)
            .to_vec();
    args.extend(rights.iter().map(|word| (*word).to_owned()));
    if change == "--remove" {
        args.push("--force".to_owned());
    }
    on_a_thread(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        secure().kafka_tool("org.apache.kafka.tools.AclCommand", &args);
    })
    .await;
}

/// The operations on topics whose names begin like this.
async fn topic_acl(change: &str, operations: &[&str], prefix: &str) {
    let words = operations.iter().flat_map(|operation| ["--operation", operation]);
    let rights: Vec<&str> = words.chain(["--resource-pattern-type", "prefixed", "--topic", prefix]).collect();
    acl(change, &rights).await;
}

/// What the README asks for.
const OF_CHECKPOINT: &[&str] = &["Create", "Describe", "DescribeConfigs", "Read", "Write"];
const OF_EVENTS: &[&str] = &["Create", "Describe", "DescribeConfigs", "Write"];

/// Each right is asked for by the message that its absence gives, and what the README names is enough.
#[tokio::test]
async fn missing_rights_are_named_one_by_one() {
    let servers = broker().await;
    let source = shop("rights").await;
    let name = source.name().to_owned();
    let properties = sasl(servers, "SCRAM-SHA-256", "limited", "limitedpw");
    let mut daemon = command(&sink(&source, servers.var("KAFKA_SECURE_SASL"), &borrowed(&properties))).spawn();
    let checkpoint = format!("rowcast.checkpoint.{name}");
    refused(&mut daemon, &[&format!("topic {checkpoint}: "), "grant the user Create, Describe and Write on the topic"])
        .await;
    topic_acl("--add", OF_CHECKPOINT, &checkpoint).await;
    daemon.start();
    assert_eq!(daemon.wait(LIMIT).await, 1);
    let log = daemon.stderr();
    let line = log.lines().rfind(|line| line.contains("ERROR")).unwrap();
    has_all(line, &[&format!("repair: grant the user Write on the transactional id `rowcast.{name}`")]);
    acl("--add", &["--operation", "Write", "--transactional-id", &format!("rowcast.{name}")]).await;
    daemon.start();
    assert_eq!(daemon.wait(LIMIT).await, 1);
    let log = daemon.stderr();
    let line = log.lines().rfind(|line| line.contains("ERROR")).unwrap();
    let schemas = format!("rowcast.schema.{name}");
    has_all(line, &[&format!("topic {schemas}: "), "repair: grant the user Create, Describe and Write on the topic"]);
    topic_acl("--add", OF_CHECKPOINT, &schemas).await;
    let mark = daemon.mark();
    daemon.start();
    daemon.wait_for_log_since(mark, "streaming: ", LIMIT).await;
    source.exec("insert into orders values (1)").await;
    // it has begun its work, and waits from now on
    let topic = source.topic("orders");
    let line = daemon.wait_for_log_since(mark, &format!("topic {topic}: "), LIMIT).await;
    has_all(&line, &["waiting ", "repair: grant the user Create, Describe and Write on the topic"]);
    topic_acl("--add", OF_EVENTS, &topic).await;
    sees(&source, &[1]).await;
    assert!(daemon.is_running());
}

/// A producer's number is given to those who may write, to any topic or without repeats to the cluster.
#[tokio::test]
async fn a_missing_right_on_the_cluster_is_named() {
    let servers = broker().await;
    let source = shop("reader").await;
    let name = source.name().to_owned();
    // both topics are looked at before anything is written
    for topic in [format!("rowcast.checkpoint.{name}"), format!("rowcast.schema.{name}")] {
        let operations = ["Create", "Describe", "DescribeConfigs", "Read"].iter().flat_map(|one| ["--operation", one]);
        acl_of("User:reader", "--add", &operations.chain(["--topic", &topic]).collect::<Vec<_>>()).await;
    }
    let properties = sasl(servers, "SCRAM-SHA-256", "reader", "readerpw");
    let yaml = sink(&source, servers.var("KAFKA_SECURE_SASL"), &borrowed(&properties)) + "delivery: at_least_once\n";
    let mut daemon = command(&yaml).spawn();
    refused(&mut daemon, &["luster authorization failed", "grant the user Write on the topics"]).await;
}

/// Nothing is lost or sent twice while a right is taken away and given back.
#[tokio::test]
async fn rights_that_are_revoked_are_waited_for() {
    let servers = broker().await;
    let source = shop("revoked").await;
    let name = source.name().to_owned();
    topic_acl("--add", OF_CHECKPOINT, &format!("rowcast.checkpoint.{name}")).await;
    topic_acl("--add", OF_EVENTS, &format!("rowcast.schema.{name}")).await;
    topic_acl("--add", OF_EVENTS, &name).await;
    let transactional = format!("rowcast.{name}");
    let of_id = ["--operation", "Write", "--transactional-id", &transactional];
    acl("--add", &of_id).await;
    let properties = sasl(servers, "SCRAM-SHA-256", "limited", "limitedpw");
    let mut daemon = command(&sink(&source, servers.var("KAFKA_SECURE_SASL"), &borrowed(&properties))).spawn();
    daemon.wait_for_log("streaming: ", LIMIT).await;
    source.exec("insert into orders select generate_series(1, 10)").await;
    sees(&source, &(1..=10).collect::<Vec<_>>()).await;

    topic_acl("--remove", OF_EVENTS, &name).await;
    let mark = daemon.mark();
    source.exec("insert into orders select generate_series(11, 20)").await;
    let line = daemon.wait_for_log_since(mark, "waiting ", LIMIT).await;
    has_all(&line, &[&source.topic("orders"), "repair: grant the user Create, Describe and Write on the topic"]);
    source.exec("insert into orders select generate_series(21, 30)").await;
    topic_acl("--add", OF_EVENTS, &name).await;
    sees(&source, &(1..=30).collect::<Vec<_>>()).await;

    acl("--remove", &of_id).await;
    let mark = daemon.mark();
    source.exec("insert into orders select generate_series(31, 40)").await;
    let line = daemon.wait_for_log_since(mark, "waiting ", LIMIT).await;
    has_all(&line, &[&format!("repair: grant the user Write on the transactional id `rowcast.{name}`")]);
    acl("--add", &of_id).await;
    sees(&source, &(1..=40).collect::<Vec<_>>()).await;
    assert!(!daemon.stderr().contains("ERROR"), "{}", daemon.stderr());
}
