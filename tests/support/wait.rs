//! Waiting for a condition without fixed sleeps.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

/// Asks again and again until `probe` returns `Ok`, and returns what it gave. `Err` says what was seen instead: the
/// last one is in the message of the panic at the end of `timeout`.
pub async fn eventually<T, E, F, Fut>(timeout: Duration, what: &str, mut probe: F) -> T
where
    E: Debug,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        let seen =
            match tokio::time::timeout(timeout.saturating_sub(start.elapsed()).max(Duration::from_secs(1)), probe())
                .await
            {
                Ok(Ok(value)) => return value,
                Ok(Err(seen)) => format!("{seen:?}"),
                Err(_) => "no answer from the probe itself".to_owned(),
            };
        if start.elapsed() >= timeout {
            panic!("waited {timeout:?} for: {what}; last seen: {seen}");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// [`eventually`] for a plain yes or no.
pub async fn eventually_within<F, Fut>(timeout: Duration, what: &str, mut probe: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    eventually(timeout, what, || {
        let answer = probe();
        async move { if answer.await { Ok(()) } else { Err("not yet") } }
    })
    .await;
}
