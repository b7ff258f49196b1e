//! The database: restarted in good order and killed in mid traffic.

use tokio::task::{JoinSet, block_in_place};

use crate::rig::{Rig, Setup};
use crate::support::Servers;
use crate::support::source::{Kind, Source};

/// Three restarts of each sort; the writers, too, lose their sessions and go on.
async fn restarted(kind: Kind) {
    let name = kind.server();
    let servers = block_in_place(|| Servers::private(&[name]));
    let source = Source::create_on(&servers, kind, "restarts").await;
    let mut rig = Rig::start(Setup::with(source, "restarts", 17)).await;
    for round in 0..4 {
        rig.progress(50).await;
        block_in_place(|| {
            if round % 2 == 0 {
                servers.stop(name);
            } else {
                servers.kill(name);
            }
            servers.start(name);
        });
    }
    rig.progress(50).await;
    rig.finish().await.print("2 restarts, 2 SIGKILLs of the server").assert_right();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_restarts_or_is_killed_is_streamed_on_without_loss_or_repeat() {
    JoinSet::from_iter(Kind::ALL.map(restarted)).join_all().await;
}
