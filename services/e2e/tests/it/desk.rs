//! `tidegate` on a desk: one prompt, and both services for everybody's clients.

mod credentials;
#[cfg(target_os = "linux")]
mod processes;
mod stale;

use std::ffi::OsString;

use anyhow::Context as _;
use gateway_testkit::Upstream;
use serde_json::{Value, json};
use service_e2e::rpc::Rpc;
use service_e2e::service::Service;
use service_e2e::stack::{self, CALLER_KEY, UPSTREAM_KEY};
use service_e2e::{binaries, certificate, clients, home::Home, provision};
use tokio::process::Command;

use crate::agent::terminal::{SCREEN_TIME_MAX, quit};

/// A desk whose gateway, if there is an upstream, needs a key that the user's environment has.
async fn tidegate(home: &Home, upstream: Option<&Upstream>) -> anyhow::Result<Command> {
    let mut command = clients::on(home, &binaries::program("tidegate").await?);
    let data = home.path("tidegate");
    std::fs::create_dir_all(&data)?;
    if let Some(upstream) = upstream {
        std::fs::write(data.join("gateway.toml"), stack::provider(upstream))?;
    }
    command.env("TIDEGATE_HOME", data).env("E2E_UPSTREAM_KEY", UPSTREAM_KEY);
    Ok(command)
}

#[tokio::test]
async fn ask_streams_one_answer_without_an_account() -> anyhow::Result<()> {
    let home = Home::new()?;
    let mut ask = tidegate(&home, None).await?;
    ask.args(["ask", "--model", "rehearsal-short", "What is a tide gate?"]);
    let output = stack::run(ask).await?.success()?;
    assert!(output.stdout.trim().len() > 10 && output.stdout.ends_with('\n'), "{output:?}");
    Ok(())
}

#[tokio::test]
async fn ask_goes_through_both_services_and_tells_failures() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    upstream.push(stack::says("resp_ask", &["It lets ", "water out."]));
    let home = Home::new()?;
    let mut ask = tidegate(&home, Some(&upstream)).await?;
    ask.args(["ask", "What is a tide gate?"]);
    let output = stack::run(ask).await?.success()?;
    assert_eq!(output.stdout, "It lets water out.\n");
    let seen = upstream.wait_for_request(1).await?;
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
    assert!(seen.header("thread-id").is_some());

    let mut ask = tidegate(&home, Some(&upstream)).await?;
    ask.args(["ask", "--model", "nobody-s", "What is a tide gate?"]);
    let output = stack::run(ask).await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, "");
    assert!(output.stderr.contains("nobody-s"), "{output:?}");
    assert!(!output.stderr.contains(UPSTREAM_KEY));
    Ok(())
}

/// A running desk on free ports.
struct Up {
    service: Service,
    gateway: std::net::SocketAddr,
    agent: std::net::SocketAddr,
}

impl Up {
    async fn start(home: &Home, upstream: Option<&Upstream>) -> anyhow::Result<Self> {
        let mut up = tidegate(home, upstream).await?;
        let [gateway, agent] = free_ports()?;
        up.args(["up", "--gateway", &gateway.to_string(), "--agent", &agent.to_string()]);
        let ready = |line: &str| line.contains("Ctrl-C stops both").then_some(());
        let (service, ()) = Service::start("tidegate up", up, ready).await?;
        Ok(Self { service, gateway, agent })
    }
}

/// Two ports that were free a moment ago; `tidegate up` prints what it was told, so it must be told a number.
fn free_ports() -> anyhow::Result<[std::net::SocketAddr; 2]> {
    let one = std::net::TcpListener::bind("127.0.0.1:0")?;
    let other = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok([one.local_addr()?, other.local_addr()?])
}

/// A second desk is refused with the reason before it says that it is up, and the first one notices nothing.
#[tokio::test]
async fn a_second_desk_is_refused_and_leaves_the_first_alone() -> anyhow::Result<()> {
    let home = Home::new()?;
    let up = Up::start(&home, None).await?;
    let address_file = home.path("tidegate/run/agent.address");
    let elsewhere = home.path("elsewhere").display().to_string();
    let here = home.path("tidegate").display().to_string();
    let [free, other] = free_ports()?;
    for (directory, gateway, agent, reason) in [
        (&here, free, other, format!("a desk is up in {here} already")),
        (&elsewhere, up.gateway, free, format!("cannot listen on {}", up.gateway)),
        (&elsewhere, free, up.agent, format!("cannot listen on {}", up.agent)),
    ] {
        let mut second = tidegate(&home, None).await?;
        second.args(["up", "--data-dir", directory]);
        second.args(["--gateway", &gateway.to_string(), "--agent", &agent.to_string()]);
        let output = stack::run(second).await?;
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(69), ""), "{output:?}");
        assert!(output.stderr.contains(&reason), "{reason} in {output:?}");
        assert_eq!(std::fs::read_to_string(&address_file)?, up.agent.to_string());
    }
    let mut trace = tidegate(&home, None).await?;
    trace.args(["trace", "01a1f863-0000-7f93-9710-f7d10b25b017"]);
    let output = stack::run(trace).await?;
    assert!(output.stderr.contains("there is no thread"), "{output:?}");
    assert_eq!(up.service.stop(stack::STOP_TIME_MAX).await?.code(), Some(0));
    assert!(!address_file.exists());
    Ok(())
}

/// What a service ended with is what the desk ends with.
#[tokio::test]
async fn up_ends_with_the_code_of_its_service() -> anyhow::Result<()> {
    let home = Home::new()?;
    let mut up = tidegate(&home, None).await?;
    std::fs::write(home.path("tidegate/agent.toml"), "gateway_acess = {}\n")?;
    let [gateway, agent] = free_ports()?;
    up.args(["up", "--gateway", &gateway.to_string(), "--agent", &agent.to_string()]);
    let output = stack::run(up).await?;
    assert_eq!((output.status.code(), output.stdout.as_str()), (Some(78), ""), "{output:?}");
    Ok(())
}

/// Everything that the banner says to paste works.
#[tokio::test]
async fn up_serves_everybody_and_writes_no_key() -> anyhow::Result<()> {
    let Some(codex) = provision::codex("up_serves_everybody_and_writes_no_key").await? else {
        return Ok(());
    };
    let upstream = Upstream::start().await?;
    upstream.set_default(stack::says("resp_up", &["It lets ", "water out."]));
    let home = Home::new()?;
    let up = Up::start(&home, Some(&upstream)).await?;
    let banner = up.service.output();
    for expected in [
        format!("codex --remote ws://{}", up.agent),
        format!("base_url = \"http://{}/v1\"", up.gateway),
        "tidegate ask".to_owned(),
    ] {
        assert!(banner.contains(&expected), "{expected} in {banner}");
    }

    let mut ask = tidegate(&home, Some(&upstream)).await?;
    ask.env_remove("E2E_UPSTREAM_KEY").args(["ask", "Through the desk that is up?"]);
    assert_eq!(stack::run(ask).await?.success()?.stdout, "It lets water out.\n");
    let user = Home::new()?;
    clients::use_gateway(&user, &format!("http://{}", up.gateway), stack::MODEL)?;
    let output = clients::codex_exec(&codex, &user, CALLER_KEY, "And this?").await?.success()?;
    assert!(output.stdout.contains("It lets water out."), "{output:?}");
    let mut rpc = Rpc::connect(&format!("ws://{}", up.agent)).await?;
    rpc.initialize().await?;
    // What a program began is listed for those who ask for it, as with Codex's own.
    let listed = rpc.call("thread/list", json!({"sourceKinds": ["appServer"]})).await?;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");

    // Nothing that the desk has written holds the key.
    let mut open = vec![home.path("tidegate")];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.is_file() {
                let bytes = std::fs::read(&path)?;
                let held = bytes.windows(UPSTREAM_KEY.len()).any(|window| window == UPSTREAM_KEY.as_bytes());
                assert!(!held, "{}", path.display());
            }
        }
    }
    assert!(!up.service.output().contains(UPSTREAM_KEY));
    Ok(())
}

/// The first minutes of a new user: no account, a terminal, and then a program.
#[tokio::test]
async fn a_fresh_desk_serves_the_terminal_and_the_sdk() -> anyhow::Result<()> {
    let name = "a_fresh_desk_serves_the_terminal_and_the_sdk";
    let Some(codex) = provision::codex(name).await? else { return Ok(()) };
    let Some(python) = provision::python(name).await? else { return Ok(()) };
    let home = Home::new()?;
    let up = Up::start(&home, None).await?;
    let agent = format!("ws://{}", up.agent);
    let user = Home::new()?;
    let mut terminal = clients::codex_remote(&codex, &user, &agent)?;
    terminal.wait_for_text("Rehearsal", SCREEN_TIME_MAX).await?;
    terminal.enter("What is a tide gate?", SCREEN_TIME_MAX).await?;
    let mut rpc = Rpc::connect(&agent).await?;
    rpc.initialize().await?;
    // The client has the thread named by the model; it then tells everybody.
    let named = rpc.notified("thread/name/updated").await?;
    let thread = named["threadId"].as_str().context("a thread")?.to_owned();
    rpc.call("thread/resume", json!({"threadId": thread})).await?;
    let answer = loop {
        let read = rpc.call("thread/read", json!({"threadId": thread, "includeTurns": true})).await?;
        let items = read["thread"]["turns"][0]["items"].as_array().cloned().unwrap_or_default();
        match items.iter().find(|item| item["type"] == "agentMessage") {
            Some(item) => break item["text"].as_str().context("a text")?.to_owned(),
            None => drop(rpc.notified("turn/completed").await?),
        }
    };
    let first: Vec<&str> = answer.split_whitespace().take(3).collect();
    terminal.wait_for_text(&first.join(" "), SCREEN_TIME_MAX).await?;
    quit(terminal).await?;

    // The SDK starts a second agent, which shares the desk's gateway and its threads.
    let program = binaries::program("tidegate").await?.display().to_string();
    let arguments = [program.as_str(), "Hello?", "Still there?"];
    let mut script = clients::python(&python, &user, "unused", "codex_thread.py", &arguments);
    script.env("TIDEGATE_HOME", home.path("tidegate"));
    let told: Value = serde_json::from_str(&clients::run(script).await?.success()?.stdout)?;
    let turns = told["turns"].as_array().context("turns")?;
    assert!(turns.iter().all(|turn| turn["status"] == "completed" && turn["text"] != ""), "{told}");
    assert_eq!(told["listed"], json!([told["thread"], thread]));
    Ok(())
}

/// Who of ten asks, in which thread.
struct Worker {
    rpc: Rpc,
    thread: String,
}

impl Worker {
    /// Starts an app-server of its own, as an SDK does, in the data directory of the desk.
    async fn start(home: &Home) -> anyhow::Result<Self> {
        let mut command = tidegate(home, None).await?;
        command.args(["app-server", "--listen", "stdio://"]);
        let mut rpc = Rpc::spawn(command).await?;
        rpc.initialize().await?;
        let started = rpc.call("thread/start", json!({})).await?;
        let thread = started["thread"]["id"].as_str().context("a thread")?.to_owned();
        Ok(Self { rpc, thread })
    }

    /// Holds so many turns, one after the other.
    async fn talk(mut self, turns: usize) -> anyhow::Result<Self> {
        for turn in 0..turns {
            say(&mut self.rpc, &self.thread, &format!("Turn {turn} of {}.", self.thread)).await?;
        }
        Ok(self)
    }
}

async fn say(rpc: &mut Rpc, thread: &str, text: &str) -> anyhow::Result<()> {
    let input = json!([{"type": "text", "text": text, "text_elements": []}]);
    rpc.call("turn/start", json!({"threadId": thread, "input": input})).await?;
    let ended = rpc.notified("turn/completed").await?;
    anyhow::ensure!(ended["turn"]["status"] == "completed", "{ended}");
    Ok(())
}

/// What the user said in a thread, oldest first.
async fn said(rpc: &mut Rpc, thread: &str) -> anyhow::Result<Vec<String>> {
    let read = rpc.call("thread/read", json!({"threadId": thread, "includeTurns": true})).await?;
    let turns = read["thread"]["turns"].as_array().context("turns")?;
    let items = turns.iter().flat_map(|turn| turn["items"].as_array().into_iter().flatten());
    let texts = items.filter(|item| item["type"] == "userMessage");
    Ok(texts.filter_map(|item| item["content"][0]["text"].as_str()).map(str::to_owned).collect())
}

/// Ten SDK clients beside the desk that is up: ten processes more write to one store at once.
#[tokio::test]
async fn ten_agents_over_stdio_share_the_store_of_the_desk() -> anyhow::Result<()> {
    const AGENTS: usize = 10;
    const TURNS: usize = 4;
    let upstream = Upstream::start().await?;
    upstream.set_default(stack::says("resp_ten", &["Yes, ", "so it is."]));
    let home = Home::new()?;
    let up = Up::start(&home, Some(&upstream)).await?;
    let started = futures_util::future::try_join_all((0..AGENTS).map(|_| Worker::start(&home))).await?;
    let talking = started.into_iter().map(|worker| worker.talk(TURNS));
    let mut workers = futures_util::future::try_join_all(talking).await?;
    assert_eq!(upstream.requests().len(), AGENTS * TURNS);

    // Everybody sees everything, once, whoever has written it.
    let mut threads: Vec<String> = workers.iter().map(|worker| worker.thread.clone()).collect();
    threads.sort_unstable();
    let mut desk = Rpc::connect(&format!("ws://{}", up.agent)).await?;
    desk.initialize().await?;
    for rpc in workers.iter_mut().map(|worker| &mut worker.rpc).chain([&mut desk]) {
        let listed = rpc.call("thread/list", json!({"limit": 50})).await?;
        let ids = listed["data"].as_array().context("threads")?.iter().filter_map(|one| one["id"].as_str());
        let mut ids: Vec<_> = ids.map(str::to_owned).collect();
        ids.sort_unstable();
        assert_eq!(ids, threads);
        for thread in &threads {
            let expected: Vec<_> = (0..TURNS).map(|turn| format!("Turn {turn} of {thread}.")).collect();
            assert_eq!(said(rpc, thread).await?, expected);
        }
    }

    // A thread goes on with whoever comes next once its agent has left, and the others notice nothing.
    let first = workers.remove(0);
    assert_eq!(first.rpc.leave().await?.code(), Some(0));
    let next = &mut workers[0].rpc;
    next.call("thread/resume", json!({"threadId": first.thread, "excludeTurns": true})).await?;
    say(next, &first.thread, "And now?").await?;
    assert_eq!(said(&mut desk, &first.thread).await?.len(), TURNS + 1);
    for worker in workers {
        assert_eq!(worker.talk(1).await?.rpc.leave().await?.code(), Some(0));
    }
    let listed = desk.call("thread/list", json!({"limit": 50})).await?;
    assert_eq!(listed["data"].as_array().context("threads")?.len(), AGENTS);
    Ok(())
}

#[tokio::test]
async fn check_and_schema_say_what_a_configuration_may_hold() -> anyhow::Result<()> {
    let home = Home::new()?;
    let run = |arguments: Vec<OsString>| {
        let home = &home;
        async move {
            let mut command = tidegate(home, None).await?;
            command.args(arguments);
            stack::run(command).await
        }
    };
    for (name, text, code, word) in [
        ("good.toml", "[limits]\nbody_bytes_max = 1000\n", 0, "good"),
        ("bad.toml", "[limits]\nbody_byte_max = 1000\n", 78, "body_bytes_max"),
        (
            "agent.toml",
            "gateway = \"127.0.0.1:1\"\n[limits]\nrunning_turn_max = 1\n",
            78,
            "running_turns_max",
        ),
        ("rules.toml", "[default]\nproviders.allow = [\"nobody\"]\n", 0, "the policy is good"),
        ("rule.toml", "[default]\nprovider.allow = [\"nobody\"]\n", 78, "providers"),
        // Everything in one go, with what is wrong in the file above that it names.
        (
            "staged.toml",
            "policy_file = \"rule.toml\"\nlimit = 1\n",
            78,
            "rule.toml:2:1: unknown key `default.provider`",
        ),
        // After `rules.toml`, which it names.
        (
            "ruled.toml",
            "policy_file = \"rules.toml\"\n",
            78,
            "rules.toml:2:20: `default.providers.allow[0]` names",
        ),
    ] {
        std::fs::write(home.path(name), text)?;
        let output = run(vec!["check".into(), home.path(name).into()]).await?;
        assert_eq!(output.status.code(), Some(code), "{name}: {output:?}");
        assert!(format!("{}{}", output.stdout, output.stderr).contains(word), "{name}: {output:?}");
    }
    let doctor = run(vec!["doctor".into(), home.path("agent.toml").into()]).await?;
    assert_eq!(doctor.status.code(), Some(78), "{doctor:?}");
    assert!(doctor.stderr.contains("this is the agent's file"), "{doctor:?}");
    for (kind, file) in [("gateway", "gatewayd"), ("agent", "agentd"), ("policy", "policy")] {
        let schema = run(vec!["schema".into(), kind.into()]).await?.success()?.stdout;
        let committed = service_e2e::places::repository()?.join(format!("deploy/config/{file}.schema.json"));
        assert_eq!(schema, std::fs::read_to_string(committed)?);
    }
    Ok(())
}

/// Where the desk's agent asks who calls, the user's key is shown from the environment, and nowhere else.
#[tokio::test]
async fn ask_and_trace_show_the_key_of_the_environment() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    upstream.set_default(stack::says("resp_key", &["It lets ", "water out."]));
    let home = Home::new()?;
    let keys = home.path("keys.toml").display().to_string();
    let mut create = tidegate(&home, None).await?;
    create.args(["keys", "create", "--file", &keys, "--tenant", "acme", "--subject", "me"]);
    let key = stack::run(create).await?.success()?.stdout.trim().to_owned();
    std::fs::write(home.path("tidegate/agent.toml"), format!("[authentication]\nkeys_file = {keys:?}\n"))?;
    let up = Up::start(&home, Some(&upstream)).await?;
    let run = async |arguments: &[&str], key: &str| {
        let mut command = tidegate(&home, Some(&upstream)).await?;
        command.env("TIDEGATE_KEY", key).args(arguments);
        stack::run(command).await
    };
    let trace = ["trace", "01a1f863-0000-7f93-9710-f7d10b25b017"];
    for arguments in [["ask", "What is a tide gate?"], trace] {
        let nobody = run(&arguments, "").await?;
        assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
        assert!(nobody.stderr.contains("set TIDEGATE_KEY to a key"), "{nobody:?}");
    }
    assert_eq!(run(&["ask", "What is a tide gate?"], &key).await?.success()?.stdout, "It lets water out.\n");
    let traced = run(&trace, &key).await?;
    assert!(traced.stderr.contains("there is no thread"), "{traced:?}");
    let log = up.service.output();
    assert!(!log.contains(&key), "{log}");
    assert!(log.contains(concat!("tidegate/", env!("CARGO_PKG_VERSION"))), "{log}");
    Ok(())
}

/// What an SDK starts tells that there is no desk, and what to do; a desk that is up is not spoken of.
#[tokio::test]
async fn an_app_server_without_a_desk_says_so() -> anyhow::Result<()> {
    let home = Home::new()?;
    let run = async || {
        let mut command = tidegate(&home, None).await?;
        command.arg("app-server");
        stack::run(command).await?.success()
    };
    let alone = run().await?;
    assert!(alone.stderr.contains("no desk is up") && alone.stderr.contains("`tidegate up`"), "{alone:?}");
    let _up = Up::start(&home, None).await?;
    let beside = run().await?;
    assert!(!beside.stderr.contains("no desk is up"), "{beside:?}");
    Ok(())
}

/// Plain `check` knows whose file it is, by its keys alone.
#[tokio::test]
async fn the_readme_s_files_of_the_agent_are_good() -> anyhow::Result<()> {
    let home = Home::new()?;
    let authority = certificate::certify(&home, "ca.crt")?.display().to_string();
    let run = async |arguments: &[&str]| {
        let mut command = tidegate(&home, None).await?;
        command.current_dir(home.work()).args(arguments);
        stack::run(command).await?.success()
    };
    run(&["keys", "create", "--file", "keys.toml", "--tenant", "acme", "--subject", "ci"]).await?;
    let readme = std::fs::read_to_string(service_e2e::places::repository()?.join("README.md"))?;
    let blocks: Vec<&str> = readme.split("```toml\n# agent.toml\n").skip(1).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let (block, _) = block.split_once("```").context("the end of a block")?;
        std::fs::write(
            home.work().join("shown.toml"),
            block.replace("/etc/tidegate/tls/ca.crt", &authority),
        )?;
        let output = run(&["check", "shown.toml"]).await?;
        assert_eq!(output.stdout, "shown.toml: the configuration is good\n", "{block}");
    }
    Ok(())
}

/// What a thread did is shown by its id; mistakes say what to do.
#[tokio::test]
async fn a_thread_s_trace_is_shown() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    upstream.push(stack::says("resp_trace", &["It lets ", "water out."]));
    let home = Home::new()?;
    let trace = async |arguments: &[&str]| {
        let mut trace = tidegate(&home, Some(&upstream)).await?;
        trace.arg("trace").args(arguments);
        stack::run(trace).await
    };
    let absent = "01a1f863-0000-7f93-9710-f7d10b25b017";
    let nobody = trace(&[absent]).await?;
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    assert!(
        nobody.stderr.contains("no desk is up in") && nobody.stderr.ends_with("with --data-dir\n"),
        "{nobody:?}"
    );

    let up = Up::start(&home, Some(&upstream)).await?;
    let mut ask = tidegate(&home, Some(&upstream)).await?;
    ask.args(["ask", "What is a tide gate?"]);
    stack::run(ask).await?.success()?;
    let mut rpc = Rpc::connect(&format!("ws://{}", up.agent)).await?;
    rpc.initialize().await?;
    let listed = rpc.call("thread/list", json!({"sourceKinds": ["appServer"]})).await?;
    let thread = listed["data"][0]["id"].as_str().context("a thread")?.to_owned();
    let tree = trace(&[&thread]).await?.success()?.stdout;
    for expected in [
        format!("thread {thread}  scripted/{}", stack::MODEL),
        "  started\n".to_owned(),
        "in 1,100 (300 cached), out 70 (20 reasoning)".to_owned(),
        "└─ 1 turn, 1 model call in ".to_owned(),
    ] {
        assert!(tree.contains(&expected), "{expected} in {tree}");
    }
    let document: Value = serde_json::from_str(&trace(&["--json", &thread]).await?.success()?.stdout)?;
    let kinds: Vec<&str> = document["records"]
        .as_array()
        .context("records")?
        .iter()
        .filter_map(|row| row["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["lifecycle", "model_call", "turn"], "{document}");
    assert_eq!(document["records"][1]["tokens"]["input"], 1_100);

    let unknown = trace(&[absent]).await?;
    assert!(unknown.stderr.contains(&format!("there is no thread {absent}")), "{unknown:?}");
    let odd = trace(&["first"]).await?;
    assert!(odd.stderr.contains("\"first\" is no thread's id"), "{odd:?}");
    Ok(())
}
