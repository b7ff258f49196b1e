//! Answers what an operator asks for by `rowcast backfill`: each request changes the board, and is answered when a checkpoint has it.

use std::time::Duration;

use tokio::sync::mpsc;

use super::board::Board;
use super::control::{Answer, Asked, Command};
use super::coordinator::{Message, Readers};
use super::state::TableId;

/// Answers an operator's requests.
pub(super) async fn answer(readers: Readers, mut asked: mpsc::Receiver<Asked>) {
    while let Some(Asked { command, answer }) = asked.recv().await {
        let board = &readers.board;
        let result = match command {
            Command::Status => Ok(Answer::Status(board.progress())),
            Command::Backfill { qualifier, table, filter, keys } => {
                let id = TableId { qualifier, table };
                if !readers.captured.contains(&id) && !board.is_stopped(&id) {
                    let what = format!(
                        "{id} isn't captured: it wasn't there when the source started, or `source.tables` doesn't name it"
                    );
                    let _ = answer.send(Err(what));
                    continue;
                }
                let literals = keys.map(|keys| {
                    keys.into_iter()
                        .map(|key| key.iter().map(|text| quoted(text, readers.encoder.kind())).collect())
                        .collect()
                });
                tracing::info!(source = readers.encoder.source(), table = %id, "a copy was asked for");
                if let Err(why) = board.request(id.clone(), filter, literals) {
                    let _ = answer.send(Err(why));
                    continue;
                }
                durable(&readers).await.map(|()| {
                    Answer::Done(format!("{id}: the copy is asked for and will be made, also across restarts"))
                })
            }
            Command::Cancel { table } => change(&readers, table, "cancelled", Board::cancel).await,
            Command::Pause { table } => change(&readers, table, "paused", |board, id| board.pause(id, true)).await,
            Command::Resume { table } => change(&readers, table, "resumed", |board, id| board.pause(id, false)).await,
        };
        // whoever asked may have gone
        let _ = answer.send(result);
    }
    std::future::pending().await
}

async fn change(
    readers: &Readers,
    table: Option<(String, String)>,
    done: &str,
    act: impl FnOnce(&Board, Option<&TableId>) -> usize,
) -> Result<Answer, String> {
    let id = table.map(|(qualifier, table)| TableId { qualifier, table });
    match (act(&readers.board, id.as_ref()), &id) {
        (0, Some(id)) => Err(format!("{id} isn't being copied")),
        (0, None) => Err("no table is being copied".to_owned()),
        (count, _) => {
            durable(readers).await?;
            let what = id.map_or_else(|| format!("{count} tables"), |id| id.to_string());
            tracing::info!(source = readers.encoder.source(), tables = what, "copying {done}");
            Ok(Answer::Done(format!("{what}: {done}")))
        }
    }
}

/// Waits until what is on the board is in a checkpoint.
async fn durable(readers: &Readers) -> Result<(), String> {
    let _ = readers.pieces.send(Message::Look).await;
    match tokio::time::timeout(Duration::from_secs(8), readers.board.durable()).await {
        Ok(()) => Ok(()),
        Err(_) => Err("noted, but not yet in a checkpoint: the sink doesn't answer; see the daemon's log".to_owned()),
    }
}

/// A text as a literal of SQL; in MySQL and MariaDB a backslash is an escape.
fn quoted(text: &str, kind: &str) -> String {
    let text = if kind == "postgres" { text.to_owned() } else { text.replace('\\', "\\\\") };
    format!("'{}'", text.replace('\'', "''"))
}
