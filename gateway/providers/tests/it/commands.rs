//! Commands that misbehave: each ends in a clear error, leaves no process behind, and shows its secret to nobody.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use gateway_providers::{Answer, Fault, Providers, SendError};
use gateway_testkit::{Reply, Upstream};
use serde_json::json;
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::{self, SECRET, in_real_time, parse, provider};
use crate::secrets::chain;

/// How long a command may take that is meant to be killed for it.
const SHORT_MS: u64 = 700;
/// How long the others may take: never so long, also where many tests run at once.
const LONG_MS: u64 = 30_000;
/// What a call may take beyond the time of its command.
const SLACK: Duration = Duration::from_secs(4);

/// Everything that is traced while it stands.
#[derive(Clone, Default)]
struct Traced(Arc<Mutex<Vec<u8>>>);

impl Traced {
    fn capture() -> (Traced, tracing::subscriber::DefaultGuard) {
        // With one subscriber alone, a line that another test's thread comes to first is switched off for all threads.
        static ANOTHER: OnceLock<tracing::Dispatch> = OnceLock::new();
        ANOTHER.get_or_init(|| tracing::Dispatch::new(tracing_subscriber::registry()));
        let traced = Traced::default();
        let level = tracing_subscriber::filter::LevelFilter::TRACE;
        let builder = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
        let guard = tracing::subscriber::set_default(builder.with_writer(traced.clone()).finish());
        (traced, guard)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Traced {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Traced {
    type Writer = Traced;

    fn make_writer(&self) -> Traced {
        self.clone()
    }
}

/// A process as `/proc/*/stat` shows it.
struct Process {
    id: u32,
    state: String,
    parent: u32,
    group: u32,
}

fn processes() -> Vec<Process> {
    let parse = |text: &str| {
        let (id, rest) = text.split_once(" (")?;
        let mut fields = rest.rsplit_once(") ")?.1.split(' ');
        let (state, parent, group) = (fields.next()?.to_owned(), fields.next()?, fields.next()?);
        Some(Process {
            id: id.parse().ok()?,
            state,
            parent: parent.parse().ok()?,
            group: group.parse().ok()?,
        })
    };
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    all.filter_map(|it| parse(&std::fs::read_to_string(it.path().join("stat")).ok()?)).collect()
}

/// The processes of a group that run, and zombies that are ours to bury; others are the system's.
fn left_of(group: u32) -> Vec<String> {
    let ours = |it: &Process| it.state != "Z" && it.state != "X" || it.parent == std::process::id();
    let left = processes().into_iter().filter(|it| it.group == group && ours(it));
    left.map(|it| format!("{} {} under {}", it.id, it.state, it.parent)).collect()
}

/// Whether our child of this number is gone, also as a zombie.
fn is_buried(child: u32) -> bool {
    processes().iter().all(|it| it.id != child || it.parent != std::process::id())
}

/// What is left of a group after the killed have had the time to go: a signal is not yet an end.
async fn remains_of(group: u32) -> Vec<String> {
    let began = Instant::now();
    while !left_of(group).is_empty() && began.elapsed() < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    left_of(group)
}

/// The keys of a provider with a command that notes its id and then runs `script`, in `dir`.
fn command(dir: &Path, script: &str, timeout_ms: u64) -> String {
    let (path, text) = (dir.join("script"), format!("echo $$ > id\n{script}\n"));
    std::fs::write(path, text).unwrap();
    format!(
        "request_max_retries = 0
         auth = {{ command = \"/bin/sh\", args = [\"script\"], cwd = {dir:?}, timeout_ms = {timeout_ms},
                   env = {{ CANARY = \"{SECRET}\" }} }}"
    )
}

async fn send(provider: &gateway_providers::Upstream) -> Result<Answer, SendError> {
    in_real_time(harness::send(provider)).await
}

fn group(dir: &Path) -> u32 {
    std::fs::read_to_string(dir.join("id")).unwrap().trim().parse().unwrap_or_default()
}

/// A JWT that ended in 1970 and holds the canary.
fn ended_jwt() -> String {
    format!("e30.eyJleHAiOjF9.{SECRET}")
}

/// What is said of a command that was killed for the time it took.
const LATE: &str = "did not end within 700 ms and was killed";

/// Each misbehaviour and what is said of it.
fn misbehaviours() -> Vec<(&'static str, String, &'static str)> {
    let each = |name, script: &str, says| (name, script.to_owned(), says);
    vec![
        each("hangs", "echo $CANARY; sleep 1000", LATE),
        each("hangs with closed pipes", "exec >&- 2>&-; sleep 1000", LATE),
        each("endless output", "yes $CANARY", "printed more than 65536 bytes and was killed"),
        each("endless errors", "yes $CANARY >&2", "printed more than 1048576 bytes of errors and was killed"),
        each("NUL", "printf \"$CANARY\\0x\"", "cannot stand in a header"),
        each("CRLF", "printf \"$CANARY\\r\\n$CANARY\\r\\n\"", "more than one line"),
        each("not UTF-8", "printf \"$CANARY\\377\\376\"", "cannot stand in a header"),
        each("too long", "head -c 20000 /dev/zero | tr '\\0' a", "more than 16384 bytes"),
        each("empty", "echo $CANARY >&2; echo", "gave nothing where a token should be"),
        each("secret on stderr", "echo $CANARY >&2; exit 1", "exited with code 1 and wrote 15 bytes"),
        each("ignores SIGTERM", "trap '' TERM INT HUP; echo $CANARY; while :; do sleep 1; done", LATE),
        each("a deaf grandchild", "(trap '' TERM; while :; do sleep 1; done) & wait", LATE),
        ("expiry in the past", format!("echo {}", ended_jwt()), "expired"),
        each("non-zero exit", "echo $CANARY; sleep 1000 & exit 7", "exited with code 7 and wrote 0 bytes"),
        each("dies of a signal", "echo $CANARY; kill -9 $$", "was ended by signal 9"),
    ]
}

#[tokio::test]
async fn a_misbehaving_command_is_a_clear_error_and_leaves_nothing() {
    let (traced, _guard) = Traced::capture();
    let upstream = Upstream::start().await.unwrap();
    let (mut printed, mut faults) = (String::new(), 0);
    for (name, script, says) in misbehaviours() {
        let dir = tempfile::tempdir().unwrap();
        let late = says == LATE;
        let keys = command(dir.path(), &script, if late { SHORT_MS } else { LONG_MS });
        let one = provider(&upstream.base_url(), &keys);
        let began = Instant::now();
        let error = send(&one).await.unwrap_err();
        let limit = Duration::from_millis(SHORT_MS) + SLACK;
        assert!(!late || began.elapsed() < limit, "{name}: {:?}", began.elapsed());
        let told = chain(&error);
        assert!(matches!(error, SendError::Credential(_)) && told.contains(says), "{name}: {told}");
        assert!(told.contains("command /bin/sh"), "{name}: {told}");
        assert_eq!((error.fault(), error.is_retryable()), (Fault::Credential, true), "{name}");
        assert!(is_buried(group(dir.path())), "{name}");
        assert_eq!(remains_of(group(dir.path())).await, [""; 0], "{name}");
        let config = parse(&format!("[model_providers.up]\n{keys}"));
        printed.push_str(&format!("{told} {one:?} {config:?}"));
        faults += 1;
    }
    assert_eq!((faults, upstream.all_requests().len()), (misbehaviours().len(), 0), "nothing was sent");
    let traced = traced.text();
    assert!(traced.matches("no credential").count() >= faults, "{traced}");
    for text in [printed, traced] {
        assert!(!text.contains("canary"), "{text}");
    }
}

/// Starts a process that leaves the group and keeps the pipe open, and ends when that has happened.
const LEAVES: &str = "printf $CANARY
    setsid sh -c 'echo $$ > away; exec sleep 60' &
    while [ ! -s away ]; do sleep 0.01; done";

#[tokio::test]
async fn an_odd_command_that_gives_a_token_is_no_error() {
    let (traced, _guard) = Traced::capture();
    let upstream = Upstream::start().await.unwrap();
    upstream.set_default(Reply::json(200, &json!({})));
    let odd = [
        ("a grandchild holds the pipe", "printf $CANARY; sleep 1000 & exit 0", SECRET),
        ("one that left the group holds it", LEAVES, SECRET),
        ("says an error and means success", "echo \"error: no $CANARY\"", "error: no sk-canary-3f9a"),
        ("noise on stderr", "seq 1000 >&2; printf '  %s\\r\\n\\n' $CANARY", SECRET),
        ("sees nothing of the service", "env | grep -q CARGO && exit 9; echo $CANARY", SECRET),
        ("reads its input", "cat; echo $CANARY", SECRET),
    ];
    let count = odd.len();
    let mut printed = String::new();
    for (name, script, token) in odd {
        let dir = tempfile::tempdir().unwrap();
        let one = provider(&upstream.base_url(), &command(dir.path(), script, LONG_MS));
        let began = Instant::now();
        let answer = send(&one).await.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        assert!(began.elapsed() < Duration::from_millis(LONG_MS), "{name}: nobody waits for a pipe to end");
        assert_eq!(remains_of(group(dir.path())).await, [""; 0], "{name}");
        if let Ok(away) = std::fs::read_to_string(dir.path().join("away")) {
            let ended = std::process::Command::new("kill").arg(away.trim()).status().unwrap();
            assert!(ended.success(), "it was not ours to kill");
        }
        let sent = upstream.requests().pop().unwrap();
        assert_eq!(sent.header("authorization").unwrap(), format!("Bearer {token}"), "{name}");
        printed.push_str(&format!("{answer:?} {one:?}"));
    }
    let traced = traced.text();
    assert_eq!(traced.matches("credential renewed").count(), count, "{traced}");
    assert!(!format!("{printed}{traced}").contains("canary"), "{traced}");
}

#[tokio::test]
async fn a_command_has_path_and_home_and_its_table() {
    let upstream = Upstream::start().await.unwrap();
    upstream.set_default(Reply::json(200, &json!({})));
    let text = format!(
        "[model_providers.up]\nbase_url = {:?}\n
         auth = {{ command = \"sh\", args = [\"-c\", \"echo $PATH+$HOME+$OTHER+$OWN\"], env = {{ OWN = \"own\" }} }}",
        upstream.base_url()
    );
    let env = |name: &str| match name {
        "PATH" => Some("/usr/bin:/bin".to_owned()),
        "HOME" => Some("/home/gateway".to_owned()),
        "OPENAI_API_KEY" => None,
        _ => Some("other".to_owned()),
    };
    let one = Providers::build(&parse(&text), &env).unwrap().route("any", None).unwrap().upstream;
    send(&one).await.unwrap();
    let sent = upstream.requests().pop().unwrap();
    assert_eq!(sent.header("authorization"), Some("Bearer /usr/bin:/bin+/home/gateway++own"));
}

#[tokio::test]
async fn a_command_that_cannot_be_run_waits_for_a_change_of_files() {
    let upstream = Upstream::start().await.unwrap();
    upstream.set_default(Reply::json(200, &json!({})));
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    let keys = format!(
        "auth = {{ command = \"corp-token\", env = {{ PATH = \"relative:/nonexistent:{}\" }} }}",
        bin.display()
    );
    let one = provider(&upstream.base_url(), &keys);
    let refused = async |says: &str| {
        let error = send(&one).await.unwrap_err();
        assert!(chain(&error).contains(says) && !error.is_retryable(), "{}", chain(&error));
    };
    refused("command corp-token: not found in PATH").await;
    std::fs::create_dir(&bin).unwrap();
    std::fs::copy("/bin/echo", bin.join("corp-token")).unwrap();
    std::fs::set_permissions(bin.join("corp-token"), Permissions::from_mode(0o644)).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    refused("is not an executable file").await;
    std::fs::set_permissions(bin.join("corp-token"), Permissions::from_mode(0o755)).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let error = send(&one).await.unwrap_err();
    assert!(chain(&error).contains("gave nothing where a token should be"), "it ran: {}", chain(&error));
    let gone = provider(&upstream.base_url(), "auth = { command = \"sh\", cwd = \"/nonexistent\" }");
    assert!(chain(&send(&gone).await.unwrap_err()).contains("there is no directory /nonexistent"));
}

#[tokio::test]
async fn a_provider_that_is_dropped_kills_its_command() {
    let upstream = Upstream::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let script = "(trap '' TERM; sleep 1000) & sleep 1000";
    let one = provider(&upstream.base_url(), &command(dir.path(), script, LONG_MS));
    let began = Instant::now();
    let running = async {
        while !dir.path().join("id").exists() || left_of(group(dir.path())).len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        answer = send(&one) => panic!("the command ended: {answer:?}"),
        () = running => {}
    }
    drop(one);
    let buried = async {
        while !left_of(group(dir.path())).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_real_time(buried).await;
    assert!(began.elapsed() < Duration::from_millis(LONG_MS), "before its time is over");
}
