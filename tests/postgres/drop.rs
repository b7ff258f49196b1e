//! `rowcast drop`, and what a run says of what a former one left behind.

use crate::local::{CDC, again, place, run, sees, shop, stops, streams, streams_since, yaml, yaml_at};
use crate::support::daemon::Daemon;
use crate::support::source::PATIENCE;

async fn dropped(yaml: &str, args: &[&str]) -> (i32, String, String) {
    Daemon::command().file("source.yaml", yaml).arg("drop").args(args).output(PATIENCE).await
}

#[tokio::test]
async fn a_source_that_runs_is_not_dropped_and_one_that_does_not_is() {
    let db = shop("drop").await;
    let (name, slot) = (db.name.as_str(), format!("rowcast_{}", db.name));
    let mut daemon = run(&yaml(&db));
    streams(&mut daemon).await;
    // from elsewhere: there is no socket, but the server knows who streams
    let pid = db.walsender(&slot).await;
    let (code, out, error) = dropped(&yaml(&db), &["source.yaml"]).await;
    assert_eq!((code, out.as_str()), (1, ""), "{error}");
    let parts = [
        &format!("in use by the server process {pid} (of `rowcast {name}`): nothing was removed"),
        "repair: stop the daemon",
    ];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    // from the daemon's own folder
    let here = yaml(&db).replace("state_dir: state", &format!("state_dir: {}", daemon.dir().join("state").display()));
    let (code, _, error) = dropped(&here, &[name, "source.yaml"]).await;
    assert!(code == 1 && error.contains("is run by a daemon (it answers at "), "{error}");
    db.exec("insert into orders values (1)").await;
    sees(&daemon, &[1]).await;

    stops(&mut daemon).await;
    db.slot_is_free(&slot).await;
    let (code, out, error) = dropped(&here, &[name, "source.yaml"]).await;
    assert_eq!(code, 0, "{error}");
    for part in [
        &*format!("{name}: replication slot {slot}: removed"),
        &format!("{name}: publication {slot}: removed"),
        "out.jsonl",
        &format!("state/{name}.checkpoint.json"),
    ] {
        assert!(out.contains(part), "no {part:?} in: {out}");
    }
    let left = "select (select count(*) from pg_replication_slots where database = current_database()) + (select count(*) from pg_publication)";
    assert_eq!(db.value(left).await, "0");
    // once more: nothing is there, and that is no error
    let (code, out, _) = dropped(&here, &["source.yaml"]).await;
    assert!(code == 0 && out.matches("there is none").count() == 2, "{out}");

    // the checkpoint tells the loss
    let mark = again(&mut daemon);
    crate::local::refused_since(&mut daemon, mark, &["gap: ", &format!("slot {slot} does not exist")]).await;
    std::fs::remove_file(daemon.dir().join(format!("state/{name}.checkpoint.json"))).unwrap();
    let mark = again(&mut daemon);
    streams_since(&mut daemon, mark).await;
}

#[tokio::test]
async fn what_others_made_is_left_and_the_statement_is_given() {
    let db = shop("dropown").await;
    let name = db.name.as_str();
    db.exec(&format!("create publication mine_{name} for table orders with (publish_via_partition_root)")).await;
    let yaml = yaml_at(&db, &place(&db), &format!("{CDC}  publication: mine_{name}\n"));
    let mut daemon = run(&yaml);
    streams(&mut daemon).await;
    stops(&mut daemon).await;
    db.slot_is_free(&format!("rowcast_{name}")).await;
    let (code, out, error) = dropped(&yaml, &["source.yaml"]).await;
    assert_eq!(code, 0, "{error}");
    assert!(out.contains(&format!("slot rowcast_{name}: removed")), "{out}");
    let (_, statement) =
        out.lines().find(|line| line.contains("left, since")).unwrap().split_once("to remove it: ").unwrap();
    assert_eq!(db.value("select count(*) from pg_publication").await, "1");
    db.exec(statement).await;
    assert_eq!(db.value("select count(*) from pg_publication").await, "0");
}

#[tokio::test]
async fn wrong_usage_of_drop_is_told() {
    let mysql =
        "name: stock\nsource:\n  type: mysql\n  host: db\n  user: cdc\n  tables: [\"a.*\"]\nsink:\n  type: stdout\n";
    for (args, part) in [
        (&["source.yaml"][..], "is of type mysql: it has nothing on its server"),
        (&["Shop!"], "neither a file nor a source's name"),
        (&["other", "source.yaml"], "no source is called `other`"),
        (&["stock"], "no configuration: neither config"),
    ] {
        let (code, _, error) = dropped(mysql, args).await;
        assert!(code == 2 && error.contains(part), "{args:?}: {error}");
    }
}

/// A source that was renamed: its former slot keeps WAL for nobody.
#[tokio::test]
async fn a_run_says_what_a_former_one_left_behind() {
    let db = shop("left").await;
    let mut former = run(&yaml(&db));
    streams(&mut former).await;
    stops(&mut former).await;
    let slot = format!("rowcast_{}", db.name);
    db.slot_is_free(&slot).await;
    let renamed = yaml(&db).replacen(&format!("name: {}", db.name), &format!("name: new-{}", db.name), 1);
    let mut daemon = run(&renamed);
    streams(&mut daemon).await;
    let said = daemon.wait_for_log(&format!("replication slot {slot} of this database is nobody's"), PATIENCE).await;
    assert!(said.contains(" of WAL; ") && said.contains(&format!("pg_drop_replication_slot('{slot}')")), "{said}");
    daemon.wait_for_log(&format!("publication {slot} of this database was created by rowcast"), PATIENCE).await;
    stops(&mut daemon).await;
    db.slot_is_free(&format!("rowcast_new_{}", db.name)).await;
    // nothing is said of what the configuration names
    let mark = again(&mut former);
    streams_since(&mut former, mark).await;
    former.wait_for_log_since(mark, &format!("replication slot rowcast_new_{} of this", db.name), PATIENCE).await;
    assert!(!former.stderr()[mark.1..].contains(&format!("slot {slot} of this database")), "{}", former.logs());
}
