//! SIGKILLs in mid traffic: every database, both modes of delivery, all at the same time.
//!
//! A third of the kills come while the daemon starts, a third in the first moments of its stream, and a third after it has
//! published something.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::check::Mode;
use crate::rig::{Outcome, Rig, Setup};
use crate::support::source::{Kind, PATIENCE};

async fn killed(kind: Kind, mode: Mode, seed: u64, kills: u64) -> Outcome {
    let mut random = StdRng::seed_from_u64(seed);
    let name = if mode == Mode::ExactlyOnce { "exactly once" } else { "at least once" };
    let setup = Setup::of(kind, "kills", seed).await;
    let name = format!("{} {name}", kind.name());
    let mut rig = Rig::start(Setup { name: name.clone(), mode, one_topic: random.random_bool(0.5), ..setup }).await;
    for kill in 0..kills {
        match kill % 3 {
            0 => tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await,
            1 => {
                let mark = rig.mark;
                rig.daemon.wait_for_log_since(mark, "streaming: ", PATIENCE).await;
                tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await;
            }
            _ => {
                rig.progress(1).await;
                tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
            }
        }
        rig.kill();
    }
    rig.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_reordered_and_only_what_may_be_is_repeated_whenever_the_daemon_is_killed() {
    let _alone = crate::ALONE.lock().await;
    let (seed, kills) = (crate::seed(), crate::setting("ROWCAST_CHAOS_KILLS", 200));
    let began = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for (index, kind) in Kind::ALL.into_iter().enumerate() {
        for mode in [Mode::ExactlyOnce, Mode::AtLeastOnce] {
            let seed = seed.wrapping_add(index as u64 * 2 + u64::from(mode == Mode::AtLeastOnce));
            running.spawn(killed(kind, mode, seed, kills));
        }
    }
    let outcomes = running.join_all().await;
    println!("{} kills in {:.0} s", kills * outcomes.len() as u64, began.elapsed().as_secs_f64());
    for outcome in &outcomes {
        outcome.print(&format!("{kills} kills"));
    }
    outcomes.iter().for_each(Outcome::assert_right);
}
