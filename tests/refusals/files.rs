//! The file sink and the checkpoint file: unwritable, damaged, somebody else's, in use, on a full disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{
    LIMIT, again, at, command, has_all, inserted, lines, pg, refused, refused_since, run, sees, shop, stops, streams,
    streams_since,
};
use crate::support::daemon::Daemon;
use crate::support::eventually;

fn checkpoint(daemon: &Daemon, name: &str) -> PathBuf {
    daemon.dir().join(format!("state/{name}.checkpoint.json"))
}

#[tokio::test]
async fn an_output_file_that_can_not_be_written_is_named() {
    let db = shop("unwritable").await;
    for (path, why) in
        [("missing/out.jsonl", "No such file"), ("state", "Is a directory"), ("source.yaml/x", "Not a dir")]
    {
        let mut daemon = run(&pg(&db).replace("out.jsonl", path));
        refused(&mut daemon, &[&format!("can't append to {path}: "), why, "repair: `sink.path`"]).await;
    }
    assert_eq!(db.value("select count(*) from pg_replication_slots where database = current_database()").await, "0");
}

#[tokio::test]
async fn a_folder_of_checkpoints_that_can_not_be_made_is_named() {
    let db = shop("unwritable").await;
    let mut daemon = run(&pg(&db).replace("state_dir: state", "state_dir: source.yaml/state"));
    refused(&mut daemon, &["can't create the folder source.yaml/state: ", "repair: `state_dir`"]).await;
}

#[tokio::test]
async fn a_damaged_checkpoint_is_refused_and_not_started_over() {
    let db = shop("damaged").await;
    let mut daemon = run(&pg(&db));
    streams(&mut daemon).await;
    db.exec("insert into orders values (1)").await;
    sees(&daemon, &[1]).await;
    stops(&mut daemon).await;
    let file = checkpoint(&daemon, &db.name);
    let whole = fs::read_to_string(&file).unwrap();
    let kind = |text: &str| text.replace("\"postgres\"", "\"mysql\"");
    let cluster = db.value("select system_identifier from pg_control_system()").await;
    let cases: [(String, &[&str]); 5] = [
        (whole[..whole.len() / 2].to_owned(), &["can't be read: ", "restore it, or remove it"]),
        (String::new(), &["can't be read: ", "restore it, or remove it"]),
        (whole.replace("\"version\":2", "\"version\":9"), &["has version 9", "run the newer rowcast"]),
        (whole.replace(&db.name, "other"), &["belongs to source `other`", "a place of its own"]),
        (kind(&whole), &["was written for mysql", "the server is postgres", "another `name`"]),
    ];
    for (text, parts) in cases {
        fs::write(&file, text).unwrap();
        let mark = again(&mut daemon);
        let message = refused_since(&mut daemon, mark, parts).await;
        assert!(
            message.contains(&format!("state/{0}.checkpoint.json", db.name)) || message.contains(&db.name),
            "{message}"
        );
    }
    // another cluster under the same name
    fs::write(&file, whole.replace(&cluster, "42")).unwrap();
    let mark = again(&mut daemon);
    refused_since(&mut daemon, mark, &["system identifier 42", &cluster, "point `source` at the old server"]).await;

    fs::write(&file, whole).unwrap();
    db.exec("insert into orders values (2)").await;
    let mark = again(&mut daemon);
    streams_since(&mut daemon, mark).await;
    sees(&daemon, &[1, 2]).await;
}

#[tokio::test]
async fn a_source_that_another_daemon_runs_is_left_to_it() {
    let db = shop("locked").await;
    let mut first = run(&pg(&db));
    streams(&mut first).await;
    let state = first.dir().join("state");
    let mut second = run(&pg(&db).replace("state_dir: state", &format!("state_dir: {}", state.display())));
    let lock = state.join(format!("{}.lock", db.name));
    refused(&mut second, &["is already run by another process", lock.to_str().unwrap(), "stop that process"]).await;
    db.exec("insert into orders values (1)").await;
    sees(&first, &[1]).await;
}

/// A small disk, unmounted when dropped; none where this process may not mount.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, kib: usize) -> Option<SmallDisk> {
        fs::create_dir_all(at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
    }
}

/// Events and checkpoint share a disk that fills up in the middle of an event.
#[tokio::test]
async fn a_full_disk_holds_the_source_back_until_there_is_room() {
    full_disk(64, "").await;
}

/// The same while the file is set aside every few events.
#[tokio::test]
async fn a_full_disk_holds_a_rotated_file_back_too() {
    full_disk(128, "  rotate: {max_bytes: 8KiB, keep: 100}\n").await;
}

async fn full_disk(kib: usize, rotate: &str) {
    let db = shop("full").await;
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), kib) else {
        panic!("a full disk can't be tested: mounting a tmpfs needs root (CAP_SYS_ADMIN)");
    };
    let (out, state, ballast) = (disk.0.join("out.jsonl"), disk.0.join("state"), disk.0.join("ballast"));
    fs::write(&ballast, vec![b'x'; (kib - 20) << 10]).unwrap();
    let config = pg(&db)
        .replace("path: out.jsonl\n", &format!("path: {}\n{rotate}", out.display()))
        .replace("state_dir: state", &format!("state_dir: {}", state.display()));
    let mut daemon = run(&config);
    streams(&mut daemon).await;
    for id in 1..=40 {
        db.exec(&format!("insert into orders values ({id}, repeat('x', 700))")).await;
    }
    let line = daemon.wait_for_log("waiting ", LIMIT).await;
    has_all(&line, &["No space left on device", disk.0.to_str().unwrap()]);
    // and it stays so while the disk is full
    let mark = daemon.mark();
    daemon.wait_for_log_since(mark, "waiting ", LIMIT).await;
    assert!(daemon.is_running());
    fs::remove_file(&ballast).unwrap();
    let expected: Vec<i64> = (1..=40).collect();
    eventually(LIMIT, "all events", || async {
        let files = fs::read_dir(&disk.0).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        let events = files.filter(|path| *path != ballast).map(|path| fs::read_to_string(path).unwrap());
        let mut found = inserted(&events.collect::<String>());
        found.sort_unstable();
        found.dedup();
        found.sort_unstable();
        found.dedup();
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
    stops(&mut daemon).await;
    assert_eq!(at(&lines(&daemon, (0, 0)), "ERROR"), [""; 0]);
}

/// Newer events of a table without a key wait in a file while it is copied; that file's disk fills up.
#[tokio::test]
async fn a_full_disk_below_held_events_holds_the_source_back_until_there_is_room() {
    let db = shop("held").await;
    db.exec(
        "create table bag (n bigint, note text); alter table bag owner to cdc; alter table bag replica identity full",
    )
    .await;
    db.exec("insert into bag select -n, 'first' from generate_series(1, 4000) n").await;
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), 64) else {
        panic!("a full disk can't be tested: mounting a tmpfs needs root (CAP_SYS_ADMIN)");
    };
    let state = disk.0.join("state");
    let config = pg(&db).replace("state_dir: state", &format!("state_dir: {}", state.display()));
    let mut daemon = run(&config);
    streams(&mut daemon).await;
    // the copy doesn't begin before this transaction ends, and events of the table are held as soon as it is planned
    let open = db.connect().await;
    open.batch_execute("begin; insert into orders values (1)").await.unwrap();
    let asked = Daemon::command().args(&["backfill", &db.name, "public.bag", "--state-dir", state.to_str().unwrap()]);
    let (code, _, errors) = asked.output(LIMIT).await;
    assert_eq!(code, 0, "{errors}");
    daemon.wait_for_log("the copy waits for transactions", LIMIT).await;
    for id in 1..=300 {
        db.exec(&format!("insert into bag values ({id}, repeat('x', 700))")).await;
    }
    let line = daemon.wait_for_log("waiting ", LIMIT).await;
    has_all(&line, &["No space left on device", disk.0.to_str().unwrap()]);
    assert!(daemon.is_running());
    let enlarged = Command::new("mount").args(["-o", "remount,size=16m"]).arg(&disk.0).status().unwrap();
    assert!(enlarged.success());
    open.batch_execute("commit").await.unwrap();
    // the copy begins anew, so that a row may be there from each of its attempts; behind the last truncation all is there once
    eventually(LIMIT, "the whole table", || async {
        let events: Vec<serde_json::Value> = fs::read_to_string(daemon.dir().join("out.jsonl"))
            .unwrap()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let from = events.iter().rposition(|event| event["op"] == "t").map_or(0, |place| place + 1);
        let mut found: Vec<i64> = events[from..].iter().filter_map(|event| event["after"]["n"].as_i64()).collect();
        found.sort_unstable();
        let expected: Vec<i64> = (-4000..=-1).chain(1..=300).collect();
        if found == expected { Ok(()) } else { Err((found.len(), expected.len())) }
    })
    .await;
    stops(&mut daemon).await;
}

/// The same without a mount: first a device that is always full, then a file in its place.
#[tokio::test]
async fn a_full_device_holds_the_source_back() {
    let db = shop("full").await;
    let builder = command(&[("source.yaml", &pg(&db))]);
    std::os::unix::fs::symlink("/dev/full", builder.dir().join("out.jsonl")).unwrap();
    let mut daemon = builder.spawn();
    streams(&mut daemon).await;
    db.exec("insert into orders values (1); insert into orders values (2)").await;
    let line = daemon.wait_for_log("waiting ", LIMIT).await;
    has_all(&line, &["can't write events to out.jsonl: ", "No space left on device"]);
    fs::write(daemon.dir().join("empty"), "").unwrap();
    fs::rename(daemon.dir().join("empty"), daemon.dir().join("out.jsonl")).unwrap();
    sees(&daemon, &[1, 2]).await;
    stops(&mut daemon).await;
}
