//! From paths to a checked configuration: reads the files, merges the layers, reads each source, and compares the sources
//! with each other.
//!
//! A file with broken YAML is reported once and left out; the others are still checked, so that one run shows all mistakes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::environment::{self, Override};
use super::errors::{Collector, ConfigErrors, Place};
use super::keys::{self, Kinds, Scope};
use super::layers::Layers;
use super::policy;
use super::reader::{Context, Section};
use super::source::within;
use super::topic::{DEFAULT_TOPIC, TopicTemplate};
use super::units::{parse_bytes, parse_duration, show_bytes};
use super::yaml::{self, Kind, Node};
use super::{
    AdminConfig, CommitConfig, DeleteMode, Environment, FormatConfig, Loaded, Request, Shared, SinkConfig,
    SinkOverride, SourceConfig, SourceKind, admin, backfill, debezium, files, logs, sink, source,
};

const MAX_NAME: usize = 50;
const DEFAULT_BUDGET: usize = 32 << 20;
const DEFAULT_COMMIT_BYTES: usize = 16 << 20;
/// Where state is kept if `state_dir` isn't set; relative to the working directory.
pub const DEFAULT_STATE_DIR: &str = "rowcast-state";

/// Loads everything that the request names.
///
/// # Errors
/// All mistakes found.
pub fn load(request: &Request) -> Result<Loaded, ConfigErrors> {
    let errors = Collector::default();
    let loader = Loader {
        request,
        errors: &errors,
        overrides: environment::overrides(&request.environment, &errors),
        sink: request.sink.map(|SinkOverride::Stdout| "stdout"),
    };
    let (shared, sources) = loader.run();
    errors.finish()?;
    Ok(Loaded { shared, sources })
}

/// Where a daemon with this shared file and environment answers questions; for those who ask it, and have no source files.
///
/// # Errors
/// All mistakes found in the shared file.
pub fn load_admin(shared: Option<&Path>, environment: Environment) -> Result<AdminConfig, ConfigErrors> {
    let errors = Collector::default();
    let request = Request { paths: Vec::new(), shared: shared.map(Path::to_owned), sink: None, environment };
    let overrides = environment::overrides(&request.environment, &errors);
    let loader = Loader { request: &request, errors: &errors, overrides, sink: None };
    let mut files = Vec::new();
    if let Some(path) = shared {
        loader.shared_at(&mut files, path);
    }
    let found = loader.shared(files.first());
    errors.finish()?;
    Ok(found.admin)
}

/// A shared file that was read; `tree` is `None` if its YAML is broken.
struct SharedFile {
    path: PathBuf,
    tree: Option<Node>,
}

struct Loader<'a> {
    request: &'a Request,
    errors: &'a Collector,
    overrides: Vec<Override>,
    sink: Option<&'static str>,
}

impl Loader<'_> {
    fn run(&self) -> (Shared, Vec<SourceConfig>) {
        let files = files::sources(&self.request.paths, self.request.shared.as_deref(), self.errors);
        let mut shared_files: Vec<SharedFile> = Vec::new();
        let mut sources = Vec::new();
        if let Some(path) = &self.request.shared {
            self.shared_at(&mut shared_files, path);
        }
        for file in files {
            let shared = match self.request.shared.clone().or_else(|| files::shared_beside(&file)) {
                Some(path) => self.shared_at(&mut shared_files, &path),
                None => None,
            };
            sources.extend(self.source(&file, shared));
        }
        if let [first, second, ..] = shared_files.as_slice() {
            self.errors.push(
                &Place::file(second.path.as_path()),
                format!(
                    "the sources find two shared files, this one and {}; name one of them with --config",
                    first.path.display()
                ),
            );
        }
        let shared = self.shared(shared_files.first());
        self.compare(&sources);
        // What would have used an override may have failed to load; don't report that twice.
        if self.errors.is_empty() {
            environment::report_unused(&self.overrides, self.errors);
        }
        (shared, sources)
    }

    /// The file's tree; its root is a mapping. Only the shared file may be empty.
    fn tree(&self, file: &Arc<Path>, scope: Scope) -> Option<Node> {
        let bytes = files::read(file, self.errors)?;
        let node = yaml::parse(file, &bytes, self.errors)?;
        match node.kind {
            Kind::Map(_) => return Some(node),
            Kind::Null if scope == Scope::Shared => return Some(Node { kind: Kind::Map(Vec::new()), ..node }),
            Kind::Reported => {}
            Kind::Null => self
                .errors
                .push(&Place::file(Arc::clone(file)), "the file is empty; it needs `name`, `source` and `sink`"),
            other => self.errors.push(
                &node.place,
                format!("expected a mapping with keys such as `source:` and `sink:`, found {}", other.name()),
            ),
        }
        None
    }

    /// The shared file at this path, read once. `None` if it was read before and is broken, too.
    fn shared_at<'s>(&self, known: &'s mut Vec<SharedFile>, path: &Path) -> Option<&'s SharedFile> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if let Some(index) = known.iter().position(|shared| real(&shared.path) == real(path)) {
            return known.get(index);
        }
        let file: Arc<Path> = Arc::from(path);
        let tree = self.tree(&file, Scope::Shared).map(|tree| {
            let kinds = Layers { shared: Some(&tree), file: None, overrides: &[], sink: None }.kinds();
            keys::check_file(tree, Scope::Shared, &Kinds { source: None, ..kinds }, self.errors)
        });
        known.push(SharedFile { path: path.to_owned(), tree });
        known.last()
    }

    fn source(&self, file: &Arc<Path>, shared: Option<&SharedFile>) -> Option<SourceConfig> {
        let tree = self.tree(file, Scope::Source)?;
        let broken_shared = shared.is_some_and(|shared| shared.tree.is_none());
        let shared = shared.and_then(|shared| shared.tree.as_ref());
        let kinds = self.layers(shared, &tree).kinds();
        let tree = keys::check_file(tree, Scope::Source, &kinds, self.errors);
        // Without the shared file every key in it would seem to be missing.
        if broken_shared {
            return None;
        }
        let context = Context { errors: self.errors, environment: &self.request.environment };
        let merged = self.layers(shared, &tree).merge(Scope::Source, self.errors);
        keys::report_misfits(&merged, &kinds, self.errors);
        let root = Section::root(&context, &merged);
        self.read(&root, file)
    }

    fn layers<'t>(&'t self, shared: Option<&'t Node>, file: &'t Node) -> Layers<'t> {
        Layers { shared, file: Some(file), overrides: &self.overrides, sink: self.sink }
    }

    fn read(&self, root: &Section<'_>, file: &Path) -> Option<SourceConfig> {
        let name = root.required("name", "it names the checkpoint and the transactional id", parse_name);
        let kind = source::read(root, name.as_deref(), self.sink.is_some());
        let sink = sink::read(root);
        let format = debezium::read(
            root,
            name.as_deref().unwrap_or_default(),
            kind.as_ref().map_or("postgres", SourceKind::type_name),
        );
        let memory_budget = read_budget(root);
        let commit = read_commit(root, memory_budget);
        let backfill = backfill::read(root, kind.as_ref().map(SourceKind::tables));
        let policies = policy::read(root);
        let state_dir =
            if root.has("state_dir") { root.path("state_dir") } else { Some(PathBuf::from(DEFAULT_STATE_DIR)) };
        let (mut sink, delivery) = sink?;
        let (on_gap, on_poison, on_table_failure) = policies?;
        let format = format?;
        if let (SinkConfig::Kafka(kafka), FormatConfig::Debezium(debezium)) = (&mut sink, &format) {
            let topic = match kafka.topic.to_string() == DEFAULT_TOPIC {
                true => TopicTemplate::parse(&DEFAULT_TOPIC.replace('.', &debezium.delimiter)).ok(),
                false => None,
            };
            kafka.topic = topic.as_ref().unwrap_or(&kafka.topic).sanitised(&debezium.topic_prefix);
        }
        let own = matches!(format, FormatConfig::Json(_));
        let silent = format.flatten().is_some_and(|flatten| match flatten.deletes {
            DeleteMode::Tombstone => own,
            DeleteMode::DeleteToTombstone => true,
            DeleteMode::Drop | DeleteMode::Rewrite | DeleteMode::RewriteWithTombstone => false,
        });
        // a look at the stream is not what the file is for
        if silent && self.sink.is_none() && !matches!(sink, SinkConfig::Kafka(_)) {
            root.report(
                root.key_place("flatten"),
                "deletes would be tombstones, which lines can't be: write `flatten.delete_tombstone_handling_mode: rewrite`, or drop to leave \
                 deletes out",
            );
            return None;
        }
        Some(SourceConfig {
            name: name?,
            file: file.to_owned(),
            kind: kind?,
            sink,
            format,
            delivery,
            memory_budget: memory_budget?,
            commit: commit?,
            backfill: backfill?,
            on_gap,
            on_poison,
            on_table_failure,
            state_dir: state_dir?,
        })
    }

    fn shared(&self, file: Option<&SharedFile>) -> Shared {
        let tree = file.and_then(|file| file.tree.as_ref());
        let layers = Layers { shared: tree, file: None, overrides: &self.overrides, sink: None };
        let merged = layers.merge(Scope::Shared, self.errors);
        let context = Context { errors: self.errors, environment: &self.request.environment };
        let root = Section::root(&context, &merged);
        let (logging, admin) = (logs::read(&root), admin::read(&root));
        Shared {
            file: file.map(|file| file.path.clone()),
            logging: logging.unwrap_or_default(),
            admin: admin.unwrap_or_default(),
        }
    }

    /// What one source can't know about the others.
    fn compare(&self, sources: &[SourceConfig]) {
        let mut taken: BTreeMap<String, &SourceConfig> = BTreeMap::new();
        for source in sources {
            let connection = source.kind.connection();
            let others = connection.more_hosts.iter().map(|(host, port)| format!(",{host}:{port}"));
            let server = format!("{}:{}{}", connection.host, connection.port, others.collect::<String>());
            let own = match &source.kind {
                SourceKind::Postgres(postgres) => format!("the slot `{}` on {server}", postgres.slot),
                SourceKind::Mysql(mysql) => format!("the server id {} on {server}", mysql.server_id),
            };
            let mut claims =
                vec![(format!("the name `{}`", source.name), "choose another name"), (own, "each needs its own")];
            if let SinkConfig::File { path, .. } = &source.sink {
                claims.push((format!("the file `{}`", path.display()), "each needs its own"));
            }
            for (claim, advice) in claims {
                if let Some(other) = taken.get(&claim) {
                    self.errors.push(
                        &Place::file(source.file.as_path()),
                        format!("{claim} is taken by {} already; {advice}", other.file.display()),
                    );
                    // The slot and server id follow from the name: one message is enough.
                    break;
                }
                taken.insert(claim, source);
            }
        }
    }
}

/// Reads the name of a source.
///
/// # Errors
/// Says what is expected.
pub fn parse_name(text: &str) -> Result<String, String> {
    let legal = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let good = text.starts_with(legal)
        && text.len() <= MAX_NAME
        && text.chars().all(|letter| legal(letter) || matches!(letter, '_' | '-'));
    if !good {
        return Err(format!("expected letters a-z, digits, _ and -, at most {MAX_NAME}, a letter or digit first"));
    }
    Ok(text.to_owned())
}

fn size(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let bytes = parse_bytes(text)?;
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| (least..=most).contains(bytes))
        .ok_or_else(|| format!("expected {} to {}", show_bytes(least as u64), show_bytes(most as u64)))
}

fn read_budget(root: &Section<'_>) -> Option<usize> {
    if root.is_malformed("memory") {
        root.section("memory");
        return None;
    }
    let memory = root.section("memory");
    if memory.has("budget") {
        memory.value("budget", |text| size(text, 1 << 20, 1 << 30))
    } else {
        Some(DEFAULT_BUDGET)
    }
}

fn read_commit(root: &Section<'_>, budget: Option<usize>) -> Option<CommitConfig> {
    let commit = root.section("commit");
    // Transactions are rolled back by the broker after 15 s, hence the upper end.
    let interval = match commit.has("interval") {
        true => commit
            .value("interval", |text| within(parse_duration(text)?, Duration::from_millis(1), Duration::from_secs(10))),
        false => Some(Duration::from_millis(100)),
    };
    let most = budget.unwrap_or(DEFAULT_BUDGET);
    let max_bytes = match commit.has("max_bytes") {
        true => commit
            .value("max_bytes", |text| size(text, 64 << 10, most).map_err(|why| format!("{why} (the memory budget)"))),
        false => Some(DEFAULT_COMMIT_BYTES.min(most / 2)),
    };
    Some(CommitConfig { interval: interval?, max_bytes: max_bytes? })
}
