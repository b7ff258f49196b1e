//! Where a password comes from: the configuration, or a command that prints it.
//!
//! A command is run for each login, so that tokens which expire are fresh. It is a program with its arguments, without a shell; its
//! password is the first line that it prints. It is killed when it takes too long. No error shows what it printed; of its standard error
//! only the beginning of the first line is shown, since programs print their settings there.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use secrecy::SecretString;

use crate::NetError;

/// No password is longer, in bytes.
const MAX_PASSWORD: u64 = 64 << 10;
/// Characters of an error that are shown.
const SHOWN: usize = 200;
const POLL: Duration = Duration::from_millis(10);

/// A password, or how to get it. Its `Debug` form shows none.
#[derive(Debug, Clone)]
pub enum Password {
    /// This one; may be empty.
    Fixed(SecretString),
    /// What this program prints: its name or path, and its arguments.
    Command(Vec<String>),
}

impl Password {
    /// The password. A command is given so much time.
    ///
    /// # Errors
    /// [`NetError::Password`]; the program is named, its arguments aren't.
    pub async fn get(&self, limit: Duration) -> Result<SecretString, NetError> {
        match self {
            Password::Fixed(password) => Ok(password.clone()),
            Password::Command(words) => {
                let words = words.clone();
                let ran = tokio::task::spawn_blocking(move || run(&words, limit)).await;
                ran.unwrap_or_else(|error| Err(failed("the password command", &error.to_string(), true)))
            }
        }
    }
}

impl From<String> for Password {
    fn from(password: String) -> Self {
        Password::Fixed(password.into())
    }
}

fn failed(program: &str, what: &str, transient: bool) -> NetError {
    NetError::Password { program: program.to_owned(), reason: what.to_owned(), transient }
}

fn run(words: &[String], limit: Duration) -> Result<SecretString, NetError> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(failed("", "no program is named", false));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(program, &format!("it can't be started: {error}"), false))?;
    let (out, error) = (child.stdout.take(), child.stderr.take());
    // each on a thread of its own: a full pipe must not stop the program, nor a descendant that keeps it open stop us
    let (lines, printed) = std::sync::mpsc::channel();
    read(out.map(BufReader::new), true, lines.clone());
    read(error.map(BufReader::new), false, lines);
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL),
            Ok(None) => {
                end(&mut child);
                return Err(failed(program, &format!("it printed nothing and ended not within {limit:?}"), true));
            }
            Err(error) => {
                end(&mut child);
                return Err(failed(program, &error.to_string(), true));
            }
        }
    };
    let (mut password, mut complaint) = (None, String::new());
    for _ in 0..2 {
        match printed.recv_timeout(deadline.saturating_duration_since(Instant::now()).max(POLL)) {
            Ok((true, line)) => password = line,
            Ok((false, line)) => complaint = line.unwrap_or_default().chars().take(SHOWN).collect(),
            Err(_) => break,
        }
    }
    if !status.success() {
        let says = if complaint.is_empty() { String::new() } else { format!(" and says: {complaint}") };
        return Err(failed(program, &format!("it ended with {status}{says}"), true));
    }
    match password.filter(|password| !password.is_empty()) {
        Some(password) => Ok(password.into()),
        None => Err(failed(program, "it printed no password: its first line is empty, or not UTF-8 text", false)),
    }
}

fn end(child: &mut Child) {
    // it may have ended in this very moment
    let _ = child.kill();
    let _ = child.wait();
}

/// Sends the first line without its end, and reads the rest away.
fn read<R: Read + Send + 'static>(
    pipe: Option<BufReader<R>>,
    is_out: bool,
    to: std::sync::mpsc::Sender<(bool, Option<String>)>,
) {
    let Some(mut pipe) = pipe else { return };
    std::thread::spawn(move || {
        let mut line = Vec::new();
        let whole = pipe.by_ref().take(MAX_PASSWORD).read_until(b'\n', &mut line);
        let text = whole.ok().and_then(|_| String::from_utf8(line).ok());
        let text = text.map(|text| text.trim_end_matches(['\n', '\r']).to_owned());
        // whoever waited may have given up
        let _ = to.send((is_out, text));
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    async fn of(script: &str, limit: Duration) -> Result<String, String> {
        let command = Password::Command(["sh", "-c", script].map(str::to_owned).to_vec());
        command.get(limit).await.map(|it| it.expose_secret().to_owned()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_first_line_is_the_password() {
        let long = Duration::from_secs(60);
        for (script, expected) in
            [("echo secret", "secret"), ("printf 'a b\\r\\nmore\\n'", "a b"), ("printf x; echo hm >&2", "x")]
        {
            assert_eq!(of(script, long).await.as_deref(), Ok(expected));
        }
        // more than a pipe holds
        assert_eq!(of("echo ok; head -c 300000 /dev/zero", long).await.as_deref(), Ok("ok"));
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_without_what_was_printed() {
        let long = Duration::from_secs(60);
        let error = of("echo hunter2; echo 'no token: expired' >&2; echo hunter3 >&2; exit 3", long).await.unwrap_err();
        assert!(error.contains("exit status: 3") && error.contains("no token: expired"), "{error}");
        assert!(!error.contains("hunter"), "{error}");
        for nothing in ["true", "echo; echo hunter2", "printf '\\377\\n'"] {
            assert!(of(nothing, long).await.unwrap_err().contains("printed no password"));
        }
        let error = Password::Command(vec!["/no/such/program".to_owned()]).get(long).await.unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains("/no/such/program"), "{error}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed() {
        let error = of("exec sleep 600", Duration::from_millis(50)).await.unwrap_err();
        assert!(error.contains("within 50ms"), "{error}");
    }

    #[test]
    fn the_password_shows_nowhere() {
        assert!(!format!("{:?}", Password::from("hush".to_owned())).contains("hush"));
    }
}
