//! `rowcast backfill`: asks a running daemon for copies of tables, over its admin socket.
//!
//! Reads no configuration: the source's name and the daemon's `state_dir` are all that the socket's path needs. Whatever is
//! wrong with the arguments is wrong usage (exit code 2), found before anything is asked; the daemon's refusal, or no daemon,
//! ends with 1. Numbers of `--keys` keep their digits: they are never read as floating point.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde_json::json;
use serde_json::value::RawValue;

use super::commands::{FAILED, complain};
use crate::backfill::control::{self, Answer, Command, TableProgress};
use crate::backfill::report;
use crate::config::{DEFAULT_STATE_DIR, parse_name, parse_table, table_text};

pub(super) const EXAMPLES: &str = "\
Examples:
  rowcast backfill shop --status                                       how all copies are getting on
  rowcast backfill shop public.orders                                  copy a table, beside the stream
  rowcast backfill shop public.orders --where \"placed > '2024-01-01'\"  some of its rows
  rowcast backfill shop public.orders --keys '[17, 18]'                the rows with these keys
  rowcast backfill shop public.items --keys '[[17, \"a\"], [18, \"b\"]]'   keys of several columns, in key order
  rowcast backfill shop 'public.\"a.b\"' --cancel                        a name with odd characters
  rowcast backfill shop --pause                                        all tables, until --resume
  docker compose exec rowcast rowcast backfill shop --status

The daemon must be running. It listens at <state_dir>/<NAME>.sock, and only its own user can connect.

Exit codes:
  0  done, or begun: --status tells how it goes on
  1  no daemon listens, its source isn't streaming, or it refused
  2  wrong usage";

/// Arguments of `backfill`.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("action").args(["status", "cancel", "pause", "resume"])))]
pub struct BackfillArgs {
    /// The source's name
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub source: String,

    /// schema.table, or database.table for MySQL and MariaDB; a part with odd characters in double quotes
    #[arg(value_name = "TABLE", value_parser = parse_table, required_unless_present = "action")]
    pub table: Option<(String, String)>,

    /// Copy the rows that meet this SQL condition only
    #[arg(long = "where", value_name = "SQL", value_parser = parse_filter, conflicts_with_all = ["action", "keys"])]
    pub filter: Option<String>,

    /// Copy the rows with these keys only: a JSON array of values, or of arrays of values in key order
    #[arg(long, value_name = "JSON", value_parser = parse_keys, conflicts_with = "action")]
    pub keys: Option<Keys>,

    /// Tell how copies are getting on
    #[arg(long)]
    pub status: bool,

    /// End the copy of TABLE, or all; what is published stays
    #[arg(long)]
    pub cancel: bool,

    /// Stop reading TABLE, or all, until --resume
    #[arg(long)]
    pub pause: bool,

    /// Go on reading TABLE, or all
    #[arg(long)]
    pub resume: bool,

    /// The daemon's state_dir
    #[arg(long, env = "ROWCAST__STATE_DIR", value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,

    /// Print JSON: for --status an object per line and table
    #[arg(long)]
    pub json: bool,
}

/// Keys of rows, each as the texts of its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(pub Vec<Vec<String>>);

impl BackfillArgs {
    fn command(&self) -> Command {
        let table = self.table.clone();
        match (&self.table, self.status, self.cancel, self.pause, self.resume) {
            (_, true, ..) => Command::Status,
            (_, _, true, ..) => Command::Cancel { table },
            (_, _, _, true, _) => Command::Pause { table },
            (_, _, _, _, true) => Command::Resume { table },
            (Some((qualifier, table)), ..) => Command::Backfill {
                qualifier: qualifier.clone(),
                table: table.clone(),
                filter: self.filter.clone(),
                keys: self.keys.clone().map(|keys| keys.0),
            },
            // The parser asks for a table where no action is given.
            (None, ..) => Command::Status,
        }
    }
}

fn parse_filter(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("expected an SQL condition".to_owned()) } else { Ok(text.to_owned()) }
}

/// Objects are refused: whether `{"b": 1, "a": 2}` is meant in the order of the key nobody can tell.
fn parse_keys(text: &str) -> Result<Keys, String> {
    const FORM: &str = "expected a JSON array such as [1, 2] or [[1, \"a\"], [2, \"b\"]]";
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| format!("{FORM}: {error}"))?;
    let keys: Vec<Vec<String>> = items
        .iter()
        .map(|item| match item.get().starts_with('[') {
            true => {
                let columns: Vec<&RawValue> =
                    serde_json::from_str(item.get()).map_err(|error| format!("{FORM}: {error}"))?;
                columns.into_iter().map(key_text).collect()
            }
            false => Ok(vec![key_text(item)?]),
        })
        .collect::<Result<_, String>>()?;
    let Some(columns) = keys.first().map(Vec::len) else { return Err("there is no key in it".to_owned()) };
    if columns == 0 || keys.iter().any(|key| key.len() != columns) {
        return Err("each key needs the same number of columns, one at least".to_owned());
    }
    Ok(Keys(keys))
}

/// The text of one value: a string's content, the digits of a number as they are.
fn key_text(value: &RawValue) -> Result<String, String> {
    let text = value.get();
    match text.chars().next() {
        Some('"') => serde_json::from_str(text).map_err(|error| error.to_string()),
        Some('{') => {
            Err("an object doesn't tell the order of a key's columns: write [1, \"a\"], in key order".to_owned())
        }
        Some('[') => Err("a key's columns are single values".to_owned()),
        _ if text == "null" => Err("no row has null in its key".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// Asks, and shows the answer.
pub(super) fn backfill(args: &BackfillArgs, runtime: &tokio::runtime::Runtime) -> ExitCode {
    let path = control::socket_path(&args.state_dir, &args.source);
    let text = match runtime.block_on(control::ask(&path, &args.command())) {
        Ok(Answer::Done(what)) if args.json => json!({ "done": what }).to_string(),
        Ok(Answer::Done(what)) => what,
        Ok(Answer::Status(tables)) => match status(args, tables) {
            Ok(text) => text,
            Err(why) => return complain(FAILED, format_args!("{why}")),
        },
        Err(why) => return complain(FAILED, format_args!("{why}")),
    };
    // `| head` may have closed it; that is no failure.
    let _ = if text.is_empty() { Ok(()) } else { writeln!(std::io::stdout(), "{text}") };
    ExitCode::SUCCESS
}

fn status(args: &BackfillArgs, mut tables: Vec<TableProgress>) -> Result<String, String> {
    if let Some((qualifier, table)) = &args.table {
        let name = table_text(qualifier, table);
        tables.retain(|progress| progress.table == name);
        if tables.is_empty() {
            return Err(format!("`{}` knows of no copy of {name}", args.source));
        }
    }
    if !args.json {
        return Ok(if tables.is_empty() { "no table is copied, or was".to_owned() } else { report::table(&tables) });
    }
    let lines: Result<Vec<String>, _> = tables.iter().map(serde_json::to_string).collect();
    lines.map(|lines| lines.join("\n")).map_err(|error| format!("the status can't be shown: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use clap::Parser;

    use super::*;
    use crate::cli::args::{self, Cli};

    fn parsed(arguments: &[&str]) -> BackfillArgs {
        let arguments = ["rowcast", "backfill"].iter().chain(arguments);
        match Cli::try_parse_from(arguments).unwrap().command {
            args::Command::Backfill(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn error(arguments: &[&str]) -> String {
        let error = Cli::try_parse_from(["rowcast", "backfill"].iter().chain(arguments)).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{arguments:?}");
        error.to_string()
    }

    #[test]
    fn arguments_become_one_command() {
        let table = Some(("public".to_owned(), "Orders.x".to_owned()));
        let named = "public.\"Orders.x\"";
        let backfill = |filter: Option<&str>, keys| Command::Backfill {
            qualifier: "public".to_owned(),
            table: "Orders.x".to_owned(),
            filter: filter.map(str::to_owned),
            keys,
        };
        for (arguments, expected) in [
            (&["shop", named][..], backfill(None, None)),
            (&["shop", named, "--where", "a > 1"], backfill(Some("a > 1"), None)),
            (&["shop", named, "--keys", "[1]"], backfill(None, Some(vec![vec!["1".to_owned()]]))),
            (&["shop", "--status"], Command::Status),
            (&["shop", named, "--status"], Command::Status),
            (&["--cancel", "shop", named], Command::Cancel { table: table.clone() }),
            (&["shop", "--cancel"], Command::Cancel { table: None }),
            (&["shop", named, "--pause"], Command::Pause { table: table.clone() }),
            (&["shop", "--resume"], Command::Resume { table: None }),
        ] {
            assert_eq!(parsed(arguments).command(), expected, "{arguments:?}");
        }
        assert_eq!(parsed(&["shop", "a.b", "--state-dir", "/x"]).state_dir, PathBuf::from("/x"));
    }

    #[test]
    fn wrong_usage_is_refused_with_the_reason() {
        for (arguments, why) in [
            (&["shop"][..], "required arguments"),
            (&[], "required arguments"),
            (&["shop", "public.*"], "not a pattern"),
            (&["shop", "orders"], "expected schema.table"),
            (&["../shop", "a.b"], "expected letters a-z"),
            (&["shop", "--status", "--cancel"], "cannot be used with"),
            (&["shop", "a.b", "--status", "--where", "x"], "cannot be used with"),
            (&["shop", "a.b", "--pause", "--keys", "[1]"], "cannot be used with"),
            (&["shop", "a.b", "--where", "x", "--keys", "[1]"], "cannot be used with"),
            (&["shop", "a.b", "--where", " "], "expected an SQL condition"),
            (&["shop", "a.b", "--keys", "{}"], "expected a JSON array"),
        ] {
            let shown = error(arguments);
            assert!(shown.contains(why), "{arguments:?}: {shown}");
        }
    }

    #[test]
    fn keys_keep_their_digits() {
        for (text, expected) in [
            ("[1, -2, 3.10]", &[&["1"][..], &["-2"], &["3.10"]][..]),
            (
                "[123456789012345678901234567890.000000000000000000001]",
                &[&["123456789012345678901234567890.000000000000000000001"]],
            ),
            ("[\"a\\\"\\u00fc\", \"'; --\", \"\", true]", &[&["a\"ü"], &["'; --"], &[""], &["true"]]),
            (" [ [1 ,\"a\"] , [ 2,\"b\" ] ] ", &[&["1", "a"], &["2", "b"]]),
            ("[[18446744073709551616]]", &[&["18446744073709551616"]]),
        ] {
            assert_eq!(parse_keys(text).unwrap().0, expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_list_of_keys_is_refused() {
        for (text, why) in [
            ("", "expected a JSON array"),
            ("1", "expected a JSON array"),
            ("[1,]", "expected a JSON array"),
            ("[1] 2", "expected a JSON array"),
            ("[01]", "expected a JSON array"),
            ("[]", "there is no key in it"),
            ("[[]]", "the same number"),
            ("[1, [2, 3]]", "the same number"),
            ("[null]", "no row has null"),
            ("[[1, null]]", "no row has null"),
            ("[{\"id\": 1}]", "an object doesn't tell the order"),
            ("[[[1]]]", "single values"),
        ] {
            let error = parse_keys(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_status_is_that_of_one_table_if_it_is_named() {
        let progress = |table: &str| TableProgress { table: table.to_owned(), ..TableProgress::default() };
        let tables = vec![progress("public.orders"), progress("public.\"A b\"")];
        let shown = status(&parsed(&["shop", "public.\"A b\"", "--status", "--json"]), tables.clone()).unwrap();
        assert!(shown.starts_with("{\"table\":\"public.\\\"A b\\\"\",\"state\":"), "{shown}");
        assert_eq!(status(&parsed(&["shop", "--status", "--json"]), tables.clone()).unwrap().lines().count(), 2);
        assert_eq!(status(&parsed(&["shop", "--status"]), tables.clone()).unwrap().lines().count(), 3);
        assert_eq!(
            status(&parsed(&["shop", "a.b", "--status"]), tables),
            Err("`shop` knows of no copy of a.b".to_owned())
        );
        assert_eq!(status(&parsed(&["shop", "--status", "--json"]), vec![]).unwrap(), "");
        assert_eq!(status(&parsed(&["shop", "--status"]), vec![]).unwrap(), "no table is copied, or was");
    }
}
