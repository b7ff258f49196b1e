//! Logins: every plugin on the servers that have it, each of its ways, passwords of every sort and from a program.

use super::{KINDS, at_port, shop, shop_on, user, yaml_at};
use crate::support::local::{refused, run, stops, streams};
use crate::support::mysql::{Db, Kind};
use crate::support::source::PATIENCE;
use crate::support::{Servers, env};

fn with(db: &Db, user: &str, password: &str, more: &str) -> String {
    yaml_at(db, &at_port(db.port()), &format!("  user: {user}\n  password: {password}\n{more}"))
}

async fn logs_in(yaml: &str) {
    let mut daemon = run(yaml);
    streams(&mut daemon).await;
    stops(&mut daemon).await;
}

/// With TLS and without, the first time (the whole way) and again (the server knows the password's hash): a wrong password never works.
async fn each_way(db: &Db, identified: &str) {
    for tls in ["disabled", "required"] {
        let user = user(db, "way", identified).await;
        let more = format!("  tls: {{mode: {tls}}}\n");
        refused(&mut run(&with(db, &user, "wrongpw", &more)), &["Access denied", "`source.password`"]).await;
        for _ in 0..2 {
            logs_in(&with(db, &user, "cdcpw", &more)).await;
        }
        refused(&mut run(&with(db, &user, "wrongpw", &more)), &["Access denied", "`source.password`"]).await;
        db.exec(&format!("drop user '{user}'@'%'")).await;
    }
}

#[tokio::test]
async fn mysqls_plugins_with_and_without_tls() {
    let db = shop(Kind::Mysql, "plugins").await;
    each_way(&db, "identified with caching_sha2_password by 'cdcpw'").await;
    each_way(&db, "identified with sha256_password by 'cdcpw'").await;
}

#[tokio::test]
async fn mariadbs_plugins_with_and_without_tls() {
    let db = shop(Kind::Mariadb, "plugins").await;
    each_way(&db, "identified via mysql_native_password using password('cdcpw')").await;
    each_way(&db, "identified via ed25519 using password('cdcpw')").await;
    logs_in(&with(&db, "cdc_ed", "cdcpw", "")).await;
}

/// MariaDB 11.8, which has parsec.
#[tokio::test]
async fn parsec_is_spoken() {
    let servers = Servers::private_with(&["mariadb"], &[("ROWCAST_MARIADB_SUITE", "trixie")]);
    let db = shop_on(&servers, Kind::Mariadb, "parsec").await;
    db.exec("install soname 'auth_parsec'").await;
    each_way(&db, "identified via parsec using password('cdcpw')").await;
}

/// Without TLS the password is encrypted for the server's key, which the operator may name.
#[tokio::test]
async fn the_servers_rsa_key_may_be_known() {
    let db = shop(Kind::Mysql, "rsa").await;
    let data = env().var("MYSQL_DATA");
    let user = user(&db, "rsa", "identified with caching_sha2_password by 'cdcpw'").await;
    let known = |key: &str| format!("  tls: {{mode: disabled}}\n  server_public_key: {key}\n");
    logs_in(&with(&db, &user, "cdcpw", &known(&format!("{data}/public_key.pem")))).await;
    // the hash is known now; forgotten, the key counts again: another server's, and something that is none
    db.exec(&format!("alter user '{user}'@'%' identified with caching_sha2_password by 'cdcpw'")).await;
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), OTHER_KEY).unwrap();
    let error =
        refused(&mut run(&with(&db, &user, "cdcpw", &known(&other.path().display().to_string()))), &["Access denied"])
            .await;
    assert!(!error.contains("malformed"), "{error}");
    let certificate = env().tls_ca().display().to_string();
    refused(&mut run(&with(&db, &user, "cdcpw", &known(&certificate))), &["the server's RSA key"]).await;
    db.exec(&format!("drop user '{user}'@'%'")).await;
}

/// Of nobody's: made for this test, its other half thrown away.
const OTHER_KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEArYrlCAAulH6PE73UnYJy
H88hBKVcszdCBZy5joOJXm0UGnbJYFLHJhuKlCj5Up/DVKwhSAovmbgH5oerOcEQ
kDQ0jR6phBMwOPIudMZegqRg3qd91PHNAztVX9ebWDPw1+gjwPi66SBx7HsAMn4Y
pxEI6VuyY11FfhqRact5NuoU5c6EvPD1H0ugUQPm6p4W6fML3UwFik42TaFw3sNw
z/u9Rjhq+jWEBPLwjObBqR8tS/xdkZ+BtaE09y3TtQ6TkbSLeY4nJkIn4RqSDDB7
B8q1B+UYPMgWKGfbEr2OCC54eVyJW+A+V+i67CzU/eBVxrCf0Kj6eCjwK2cLHNyf
rQIDAQAB
-----END PUBLIC KEY-----
";

#[tokio::test]
async fn passwords_of_every_sort() {
    for kind in KINDS {
        let db = shop(kind, "sorts").await;
        let long = "x".repeat(200);
        for (written, quoted) in [
            ("it''s \\\\ \"quoted\"", "'it''s \\ \"quoted\"'"),
            ("пароль 密码 🔑", "'пароль 密码 🔑'"),
            (" blanks ", "' blanks '"),
            (long.as_str(), long.as_str()),
            ("", "''"),
        ] {
            for tls in ["disabled", "required"] {
                let user = user(&db, "sort", &format!("identified by '{written}'")).await;
                logs_in(&with(&db, &user, quoted, &format!("  tls: {{mode: {tls}}}\n"))).await;
                db.exec(&format!("drop user '{user}'@'%'")).await;
            }
        }
    }
}

#[tokio::test]
async fn a_password_may_come_from_a_program() {
    for kind in KINDS {
        let db = shop(kind, "command").await;
        let with = |command: &str| {
            let source = format!("  user: cdc\n  connect_timeout: 2s\n  password_command: {command}\n");
            yaml_at(&db, &at_port(db.port()), &source)
        };
        logs_in(&with("[sh, -c, \"echo $0; echo noise >&2\", cdcpw]")).await;
        for (command, part) in [
            ("[sh, -c, \"echo no token >&2; exit 1\"]", "`sh`: it ended with exit status: 1 and says: no token"),
            ("[sleep, \"600\"]", "within 2s"),
        ] {
            let mut daemon = run(&with(command));
            let said = daemon.wait_for_log("waiting ", PATIENCE).await;
            assert!(said.contains(part), "{said}");
            stops(&mut daemon).await;
        }
        refused(&mut run(&with("[/no/such/program]")), &["`/no/such/program`: it can't be started: ", "by hand"]).await;
        refused(&mut run(&with("[echo, wrongpw]")), &["Access denied"]).await;
    }
}
