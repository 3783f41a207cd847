//! Configurations that are wrong, and configurations that change while they are read.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt as _;
use http::{HeaderMap, header};
use rustix::fs::{CWD, Mode, mkfifoat};
use secrecy::{ExposeSecret as _, SecretString};
use tidegate_callers::{KeysFile, NewKey, Presented};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

fn alone() -> Surroundings<'static> {
    Surroundings { directory: Path::new(""), listens_by_flags: false, environment: &|_| None, previous: None }
}

fn problems(text: &str) -> String {
    let source = Source::from_text("gateway.toml", text);
    let result = source.parse_checked(|config| check(config, &alone()));
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn the_defaults_work_without_an_account() {
    assert_eq!(problems(""), "");
}

#[test]
fn all_problems_are_told_at_once_with_their_lines() {
    let text = problems(
        "listen = [\"0.0.0.0:4100\"]\n\n[model_providers.corp]\nbase_url = \"ftp://x\"\n\n[drain]\ngrace_ms = 99999999999\n",
    );
    assert!(text.contains("gateway.toml:1:"), "{text}");
    assert!(text.contains("`listen[0]` is 0.0.0.0:4100"), "{text}");
    assert!(text.contains("gateway.toml:4:"), "{text}");
    assert!(text.contains("gateway.toml:7:"), "{text}");
}

#[test]
fn other_machines_may_reach_a_listener_whose_callers_are_known() {
    let open = "listen = [\"0.0.0.0:4100\"]\n";
    let tables = "[[authentication.issuers]]\nname = \"corp\"\nissuer = \"https://sso.example\"\n\
         audience = \"tidegate\"\ndiscovery = true\n[[callers]]\nissuer = \"corp\"\ntenant = \"acme\"\n";
    assert_eq!(problems(&format!("{open}{tables}")), "");
    let anonymous = problems(&format!("{open}[authentication]\nanonymous = true\n"));
    assert!(anonymous.contains("`listen[0]` is 0.0.0.0:4100"), "{anonymous}");
}

#[test]
fn an_address_of_the_command_line_is_not_blamed_on_the_file() {
    let origin = Origin { file: None, listen: vec!["0.0.0.0:4601".parse().unwrap()] };
    let told = origin.load(None).checked.err().unwrap().to_string();
    assert!(told.starts_with("`--listen` is 0.0.0.0:4601, which other machines can reach"), "{told}");
}

#[test]
fn an_unknown_key_names_its_neighbor() {
    let text = problems("[model_providers.corp]\nbase_ulr = \"http://127.0.0.1:1/v1\"\n");
    assert!(
        text.contains("gateway.toml:2:") && text.contains("base_ulr") && text.contains("`base_url`"),
        "{text}"
    );
}

/// What loading these files says, the first of which is the gateway's: its error, or its warnings. Without the directory.
fn loaded(files: &[(&str, &str)]) -> String {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = root.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let file = root.path().join(files[0].0);
    let told = match (Origin { file: Some(file), listen: Vec::new() }).load(None).checked {
        Ok(checked) => checked.warnings.join("\n"),
        Err(error) => error.to_string(),
    };
    told.replace(&format!("{}/", root.path().display()), "")
}

#[test]
fn everything_that_is_wrong_is_told_in_one_go() {
    let main = "policy_file = \"policy.toml\"\nlimit = 1\n[telemetry]\notlp_endpoint = \"127.0.0.1:4317\"\nsample_ratio = 3.0\n\
        [drain]\ngrace_ms = \"long\"\n[authentication]\nkeys_file = \"nobody\"\n\
        [model_providers.corp]\nbase_ulr = \"http://127.0.0.1:1\"\n[model_providers.other]\nbase_url = \"ftp://x\"\nname = 5\n";
    insta::assert_snapshot!(loaded(&[("m.toml", main), ("policy.toml", "[default]\nmodel.deny = []\n")]), @r"
    m.toml: `model_provider`: several providers and no default; name the provider for models that none of them lists
    m.toml:2:1: unknown key `limit`; did you mean `limits`?
    m.toml:4:1: `telemetry.otlp_endpoint` must be http://host:port or https://host:port
    m.toml:5:1: `telemetry.sample_ratio` must be from 0.0 to 1.0
    m.toml:7:12: `drain.grace_ms` must be a whole number from 0, not a string
    m.toml:9:1: `authentication.keys_file` names nobody, which cannot be used: No such file or directory (os error 2); make a first key with `tidegate keys create --file nobody --tenant TENANT --subject SUBJECT`
    m.toml:11:1: unknown key `model_providers.corp.base_ulr`; did you mean `base_url`?
    m.toml:13:1: `model_providers.other.base_url`: not an http or https address; for example https://host/v1
    m.toml:14:8: `model_providers.other.name` must be a string, not this integer
    policy.toml:2:1: unknown key `default.model`; did you mean `models`?
    ");
}

#[test]
fn a_policy_that_is_not_there_is_told_where_it_is_named() {
    insta::assert_snapshot!(loaded(&[("m.toml", "policy_file = \"nosuch.toml\"\n")]), @r"m.toml:1:1: `policy_file` names nosuch.toml, and there is no such file; correct the path, write the file, or take the key out");
}

#[test]
fn the_agent_s_file_is_known() {
    let text = "gateway = \"127.0.0.1:4100\"\n[gateway_access]\n[limits]\nrunning_turns_max = 4\n";
    insta::assert_snapshot!(loaded(&[("agent.toml", text)]), @r"agent.toml:1:1: `gateway` shows that this is the agent's file, and here the gateway's is wanted; name the gateway's file, or run this one with `agentd --service-config agent.toml app-server`");
}

#[test]
fn what_cannot_work_yet_is_a_warning() {
    let text = "[[callers]]\nspiffe = \"spiffe://corp.example/*\"\ntenant = \"a\"\n\
        [model_providers.corp]\nbase_url = \"http://127.0.0.1:1/v1\"\nkey_file = \"keys/corp\"\n";
    insta::assert_snapshot!(loaded(&[("etc/m.toml", text)]), @r"
    `model_providers.corp.key_file` is etc/keys/corp, which cannot be read: No such file or directory (os error 2); calls to corp fail until it can: correct the path, or put the key there
    `callers[0].spiffe` stands for nobody: clients are not asked for certificates; name the authorities that issue them in `client_ca_file` under [tls]
    ");
    let there = text.replace("[[callers]]\nspiffe = \"spiffe://corp.example/*\"\ntenant = \"a\"\n", "");
    assert_eq!(loaded(&[("etc/m.toml", &there), ("etc/keys/corp", "sk-1")]), "");
}

#[test]
fn relative_paths_start_at_the_file_s_directory() {
    let text = "listen = [\"unix:g.sock\"]\npolicy_file = \"p.toml\"\n[tls]\ncertificate_file = \"c\"\nkey_file = \"/k\"\nclient_ca_file = \"a\"\n\
        [model_providers.corp]\nkey_file = \"k\"\nca_file = \"b\"\nclient_certificate_file = \"d\"\nclient_key_file = \"e\"\n\
        models_file = \"m\"\nauth = { command = \"x\", cwd = \"w\" }\n";
    let source = Source::from_text("/etc/tidegate/gateway.toml", text);
    let mut config: GatewaydConfig = source.parse().unwrap();
    source.resolve(config.paths_mut());
    let paths: Vec<_> = config.paths_mut().map(|path| path.display().to_string()).collect();
    let told =
        paths.iter().map(|path| path.strip_prefix("/etc/tidegate/").unwrap_or(path)).collect::<Vec<_>>();
    assert_eq!(told, ["g.sock", "c", "/k", "a", "k", "b", "d", "e", "m", "w", "p.toml"]);
}

#[test]
fn the_committed_schemas_are_the_code_s() {
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config").join(name);
    service_runtime::config::check_committed::<GatewaydConfig>(&file("gatewayd.schema.json")).unwrap();
    service_runtime::config::check_committed::<PolicyConfig>(&file("policy.schema.json")).unwrap();
}

#[test]
fn a_policy_may_name_what_there_is() {
    let told = |providers: &str, policy: &str| {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("gateway.toml");
        fs::write(&file, format!("policy_file = \"policy.toml\"\n{providers}")).unwrap();
        fs::write(root.path().join("policy.toml"), policy).unwrap();
        let error = Origin { file: Some(file), listen: Vec::new() }.load(None).checked.err();
        error
            .map(|error| error.to_string().replace(&format!("{}/", root.path().display()), ""))
            .unwrap_or_default()
    };
    let open = "[model_providers.corp]\nbase_url = \"http://127.0.0.1:1/v1\"\n";
    let closed = format!(
        "{open}models = [\"m1\", \"m2\"]\n[model_aliases.fast]\nprovider = \"corp\"\nmodel = \"m2\"\n"
    );
    let fine = "[default]\nproviders.allow = [\"corp\", \"rehearsal\"]\nmodels.allow = [\"m1\", \"fast\", \"rehearsal\", \"gpt-*\"]\n\
         [requirements]\nproviders.deny = [\"OpenAI\", \"amazon-bedrock\"]\n";
    assert_eq!(told(&closed, fine), "");
    let strange = "[tenants.acme]\nmodels.allow = [\"m1\", \"m3\"]\nproviders.deny = [\"crop\"]\n";
    insta::assert_snapshot!(told(&closed, strange), @r#"
    policy.toml:2:23: `tenants.acme.models.allow[1]` names the model "m3", and there is none of that name; take the name out, or write one of these: fast, m1, m2, rehearsal, rehearsal-long, rehearsal-short, rehearsal-slow
    policy.toml:3:19: `tenants.acme.providers.deny[0]` names the provider "crop", and there is none of that name; take the name out, or write one of these: amazon-bedrock, amazon-bedrock-runtime, corp, openai, rehearsal
    "#);
    let told = told(open, strange);
    assert!(told.contains("\"crop\"") && !told.contains("\"m3\""), "a provider that takes any model: {told}");
}

/// What tells one state of a configuration from another, by file: what the main file, the policy and the keys say.
#[derive(Debug, PartialEq, Eq)]
struct Read(usize, Option<usize>, String);

/// A mounted configuration: a directory for each state and the link that chooses one. Each state has the same key, for a
/// tenant of its own.
struct Mounted {
    root: tempfile::TempDir,
    key: SecretString,
    keys: String,
}

/// Whether a state's policy is a file, or a pipe that a test holds the other end of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PolicyAs {
    File,
    Pipe,
}

impl Mounted {
    fn new() -> Arc<Self> {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("made.toml");
        let new = NewKey { tenant: "tenant-0".to_owned(), subject: "ci".to_owned(), ..NewKey::default() };
        let key = KeysFile::at(&file).create(new, SystemTime::now()).unwrap().key;
        let keys = fs::read_to_string(file).unwrap();
        Arc::new(Self { root, key, keys })
    }

    fn policy(number: usize) -> String {
        format!("[default]\nmax_concurrent_calls = {number}\n")
    }

    fn state(&self, number: usize, policy: PolicyAs) {
        let directory = self.root.path().join(number.to_string());
        fs::create_dir(&directory).unwrap();
        let main = format!(
            "policy_file = \"policy.toml\"\n[limits]\nconcurrent_calls_max = {number}\n[authentication]\nkeys_file = \"keys.toml\"\n"
        );
        fs::write(directory.join("gateway.toml"), main).unwrap();
        fs::write(directory.join("keys.toml"), self.keys.replace("tenant-0", &format!("tenant-{number}")))
            .unwrap();
        let file = directory.join("policy.toml");
        match policy {
            PolicyAs::File => fs::write(file, Self::policy(number)).unwrap(),
            PolicyAs::Pipe => mkfifoat(CWD, file, Mode::RUSR | Mode::WUSR).unwrap(),
        }
    }

    /// The link leads to this state from now on.
    fn lead_to(&self, number: usize) {
        let next = self.root.path().join("next");
        symlink(number.to_string(), &next).unwrap();
        fs::rename(next, self.root.path().join("data")).unwrap();
    }

    /// Waits until this state's policy is being read, and then lets the reader have another state's.
    fn swap_while_read(&self, number: usize, next: usize, policy: usize) {
        let pipe = self.root.path().join(number.to_string()).join("policy.toml");
        let mut pipe = fs::OpenOptions::new().write(true).open(pipe).unwrap();
        self.lead_to(next);
        pipe.write_all(Self::policy(policy).as_bytes()).unwrap();
    }

    fn load(&self) -> Loaded {
        let file = Some(self.root.path().join("data/gateway.toml"));
        Origin { file, listen: Vec::new() }.load(None)
    }

    /// Loads, and does something meanwhile that has to come to its end.
    fn load_while(self: &Arc<Self>, meanwhile: impl FnOnce(&Self) + Send + 'static) -> Loaded {
        let (here, there) = (Arc::clone(self), Arc::clone(self));
        let done = aside(move || meanwhile(&there));
        let loaded = aside(move || here.load())();
        done();
        loaded
    }

    fn said(&self, loaded: Loaded) -> Read {
        let calls = loaded.checked.unwrap_or_else(|error| panic!("{error}")).calls;
        let rules = calls.policy.rules("any", "body", &[]).unwrap();
        let bearer = format!("Bearer {}", self.key.expose_secret());
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, bearer.parse().unwrap())]);
        let presented = Presented { headers: &headers, certificate: None, trusted_listener: false };
        let caller = calls.callers.authenticate(presented).now_or_never().unwrap().unwrap();
        Read(
            calls.limits.concurrent_calls_max,
            rules.max_concurrent_calls(),
            caller.principal.tenant.to_string(),
        )
    }
}

/// Begins something that may wait for a pipe, and gives what to wait for it with.
fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> impl FnOnce() -> T {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(work()));
    move || told.recv_timeout(DEADLINE).unwrap()
}

fn whole(number: usize) -> Read {
    Read(number, Some(number), format!("tenant-{number}"))
}

#[test]
fn a_configuration_that_is_swapped_while_it_is_read_is_read_again() {
    // The new state's policy, as if the reader had come to it after the swap, and the old one's, so that only the keys are
    // of the new state.
    for policy in [2, 1] {
        let mounted = Mounted::new();
        mounted.state(1, PolicyAs::Pipe);
        mounted.state(2, PolicyAs::File);
        mounted.lead_to(1);
        let loaded = mounted.load_while(move |mounted| mounted.swap_while_read(1, 2, policy));
        assert!(!loaded.files.differs());
        assert_eq!(mounted.said(loaded), whole(2));
    }
}

#[test]
fn a_configuration_that_never_rests_is_refused() {
    let mounted = Mounted::new();
    (1..=READS_MAX).for_each(|number| mounted.state(number, PolicyAs::Pipe));
    mounted.state(READS_MAX + 1, PolicyAs::File);
    mounted.lead_to(1);
    let loaded = mounted.load_while(|mounted| {
        (1..=READS_MAX).for_each(|number| mounted.swap_while_read(number, number + 1, number));
    });
    assert!(loaded.files.differs(), "the last swap is seen as a change");
    let error = loaded.checked.err().unwrap().to_string();
    assert!(error.contains("gateway.toml: it, or a file that it names, changes again and again"), "{error}");
    assert_eq!(mounted.said(mounted.load()), whole(READS_MAX + 1));
}
