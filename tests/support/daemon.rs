//! The daemon as a process of its own, as people run it.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng;
use rand::rngs::StdRng;
use tempfile::TempDir;

use super::source::PATIENCE;

/// How to start the daemon: arguments, files, environment. [`Daemon::command`] makes one.
#[derive(Debug)]
pub struct Builder {
    dir: TempDir,
    args: Vec<String>,
    env: Vec<(String, String)>,
    before: Vec<String>,
}

impl Builder {
    /// Runs it by another program, which becomes it: `["prlimit", "--nofile=64"]`.
    pub fn by(mut self, command: &[&str]) -> Self {
        self.before = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Adds an argument. `{dir}` in it stands for the daemon's folder.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Writes a file into the daemon's folder, which is where it runs; folders in the name are made.
    pub fn file(self, name: &str, text: &str) -> Self {
        write(self.dir.path(), name, text);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder that the daemon will run in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it.
    pub fn spawn(self) -> Daemon {
        let Builder { dir, args, env, before } = self;
        let mut daemon = Daemon { dir, args, env, before, child: None, status: None };
        daemon.start();
        daemon
    }

    /// Runs it to its end: exit code, standard output, standard error.
    pub async fn output(self, timeout: Duration) -> (i32, String, String) {
        let mut daemon = self.spawn();
        let code = daemon.wait(timeout).await;
        (code, daemon.stdout(), daemon.stderr())
    }
}

/// A running daemon (or one that has ended). It is killed when the value is dropped.
#[derive(Debug)]
pub struct Daemon {
    dir: TempDir,
    args: Vec<String>,
    env: Vec<(String, String)>,
    before: Vec<String>,
    child: Option<Child>,
    status: Option<ExitStatus>,
}

impl Daemon {
    /// The daemon in a new, empty folder, without arguments as yet.
    pub fn command() -> Builder {
        let dir = tempfile::Builder::new().prefix("rowcast-daemon-").tempdir().unwrap();
        // many daemons run at a time; a test that asks one sets `ROWCAST__ADMIN` again
        let env = vec![("ROWCAST__ADMIN".to_owned(), "off".to_owned())];
        Builder { dir, args: Vec::new(), env, before: Vec::new() }
    }

    /// Starts it with arguments, in a folder with these files (name and text).
    pub fn spawn(args: &[&str], files: &[(&str, &str)]) -> Daemon {
        files.iter().fold(Daemon::command(), |builder, (name, text)| builder.file(name, text)).args(args).spawn()
    }

    /// Starts it (again): same arguments, same folder, output appended to the same files.
    pub fn start(&mut self) {
        assert!(!self.is_running(), "the daemon is running already");
        let out = |name: &str| OpenOptions::new().create(true).append(true).open(self.dir.path().join(name)).unwrap();
        let folder = self.dir.path().to_str().unwrap();
        let words: Vec<&str> = self.before.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_rowcast")]).collect();
        let child = Command::new(words[0])
            .args(&words[1..])
            .args(self.args.iter().map(|arg| arg.replace("{dir}", folder)))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(out("stdout.log"))
            .stderr(out("stderr.log"))
            .spawn()
            .unwrap();
        (self.child, self.status) = (Some(child), None);
    }

    /// Sets an environment variable for the next start; none removes it.
    pub fn set_env(&mut self, name: &str, value: Option<&str>) {
        self.env.retain(|(known, _)| known != name);
        self.env.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// Its folder: configuration files, and whatever it writes.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into its folder, such as a changed configuration.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        write(self.dir.path(), name, text)
    }

    /// Process id.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().unwrap().id().try_into().unwrap()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.poll().is_none() && self.child.is_some()
    }

    /// Fails, with how it ended and its last words, if it doesn't run any more.
    pub fn assert_running(&mut self, name: &str) {
        if let Some(status) = self.poll() {
            panic!("{name}: ended by itself, {status}");
        }
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        if self.status.is_none()
            && let Some(child) = &mut self.child
        {
            self.status = child.try_wait().unwrap();
        }
        self.status
    }

    /// Sends a signal; none is sent to a process that has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            kill(Pid::from_raw(self.pid()), signal).unwrap();
        }
    }

    /// SIGKILL, and waits for the end.
    pub fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(child) = &mut self.child {
            self.status = Some(child.wait().unwrap());
        }
    }

    /// SIGTERM. [`Daemon::wait`] waits for the end.
    pub fn sigterm(&mut self) {
        self.signal(Signal::SIGTERM);
    }

    /// SIGSTOP: it stands still, as a zombie of a paused machine does.
    pub fn stop_signal(&mut self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn cont(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    /// Waits for its end. A signal's number is negative: -9 after SIGKILL.
    pub async fn wait(&mut self, timeout: Duration) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let start = Instant::now();
        loop {
            if let Some(status) = self.poll() {
                return status.code().unwrap_or_else(|| -status.signal().unwrap());
            }
            if start.elapsed() > timeout {
                panic!("the daemon has not ended in {timeout:?}; its output:\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGTERM and [`Daemon::wait`].
    pub async fn shutdown(&mut self, timeout: Duration) -> i32 {
        self.sigterm();
        self.wait(timeout).await
    }

    /// Standard output of all runs.
    pub fn stdout(&self) -> String {
        read(&self.dir.path().join("stdout.log"))
    }

    /// Standard error of all runs.
    pub fn stderr(&self) -> String {
        read(&self.dir.path().join("stderr.log"))
    }

    /// Standard output and error of all runs.
    pub fn logs(&self) -> String {
        self.stdout() + &self.stderr()
    }

    /// Kills it at moments of chance while it copies, until its log says that so many tables are copied; how often. It runs then.
    pub async fn kill_until_copied(&mut self, tables: usize, random: &mut StdRng) -> u64 {
        let (mut kills, mut mark) = (0, (0, 0));
        loop {
            self.wait_for_log_since(mark, "streaming: ", PATIENCE).await;
            // each life a bit longer: on a machine that is busy the first ones are too short to publish what is written meanwhile
            tokio::time::sleep(Duration::from_millis(random.random_range(300..2500) + 150 * kills)).await;
            if self.logs().matches("the table is copied").count() >= tables {
                return kills;
            }
            self.kill9();
            mark = self.mark();
            self.start();
            kills += 1;
            assert!(kills < 60, "the copy gets nowhere:\n{}", self.logs());
        }
    }

    /// How much it has written; [`Daemon::wait_for_log_since`] looks only at what comes after.
    pub fn mark(&self) -> (usize, usize) {
        (self.stdout().len(), self.stderr().len())
    }

    /// Waits for a text in the output of any run and returns the line that has it.
    pub async fn wait_for_log(&mut self, pattern: &str, timeout: Duration) -> String {
        self.wait_for_log_since((0, 0), pattern, timeout).await
    }

    /// Waits for a text in the output after a mark and returns the line that has it.
    pub async fn wait_for_log_since(&mut self, mark: (usize, usize), pattern: &str, timeout: Duration) -> String {
        let start = Instant::now();
        loop {
            // Asked first, so that the last words of a dying process are still read.
            let ended = self.poll();
            let (stdout, stderr) = (self.stdout(), self.stderr());
            // a line may be in writing
            let whole = |text: &str| text.rfind('\n').map_or(0, |end| end + 1);
            let until = |text: &str, from: usize| if ended.is_some() { text.len() } else { whole(text).max(from) };
            let (out, err) = (until(&stdout, mark.0), until(&stderr, mark.1));
            let mut lines = stdout[mark.0..out].lines().chain(stderr[mark.1..err].lines());
            if let Some(line) = lines.find(|line| line.contains(pattern)) {
                return line.to_owned();
            }
            if let Some(status) = ended {
                panic!("the daemon ended ({status}) without {pattern:?} in its output:\n{}", self.logs());
            }
            if start.elapsed() > timeout {
                panic!("no {pattern:?} in the daemon's output in {timeout:?}:\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            // what is printed behind the panic's own message must not bury it
            let logs = self.logs();
            let lines: Vec<&str> = logs.lines().collect();
            let last = lines.len().saturating_sub(25);
            eprintln!("--- the daemon's output ({last} lines before)\n{}", lines[last..].join("\n"));
        }
    }
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

fn read(path: &Path) -> String {
    if File::open(path).is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}
