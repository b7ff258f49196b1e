//! Kafka paused, and killed, in front of a source of each kind.

use std::time::Duration;

use crate::asking::{Asked, SOON, caught_up, is_behind, pause, to_brokers};
use crate::support::source::{Kind, PATIENCE, Source};
use crate::support::{ClosedPort, Servers, eventually, kafka};

struct Three {
    sources: Vec<Source>,
    brokers: String,
}

impl Three {
    async fn create(brokers: &str) -> Three {
        let mut sources = Vec::new();
        for kind in [Kind::Postgres, Kind::Mysql, Kind::Mariadb] {
            let source = Source::create(kind, "truth").await;
            source.create_table("t", "id int primary key, note varchar(100)").await;
            sources.push(source);
        }
        Three { sources, brokers: brokers.to_owned() }
    }

    fn names(&self) -> Vec<&str> {
        self.sources.iter().map(Source::name).collect()
    }

    fn configs(&self) -> Vec<String> {
        self.sources.iter().map(|source| to_brokers(source, &self.brokers)).collect()
    }

    async fn write(&self, id: u32) {
        for source in &self.sources {
            source.exec(&format!("insert into t values ({id}, 'note')")).await;
        }
    }

    /// Every source has published so many events of `t`.
    async fn arrive(&self, count: usize) {
        for source in &self.sources {
            eventually(PATIENCE, &format!("{count} events of {}", source.name()), || async {
                let found = kafka::read(&self.brokers, &source.topic("t"), true).await.len();
                if found == count { Ok(()) } else { Err(found) }
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_paused_kafka_is_told_of_by_idle_and_by_busy_sources() {
    let servers = Servers::private(&["kafka"]);
    let three = Three::create(servers.brokers()).await;
    let names = three.names();
    let asked = Asked::start(&three.configs()).await;
    asked.all_stream(&names).await;
    // nothing was ever written: nothing is behind
    for name in &names {
        asked.wait_for(name, PATIENCE, "no lag while idle", caught_up).await;
    }
    three.write(1).await;
    three.arrive(1).await;

    let paused = pause(servers.pid("kafka"));
    let took = asked.none_is_ready(&names).await;
    eprintln!("kafka paused, all idle: told within {took:?}");
    three.write(2).await;
    for name in &names {
        let source = asked.wait_for(name, SOON, "what is written now is behind", is_behind).await;
        let why = source["why"].as_str().unwrap();
        assert!(why.contains("kafka"), "{why}");
        let first = source["lag"]["seconds"].as_f64();
        asked.wait_for(name, SOON, "a lag that grows", |it| it["lag"]["seconds"].as_f64() > first).await;
    }
    asked.stay_unready(&names, Duration::from_secs(3)).await;
    eventually(SOON, "the lag in the metrics", || async {
        let metrics = asked.metrics().await;
        let bytes: Vec<Option<f64>> = names.iter().map(|name| metrics.of("rowcast_lag_bytes", name)).collect();
        if bytes.iter().all(|bytes| *bytes > Some(0.0)) { Ok(()) } else { Err(bytes) }
    })
    .await;

    drop(paused);
    asked.all_stream(&names).await;
    three.arrive(2).await;
    for name in &names {
        asked.wait_for(name, PATIENCE, "no lag", caught_up).await;
    }
}

#[tokio::test]
async fn a_killed_kafka_is_told_of_and_so_is_its_return() {
    let servers = Servers::private(&["kafka"]);
    let three = Three::create(servers.brokers()).await;
    let names = three.names();
    let asked = Asked::start(&three.configs()).await;
    asked.all_stream(&names).await;
    for name in &names {
        asked.wait_for(name, PATIENCE, "no lag", caught_up).await;
    }

    servers.kill("kafka");
    three.write(1).await;
    let took = asked.none_is_ready(&names).await;
    eprintln!("kafka killed: told within {took:?}");
    for name in &names {
        asked.wait_for(name, PATIENCE, "a lag while kafka is gone", is_behind).await;
    }
    asked.stay_unready(&names, Duration::from_secs(2)).await;

    servers.start("kafka");
    asked.all_stream(&names).await;
    three.arrive(1).await;
    for name in &names {
        asked.wait_for(name, PATIENCE, "no lag", caught_up).await;
    }
}

#[tokio::test]
async fn a_kafka_that_was_never_there_is_told_of_with_the_next_attempt() {
    let source = Source::create(Kind::Postgres, "truth").await;
    let closed = ClosedPort::take();
    let asked = Asked::start(&[to_brokers(&source, &format!("127.0.0.1:{}", closed.port()))]).await;
    let name = source.name();
    let waiting = asked.wait_for(name, PATIENCE, "waiting", |it| it["state"] == "waiting").await;
    assert!(waiting["why"].as_str().unwrap().contains("`sink.brokers`"), "{waiting}");
    assert!(waiting["until"].as_f64() > waiting["since"].as_f64(), "{waiting}");
    // where it would go on isn't known, since that is in kafka: no number is made up
    assert_eq!((&waiting["lag"]["known"], &waiting["lag"]["bytes"]), (&false.into(), &serde_json::Value::Null));
    asked.wait_for(name, PATIENCE, "a restart", |it| it["totals"]["restarts"].as_u64() > Some(1)).await;
    let metrics = asked.metrics().await;
    assert!(metrics.with("rowcast_errors_total", &[("source", name), ("kind", "transient")]) > Some(1.0));
    assert_eq!(metrics.of("rowcast_lag_bytes", name), None);
    asked.stay_unready(&[name], Duration::from_secs(2)).await;
}
