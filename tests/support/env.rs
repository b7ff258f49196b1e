//! Where the servers of this test run are.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{getppid, getuid};

/// Every user's and password's name is fixed; see `scripts/servers/postgres.sh` and `mysql.sh`.
pub const CDC_USER: &str = "cdc";
/// Password of `cdc`, `cdc_tls` (TLS required) and, on MySQL and MariaDB, `cdc_cert` (client certificate required).
pub const CDC_PASSWORD: &str = "cdcpw";
/// May do everything.
pub const APP_USER: &str = "app";
/// Password of `app`.
pub const APP_PASSWORD: &str = "apppw";
/// May read but not replicate.
pub const NOREPL_USER: &str = "norepl";
/// Password of `norepl`.
pub const NOREPL_PASSWORD: &str = "noreplpw";

/// One set of running servers.
#[derive(Debug)]
pub struct Servers {
    /// Data folders, logs, certificates.
    pub dir: PathBuf,
    values: HashMap<String, String>,
    /// Ours alone: removed when dropped.
    private: bool,
    /// What they were started with, and are again.
    settings: Vec<(String, String)>,
}

/// The servers that all tests of this run share. Don't stop or restart these: [`Servers::private`] starts others.
pub fn env() -> &'static Servers {
    static SHARED: OnceLock<Result<Servers, String>> = OnceLock::new();
    match SHARED.get_or_init(shared) {
        Ok(servers) => servers,
        Err(why) => panic!("this test needs real servers, and they did not start:\n{why}"),
    }
}

fn shared() -> Result<Servers, String> {
    if let Some(file) = std::env::var_os("ROWCAST_TEST_ENV") {
        return Servers::read(Path::new(&file), false);
    }
    // Test binaries run one after the other below one `cargo test`: the first starts the servers, and they end with
    // that process. The time of its start tells it from an earlier process of the same number.
    let parent = getppid().as_raw();
    let stat = fs::read_to_string(format!("/proc/{parent}/stat")).map_err(|e| format!("/proc/{parent}/stat: {e}"))?;
    let started = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(19)).unwrap_or("0").to_owned();
    let dir = std::env::temp_dir().join(format!("rowcast-{}-{parent}-{started}", getuid()));
    let lock = dir.with_extension("lock");
    let file = File::create(&lock).map_err(|e| format!("{}: {e}", lock.display()))?;
    let _held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| format!("{}: {e}", lock.display()))?;
    if !dir.join("env").exists() {
        let parent = parent.to_string();
        let path = dir.to_str().ok_or("the temporary folder's name is not UTF-8")?;
        script(&["start", "--while-pid", &parent, path, "pg", "mysql", "mariadb", "kafka"])?;
    }
    Servers::read(&dir.join("env"), false)
}

/// The library between a program and the system's clock, for `LD_PRELOAD`.
pub fn faketime() -> String {
    let printed = script(&["faketime"]).unwrap_or_else(|why| panic!("{why}"));
    printed.lines().last().unwrap().to_owned()
}

/// The class path of Flink's table engine.
pub fn flink() -> String {
    let printed = script(&["flink"]).unwrap_or_else(|why| panic!("{why}"));
    printed.lines().last().unwrap().to_owned()
}

/// Debezium Server: its version, the Java that runs it, and its class path.
pub fn debezium_server() -> [String; 3] {
    let printed = script(&["debezium-server"]).unwrap_or_else(|why| panic!("{why}"));
    let lines: Vec<&str> = printed.lines().collect();
    let (_, last) = lines.split_at(lines.len() - 3);
    [last[0].to_owned(), last[1].to_owned(), last[2].to_owned()]
}

/// `scripts/servers.sh` of the repository, whichever package's test this is.
fn script(args: &[&str]) -> Result<String, String> {
    script_with(args, &[])
}

/// [`script`] with settings of its own in the environment.
fn script_with(args: &[&str], settings: &[(String, String)]) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|dir| dir.join("scripts/servers.sh"))
        .find(|path| path.exists())
        .ok_or("no scripts/servers.sh above this package")?;
    let output = Command::new(&path)
        .args(args)
        .envs(settings.iter().cloned())
        .output()
        .map_err(|e| format!("{}: {e}", path.display()))?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("servers.sh {}: {}\n{text}", args.join(" "), output.status))
    }
}

impl Servers {
    /// Starts servers of this test's own (`pg`, `mysql`, `mariadb`, `kafka`), which it may stop, kill and restart. They
    /// end when the value is dropped, and with this process.
    pub fn private(names: &[&str]) -> Servers {
        Servers::private_with(names, &[])
    }

    /// [`Servers::private`] with settings of `scripts/servers.sh`, such as `("ROWCAST_PG_SUITE", "trixie")`.
    pub fn private_with(names: &[&str], settings: &[(&str, &str)]) -> Servers {
        let dir = std::env::temp_dir().join(super::unique("rowcast_own"));
        let pid = std::process::id().to_string();
        let mut args = vec!["start", "--while-pid", pid.as_str(), dir.to_str().unwrap()];
        args.extend_from_slice(names);
        let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        if let Err(why) = script_with(&args, &settings) {
            panic!("servers of this test's own did not start:\n{why}");
        }
        let mut servers = Servers::read(&dir.join("env"), true).unwrap();
        servers.settings = settings;
        servers
    }

    /// Starts one more server in this set, which needs one that is there.
    pub fn add(&mut self, name: &str) {
        self.command("start", name);
        let all = Servers::read(&self.dir.join("env"), false).unwrap();
        self.values.clone_from(&all.values);
    }

    fn read(file: &Path, private: bool) -> Result<Servers, String> {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let values: HashMap<String, String> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.trim_matches('\'').to_owned()))
            .collect();
        let dir =
            values.get("ROWCAST_SERVERS_DIR").ok_or_else(|| format!("{}: no ROWCAST_SERVERS_DIR", file.display()))?;
        Ok(Servers { dir: PathBuf::from(dir), values, private, settings: Vec::new() })
    }

    /// A variable of the env file, such as `PG_PORT`.
    pub fn var(&self, name: &str) -> &str {
        match self.values.get(name) {
            Some(value) => value,
            None => panic!("no {name} in {}/env: not among the servers of this set?", self.dir.display()),
        }
    }

    /// Whether this set has the variable.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    fn port(&self, name: &str) -> u16 {
        self.var(name).parse().unwrap()
    }

    /// PostgreSQL's port on 127.0.0.1.
    pub fn pg_port(&self) -> u16 {
        self.port("PG_PORT")
    }

    /// Folder of PostgreSQL's programs.
    pub fn pg_bin(&self) -> PathBuf {
        self.var("PG_BIN").into()
    }

    /// MySQL's port on 127.0.0.1.
    pub fn mysql_port(&self) -> u16 {
        self.port("MYSQL_PORT")
    }

    /// MariaDB's port on 127.0.0.1.
    pub fn mariadb_port(&self) -> u16 {
        self.port("MARIADB_PORT")
    }

    /// Kafka's `host:port`.
    pub fn brokers(&self) -> &str {
        self.var("KAFKA_BROKERS")
    }

    /// The authority that signed the database servers' certificates (for `localhost` and 127.0.0.1).
    pub fn tls_ca(&self) -> PathBuf {
        self.var("TLS_CA").into()
    }

    /// Certificate and key of the user `cdc_cert`.
    pub fn tls_client(&self) -> (PathBuf, PathBuf) {
        (self.var("TLS_CLIENT_CERT").into(), self.var("TLS_CLIENT_KEY").into())
    }

    /// Runs one of Kafka's tools, by its class, to its end; it must succeed. Returns its output.
    pub fn kafka_tool(&self, class: &str, args: &[&str]) -> String {
        let mut all = vec!["kafka", self.dir.to_str().unwrap(), class];
        all.extend_from_slice(args);
        script_with(&all, &self.settings).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Stops a server in good order.
    pub fn stop(&self, name: &str) {
        self.command("stop", name);
    }

    /// SIGKILL.
    pub fn kill(&self, name: &str) {
        self.command("kill", name);
    }

    /// Starts a stopped or killed server again, with its data and on its port, and waits until it answers.
    pub fn start(&self, name: &str) {
        self.command("start", name);
    }

    /// [`Servers::stop`] and [`Servers::start`].
    pub fn restart(&self, name: &str) {
        self.command("restart", name);
    }

    /// Process id of a server, for SIGSTOP and the like.
    pub fn pid(&self, name: &str) -> i32 {
        fs::read_to_string(self.dir.join(name).join("pid")).unwrap().trim().parse().unwrap()
    }

    fn command(&self, command: &str, name: &str) {
        assert!(self.private, "{command} {name}: other tests use these servers; start some with Servers::private");
        if let Err(why) = script_with(&[command, self.dir.to_str().unwrap(), name], &self.settings) {
            panic!("{why}");
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if self.private
            && let Err(why) = script(&["discard", self.dir.to_str().unwrap()])
        {
            eprintln!("{why}");
        }
    }
}
