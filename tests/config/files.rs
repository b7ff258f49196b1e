//! Mistakes of files and between them: the shared file, what can't be read, sources that get into each other's way.

use super::{Folder, SHOP, STOCK};

#[test]
fn a_mistake_in_the_shared_file_is_reported_once_and_there() {
    let folder = Folder::new(&[
        ("rowcast.yaml", "sink: {type: kafka, brokers: \"a:x\", tpoic: t}\nsource: {}\nlogging: {level: inof}\n"),
        ("a.yaml", &SHOP.replace("  brokers: kafka:9092\n", "")),
        ("b.yaml", &STOCK.replace("  brokers: kafka:9092\n", "")),
    ]);
    assert_eq!(
        folder.errors(&folder.request(&["."], &[])),
        "rowcast.yaml:1:30: `sink.brokers` is `a:x`: expected host:port, several separated by commas, such as \
         kafka-1:9092,kafka-2:9092\n\
         rowcast.yaml:1:37: unknown key `tpoic` in `sink`; did you mean `topic`? allowed: type, brokers, topic, \
         properties, topics, tombstones\n\
         rowcast.yaml:2:1: `source` belongs in a source file\n\
         rowcast.yaml:3:18: `logging.level` is `inof`: did you mean `info`? allowed: off, error, warn, info, debug, trace; \
         or by module: info,rowcast_mysql=debug\n\
         4 configuration errors"
    );
}

#[test]
fn a_broken_shared_file_hides_no_mistake_and_makes_none_up() {
    let folder = Folder::new(&[("rowcast.yaml", "sink: [\n"), ("a.yaml", "name: shop\nsuorce: {}\n")]);
    let shown = folder.errors(&folder.request(&["."], &[]));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{shown}");
    assert!(lines[0].starts_with("./a.yaml:2:1: unknown key `suorce`"), "{shown}");
    assert!(lines[1].starts_with("rowcast.yaml:1:7: invalid YAML: unclosed bracket"), "{shown}");
}

#[test]
fn paths_that_hold_no_source_are_errors() {
    let folder = Folder::new(&[("empty/notes.txt", ""), ("rowcast.yaml", ""), ("dir.yaml/x", ""), ("ok.yaml", SHOP)]);
    folder.write("latin1.yaml", b"name: caf\xe9\n");
    folder.write("large.yaml", &vec![b'#'; (1 << 20) + 1]);
    assert_eq!(
        folder.errors(&folder.request(&["empty", "missing.yaml", "rowcast.yaml", "latin1.yaml", "large.yaml"], &[])),
        "empty: no source found: the folder has no *.yaml except rowcast.yaml, nor has its folder sources/\n\
         large.yaml: the file is larger than 1 MiB; is it a configuration file?\n\
         latin1.yaml:1:10: the file is not UTF-8 text\n\
         missing.yaml: can't read the file: No such file or directory\n\
         rowcast.yaml: this is the shared file, not a source; name the source files or their folder\n\
         5 configuration errors"
    );
    assert!(folder.errors(&folder.request(&["dir.yaml"], &[])).starts_with("dir.yaml: no source found"));
}

#[cfg(unix)]
#[test]
fn an_unreadable_file_is_an_error_that_says_why() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new(&[("a.yaml", SHOP)]);
    std::fs::set_permissions(folder.0.join("a.yaml"), std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(folder.0.join("a.yaml")).is_ok() {
        return; // Root reads everything.
    }
    let shown = folder.errors(&folder.request(&["a.yaml"], &[]));
    assert!(shown.starts_with("a.yaml: can't read the file: Permission denied"), "{shown}");
}

#[test]
fn sources_must_not_share_name_slot_server_id_or_file() {
    let other = |text: &str, name: &str| text.replacen("name: shop", &format!("name: {name}"), 1);
    let to_file = SHOP.replace("type: kafka\n  brokers: kafka:9092", "type: file\n  path: out.jsonl");
    let folder = Folder::new(&[
        ("a.yaml", &other(SHOP, "a").replace("  user", "  slot: s\n  user")),
        ("b.yaml", &other(SHOP, "b").replace("  user", "  slot: s\n  user")),
        ("c.yaml", &other(SHOP, "a")),
        ("d.yaml", &other(&to_file, "d")),
        ("e.yaml", &other(&to_file, "e")),
        ("f.yaml", &STOCK.replace("name: stock", "name: f").replace("  user", "  server_id: 5\n  user")),
        ("g.yaml", &STOCK.replace("name: stock", "name: g").replace("  user", "  server_id: 5\n  user")),
    ]);
    assert_eq!(
        folder.errors(&folder.request(&["."], &[])).replace("./", ""),
        "b.yaml: the slot `s` on db.internal:5432 is taken by a.yaml already; each needs its own\n\
         c.yaml: the name `a` is taken by a.yaml already; choose another name\n\
         e.yaml: the file `out.jsonl` is taken by d.yaml already; each needs its own\n\
         g.yaml: the server id 5 on db.internal:3306 is taken by f.yaml already; each needs its own\n\
         4 configuration errors"
    );
}

#[test]
fn two_shared_files_in_one_run_are_an_error() {
    let folder =
        Folder::new(&[("one/rowcast.yaml", ""), ("one/a.yaml", SHOP), ("two/rowcast.yaml", ""), ("two/b.yaml", STOCK)]);
    assert_eq!(
        folder.errors(&folder.request(&["one", "two"], &[])),
        "two/rowcast.yaml: the sources find two shared files, this one and one/rowcast.yaml; name one of them with \
         --config\n1 configuration error"
    );
}
