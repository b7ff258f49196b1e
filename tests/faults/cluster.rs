//! Three brokers, three replicas of everything, two of which must have a record: one broker down is a pause, two down are
//! waited for, and leaders move below the traffic.

use std::time::{Duration, Instant};

use tokio::task::block_in_place;

use crate::kafka::MOST;
use crate::rig::{Rig, Setup};
use crate::support::process::Watch;
use crate::support::source::{Kind, PATIENCE};
use crate::support::{Servers, eventually};

const BROKERS: [&str; 3] = ["kafka1", "kafka2", "kafka3"];

#[tokio::test(flavor = "multi_thread")]
async fn brokers_of_a_cluster_go_and_come_back_and_leaders_move_without_loss_or_repeat() {
    let servers = block_in_place(|| Servers::private(&BROKERS));
    let setup = Setup::of(Kind::Postgres, "cluster", 29).await;
    let brokers = (servers.brokers().to_owned(), servers.brokers().to_owned());
    let mut rig = Rig::start(Setup { brokers, ..setup }).await;
    let watch = Watch::new(rig.daemon.pid());
    // each one in its turn, killed or in good order: whichever leads a topic or coordinates the transactions
    for (round, broker) in BROKERS.into_iter().enumerate() {
        rig.progress(20).await;
        block_in_place(|| if round % 2 == 0 { servers.kill(broker) } else { servers.stop(broker) });
        rig.progress(20).await;
        block_in_place(|| servers.start(broker));
        // the leaders move back to where they were
        block_in_place(|| {
            servers.kafka_tool(
                "org.apache.kafka.tools.LeaderElectionCommand",
                &["--bootstrap-server", servers.brokers(), "--election-type", "PREFERRED", "--all-topic-partitions"],
            )
        });
    }
    // two down: nothing can be committed, and the daemon says so
    rig.progress(20).await;
    let mark = rig.daemon.mark();
    block_in_place(|| {
        servers.kill("kafka1");
        servers.kill("kafka2");
    });
    let began = Instant::now();
    rig.daemon.wait_for_log_since(mark, " waiting ", PATIENCE).await;
    println!("two brokers down: said after {:.1} s", began.elapsed().as_secs_f64());
    // what was committed before may be read late: the reader, too, has lost two brokers
    eventually(PATIENCE, "nothing more to be committed, without a quorum", || async {
        let before = rig.reader.distinct();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let more = rig.reader.distinct() - before;
        if more == 0 { Ok(()) } else { Err(more) }
    })
    .await;
    block_in_place(|| servers.start("kafka1"));
    rig.progress(20).await;
    block_in_place(|| servers.start("kafka2"));
    rig.progress(20).await;
    let outcome = rig.finish().await;
    outcome.print(&format!("5 brokers gone, leaders moved, peak {} MB", watch.peak() >> 20)).assert_right();
    assert!(watch.peak() < MOST, "{} MB", watch.peak() >> 20);
}
