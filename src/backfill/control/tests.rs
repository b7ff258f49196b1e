//! The admin socket with real sockets in a folder of their own.
#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;

struct Served {
    folder: tempfile::TempDir,
    control: Control,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    async fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap()).await
    }

    async fn at(folder: tempfile::TempDir) -> Self {
        let control = Control::default();
        let path = socket_path(&folder.path().join("state"), "shop");
        let task = tokio::spawn(serve(path, control.clone(), "shop".to_owned()));
        let served = Self { folder, control, task };
        served.until(|path| std::os::unix::net::UnixStream::connect(path).is_ok()).await;
        served
    }

    fn path(&self) -> PathBuf {
        socket_path(&self.folder.path().join("state"), "shop")
    }

    async fn until(&self, done: impl Fn(&Path) -> bool) {
        for _ in 0..500 {
            if done(&self.path()) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing happens at {}", self.path().display());
    }

    /// Answers all requests with what `answer` says.
    fn streaming(&self, answer: impl Fn(Command) -> Result<Answer, String> + Send + 'static) {
        let mut asked = self.control.register();
        tokio::spawn(async move {
            while let Some(Asked { command, answer: to }) = asked.recv().await {
                let _ = to.send(answer(command));
            }
        });
    }

    /// What comes back for some bytes.
    async fn raw(&self, bytes: &[u8]) -> String {
        let stream = UnixStream::connect(self.path()).await.unwrap();
        String::from_utf8(exchange(stream, bytes).await.unwrap()).unwrap()
    }
}

fn orders() -> TableProgress {
    TableProgress {
        table: "public.orders".to_owned(),
        state: "reading".to_owned(),
        rows: u64::MAX,
        bytes: 5,
        estimated_rows: Some(10),
        percent: Some(24.7),
        rows_per_second: 0.1,
        ..TableProgress::default()
    }
}

#[tokio::test]
async fn requests_come_out_as_they_went_in_and_answers_back() {
    let served = Served::new().await;
    served.streaming(|command| match command {
        Command::Status => Ok(Answer::Status(vec![orders(), TableProgress::default()])),
        Command::Cancel { .. } => Err("nothing to cancel".to_owned()),
        other => Ok(Answer::Done(format!("{other:?}"))),
    });
    let table = Some(("public".to_owned(), "a\nb \"ü\"".to_owned()));
    let backfill = |filter: Option<&str>, keys| Command::Backfill {
        qualifier: "public".to_owned(),
        table: "orders".to_owned(),
        filter: filter.map(str::to_owned),
        keys,
    };
    let keys = vec![vec!["1".to_owned(), "x'y".to_owned()], vec!["99999999999999999999".to_owned(), String::new()]];
    for command in [
        backfill(None, None),
        backfill(Some("price > 0"), None),
        backfill(None, Some(keys)),
        Command::Pause { table: table.clone() },
        Command::Resume { table: None },
    ] {
        assert_eq!(ask(&served.path(), &command).await, Ok(Answer::Done(format!("{command:?}"))));
    }
    let status = ask(&served.path(), &Command::Status).await;
    assert_eq!(status, Ok(Answer::Status(vec![orders(), TableProgress::default()])));
    assert_eq!(ask(&served.path(), &Command::Cancel { table }).await, Err("nothing to cancel".to_owned()));
    assert_eq!(served.raw(b"{\"command\":\"cancel\"}\n").await, "{\"error\":\"nothing to cancel\"}\n");
}

#[tokio::test]
async fn a_speed_without_an_end_can_be_read_back() {
    let served = Served::new().await;
    let odd = TableProgress { rows_per_second: f64::INFINITY, percent: Some(f64::NAN), ..orders() };
    served.streaming(move |_| Ok(Answer::Status(vec![odd.clone()])));
    let expected = TableProgress { rows_per_second: 0.0, percent: None, ..orders() };
    assert_eq!(ask(&served.path(), &Command::Status).await, Ok(Answer::Status(vec![expected])));
}

#[tokio::test]
async fn only_a_run_that_streams_is_asked() {
    let served = Served::new().await;
    let idle = "the source isn't streaming now: `shop` is starting";
    assert!(ask(&served.path(), &Command::Status).await.unwrap_err().starts_with(idle));
    drop(served.control.register());
    assert!(ask(&served.path(), &Command::Status).await.unwrap_err().starts_with(idle));
    // A run that ends without an answer, and the next one.
    let mut asked = served.control.register();
    tokio::spawn(async move { drop(asked.recv().await) });
    let error = ask(&served.path(), &Command::Status).await.unwrap_err();
    assert!(error.starts_with("the source stopped streaming before it answered"), "{error}");
    let before = served.control.register();
    served.streaming(|_| Ok(Answer::Done("second".to_owned())));
    assert_eq!(ask(&served.path(), &Command::Status).await, Ok(Answer::Done("second".to_owned())));
    drop(before);
    assert_eq!(ask(&served.path(), &Command::Status).await, Ok(Answer::Done("second".to_owned())));
}

#[tokio::test]
async fn garbage_is_refused_and_the_socket_serves_on() {
    let served = Served::new().await;
    served.streaming(|_| Ok(Answer::Done("well".to_owned())));
    for garbage in [
        &b"\n"[..],
        b"hello\n",
        b"\xff\xfe\0\n",
        b"{}\n",
        b"{\"command\":\"drop\"}\n",
        b"{\"command\":\"backfill\",\"table\":\"x\"}\n",
        b"{\"command\":\"pause\",\"tabel\":null}\n",
    ] {
        let reply = served.raw(garbage).await;
        assert!(reply.starts_with("{\"error\":\"the request isn't understood: "), "{reply}");
    }
    let nested = [b'['].repeat(500_000);
    assert!(served.raw(&[&nested[..], b"\n"].concat()).await.contains("isn't understood"));
    drop(UnixStream::connect(served.path()).await.unwrap());
    assert_eq!(ask(&served.path(), &Command::Status).await, Ok(Answer::Done("well".to_owned())));
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_on_both_sides() {
    let served = Served::new().await;
    let reply = served.raw(&vec![b' '; MAX_REQUEST as usize * 2]).await;
    assert_eq!(reply, "{\"error\":\"a request can have 1 MiB at most: ask for fewer keys at a time\"}\n");
    let keys = Some(vec![vec!["1".repeat(100)]; 20_000]);
    let command = Command::Backfill { qualifier: "a".to_owned(), table: "b".to_owned(), filter: None, keys };
    assert_eq!(ask(&served.path(), &command).await, Err(too_large()));
}

#[tokio::test]
async fn a_silent_client_and_a_silent_run_are_given_up() {
    let (mut client, server) = UnixStream::pair().unwrap();
    let patience = Duration::from_millis(50);
    tokio::spawn(connection(server, Control::default(), "shop".to_owned(), patience));
    let mut reply = String::new();
    client.read_to_string(&mut reply).await.unwrap();
    assert_eq!(reply, "{\"error\":\"no request came within 0.05 s\"}\n");
    let control = Control::default();
    let _unanswered = control.register();
    let error = control.pass(Command::Status, "shop", patience).await.unwrap_err();
    assert!(error.starts_with("`shop` didn't answer within 0.05 s"), "{error}");
}

#[tokio::test]
async fn only_the_owner_can_connect_and_the_socket_goes_with_the_server() {
    let served = Served::new().await;
    assert_eq!(std::fs::metadata(served.path()).unwrap().permissions().mode() & 0o777, 0o600);
    served.task.abort();
    served.until(|path| !path.exists()).await;
    let error = ask(&served.path(), &Command::Status).await.unwrap_err();
    assert!(error.starts_with("no daemon for source `shop` listens at "), "{error}");
}

#[test]
fn nobody_else_can_connect_from_the_first_moment() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let socket = UnixSocket::new_stream().unwrap();
    let own = File::from(socket.as_fd().try_clone_to_owned().unwrap());
    own.set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
    socket.bind(folder.path().join("s")).unwrap();
    let mode = std::fs::metadata(folder.path().join("s")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_socket_that_a_dead_process_left_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = socket_path(&folder.path().join("state"), "shop");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let served = Served::at(folder).await;
    served.streaming(|_| Ok(Answer::Done("new".to_owned())));
    assert_eq!(ask(&served.path(), &Command::Status).await, Ok(Answer::Done("new".to_owned())));
}

#[tokio::test]
async fn a_live_process_keeps_its_socket_until_it_ends() {
    let first = Served::new().await;
    first.streaming(|_| Ok(Answer::Done("first".to_owned())));
    let (path, control) = (first.path(), Control::default());
    let second = tokio::spawn(serve(path.clone(), control.clone(), "shop".to_owned()));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(ask(&path, &Command::Status).await, Ok(Answer::Done("first".to_owned())));
    first.task.abort();
    first.until(|path| !path.exists()).await;
    let looks = OTHER_PROCESS + Duration::from_secs(5);
    timeout(looks, async {
        while !ask(&path, &Command::Status).await.is_err_and(|why| why.contains("isn't streaming")) {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    second.abort();
}

#[tokio::test]
async fn a_socket_of_another_process_is_not_removed_at_the_end() {
    let served = Served::new().await;
    std::fs::remove_file(served.path()).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(served.path()).unwrap();
    served.task.abort();
    sleep(Duration::from_millis(100)).await;
    assert!(served.path().exists());
}

#[tokio::test]
async fn what_can_not_hold_a_socket_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let why = async |path: &Path| match listen_when_free(path, "shop").await {
        Ok(_) => panic!("listens at {}", path.display()),
        Err(why) => why,
    };
    let long = socket_path(&folder.path().join("x".repeat(100)), "shop");
    assert!(why(&long).await.ends_with("a Unix socket's can have 107 at most: set a shorter `state_dir`"));
    assert!(ask(&long, &Command::Status).await.unwrap_err().contains("107 at most"));
    assert!(!long.parent().unwrap().exists());
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert!(why(&folder.path().join("file/shop.sock")).await.starts_with("can't make the folder "));
    assert!(why(&folder.path().join("file")).await.contains("is no socket; remove it"));
    assert!(folder.path().join("file").exists());
    let fits = folder.path().join("y".repeat(MAX_PATH - folder.path().as_os_str().len() - 1));
    assert!(listen_when_free(&fits, "shop").await.is_ok());
}
