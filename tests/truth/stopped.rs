//! Sources that stop for good beside one that goes on; the process lives, and says which is which.

use std::time::Duration;

use crate::asking::{Asked, to_brokers};
use crate::support::daemon::Daemon;
use crate::support::source::{Kind, PATIENCE, Source};
use crate::support::{ClosedPort, Servers, env, mysql};

const TIMEOUT: Duration = PATIENCE;

#[tokio::test]
async fn what_only_an_operator_can_repair_is_stopped_with_the_reason() {
    let good = Source::create(Kind::Mariadb, "truth").await;
    good.create_table("t", "id int primary key").await;
    let brokers = env().brokers();
    let mut configs = vec![to_brokers(&good, brokers)];
    let mut refused = Vec::new();
    for kind in [Kind::Postgres, Kind::Mysql, Kind::Mariadb] {
        let source = Source::create(kind, "wrong").await;
        source.create_table("t", "id int primary key").await;
        configs.push(to_brokers(&source, brokers).replace("cdcpw", "wrongpw"));
        refused.push(source);
    }
    // a server of its own: every source of a server meets what is in its binlog
    let servers = Servers::private(&["mysql"]);
    let poisoned = Source::Mysql(mysql::Db::create_on(&servers, mysql::Kind::Mysql, "poison").await);
    poisoned.create_table("t", "id int primary key").await;
    // its rows precede the source, which may not look for them
    poisoned.exec("xa start 'early'; insert into t values (1); xa end 'early'; xa prepare 'early'").await;
    configs.push(to_brokers(&poisoned, brokers));

    let asked = Asked::start(&configs).await;
    asked.wait_for(good.name(), PATIENCE, "streaming", |it| it["state"] == "streaming").await;
    for source in &refused {
        let stopped = asked.wait_for(source.name(), PATIENCE, "stopped", |it| it["state"] == "stopped").await;
        assert!(!stopped["why"].as_str().unwrap().is_empty(), "{stopped}");
        assert_eq!(stopped["totals"]["errors"]["definite"], 1);
    }
    asked.wait_for(poisoned.name(), PATIENCE, "streaming", |it| it["state"] == "streaming").await;
    poisoned.exec("xa commit 'early'").await;
    let stopped = asked.wait_for(poisoned.name(), PATIENCE, "stopped", |it| it["state"] == "stopped").await;
    assert!(stopped["why"].as_str().unwrap().contains("repair: "), "{stopped}");

    let names: Vec<&str> = refused.iter().chain([&poisoned]).map(Source::name).collect();
    asked.stay_unready(&names, Duration::from_secs(1)).await;
    let metrics = asked.metrics().await;
    assert_eq!(
        (metrics.of("rowcast_source_ready", good.name()), metrics.state(good.name())),
        (Some(1.0), "streaming".into())
    );
    assert_eq!(asked.get("/healthz").await.0, 200, "the process lives");
    for text in [asked.get("/metrics").await.1, asked.get("/api/v1/sources").await.1, asked.get("/readyz").await.1] {
        assert!(!text.contains("wrongpw") && !text.contains("cdcpw"), "a password in: {text}");
    }

    // what people see
    let command = || Daemon::command().args(&["status", "--admin", asked.address()]);
    let (code, shown, _) = command().output(TIMEOUT).await;
    assert_eq!(code, 1, "{shown}");
    for name in &names {
        assert!(shown.contains(&format!("{name}: stopped: ")), "{shown}");
    }
    let (code, shown, _) = command().arg(good.name()).output(TIMEOUT).await;
    assert!(code == 0 && shown.contains("streaming"), "{code}: {shown}");
    let (code, json, _) = command().arg("--json").output(TIMEOUT).await;
    let json: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json.len()), (1, 5));
    assert_eq!(command().arg("nobody").output(TIMEOUT).await.0, 1);
}

#[tokio::test]
async fn status_says_when_nobody_answers_and_a_taken_address_is_an_error() {
    // taken, and nobody listens
    let port = ClosedPort::take();
    let taken = format!("127.0.0.1:{}", port.port());
    let source = Source::create(Kind::Postgres, "truth").await;
    let run = Daemon::command().file("s.yaml", &to_brokers(&source, env().brokers())).args(&["run", "s.yaml"]);
    let (code, _, log) = run.env("ROWCAST__ADMIN", &taken).output(TIMEOUT).await;
    assert_eq!(code, 1, "{log}");
    assert!(log.contains(&taken) && log.contains("repair: set `admin`"), "{log}");

    let (code, _, error) = Daemon::command().args(&["status", "--admin", &taken]).output(TIMEOUT).await;
    assert!(code == 1 && error.contains("no daemon answers on"), "{code}: {error}");
    let shared = Daemon::command().file("rowcast.yaml", &format!("admin: {taken}\n"));
    let shared = shared.args(&["status", "--config", "rowcast.yaml"]);
    // the environment wins: tests have it off
    assert_eq!(shared.output(TIMEOUT).await.0, 2);
    let shared = Daemon::command().file("rowcast.yaml", &format!("admin: {taken}\nadmni: 1\n"));
    let (code, _, error) = shared.args(&["status", "--config", "rowcast.yaml"]).output(TIMEOUT).await;
    assert!(code == 2 && error.contains("did you mean `admin`"), "{code}: {error}");
}
