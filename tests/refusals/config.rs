//! Mistakes in the configuration: found before anything is connected, exit code 2, file and line on the standard error.
//! All the messages are in `tests/config`.

use std::os::unix::fs::symlink;

use super::{LIMIT, PASSWORDS};
use crate::support::daemon::{Builder, Daemon};

const SHOP: &str = "name: shop
source:
  type: postgres
  host: 127.0.0.1
  port: 1
  database: shop
  user: cdc
  password: cdcpw
  tables: [public.*]
sink:
  type: file
  path: out.jsonl
";

/// What `run` and `check-config` print; both must say the same.
async fn complaint(prepare: impl Fn(Builder) -> Builder) -> String {
    let mut said = Vec::new();
    for command in ["run", "check-config"] {
        let (code, stdout, stderr) = prepare(Daemon::command()).args(&[command, "shop.yaml"]).output(LIMIT).await;
        assert_eq!(code, 2, "{command}: exit code; {stderr}");
        assert_eq!(stdout, "");
        for password in PASSWORDS {
            assert!(!stderr.contains(password), "a password in: {stderr}");
        }
        said.push(stderr);
    }
    assert_eq!(said[0], said[1]);
    said.remove(0)
}

#[tokio::test]
async fn malformed_yaml_is_named_with_line_and_column() {
    let text = SHOP.replace("  tables: [public.*]", "  tables: [public.*");
    let said = complaint(|daemon| daemon.file("shop.yaml", &text)).await;
    assert!(said.starts_with("shop.yaml:10:5: invalid YAML: "), "{said}");
    assert!(said.ends_with("\n1 configuration error\n") && said.lines().count() == 2, "{said}");
}

#[tokio::test]
async fn a_misspelt_key_is_named_with_line_column_and_the_right_one() {
    let text = SHOP.replace("pasword", "").replace("  password: cdcpw", "  passwrod: cdcpw");
    let said = complaint(|daemon| daemon.file("shop.yaml", &text)).await;
    assert!(said.starts_with("shop.yaml:8:3: unknown key `passwrod` in `source`; did you mean `password`?"), "{said}");
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let said = complaint(|daemon| daemon).await;
    assert_eq!(said, "shop.yaml: can't read the file: No such file or directory\n1 configuration error\n");
}

/// Root may read what nobody may read: a link to itself is unreadable for root too.
#[tokio::test]
async fn an_unreadable_file_is_named_with_the_reason() {
    let said = complaint(|daemon| {
        symlink("shop.yaml", daemon.dir().join("shop.yaml")).unwrap();
        daemon
    })
    .await;
    assert!(said.starts_with("shop.yaml: can't read the file: Too many levels of symbolic links"), "{said}");
}

#[tokio::test]
async fn a_secret_that_can_not_be_read_is_named_with_its_file_and_the_line_that_wants_it() {
    let text = SHOP.replace("cdcpw", "${file:secrets/shop}");
    let said = complaint(|daemon| daemon.file("shop.yaml", &text)).await;
    let expected =
        "shop.yaml:8:13: `source.password`: can't read the secret file `secrets/shop`: No such file or directory\n";
    assert!(said.starts_with(expected), "{said}");
    let text = SHOP.replace("cdcpw", "${SHOP_PASSWORD}");
    let said = complaint(|daemon| daemon.file("shop.yaml", &text)).await;
    assert!(
        said.starts_with("shop.yaml:8:13: `source.password`: environment variable `SHOP_PASSWORD` is not set"),
        "{said}"
    );
}

#[tokio::test]
async fn kafkas_own_words_about_a_property_come_with_the_file_and_the_key() {
    let text = SHOP.replace(
        "  type: file\n  path: out.jsonl\n",
        "  type: kafka\n  brokers: 127.0.0.1:1\n  properties: {compression.type: zip}\n",
    );
    let said = complaint(|daemon| daemon.file("shop.yaml", &text)).await;
    for part in ["shop.yaml: ", "`compression.type`", "\"zip\"", "`sink.properties`"] {
        assert!(said.contains(part), "no {part} in: {said}");
    }
    assert_eq!(said.lines().count(), 1, "{said}");
}
