//! The command, from its arguments to what it answers.

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

struct Files(tempfile::TempDir);

impl Files {
    fn new(policy: &str) -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        files.put("policy.toml", policy);
        files
    }

    fn put(&self, name: &str, text: &str) -> String {
        let file = self.0.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    fn asked(&self, words: &[&str]) -> anyhow::Result<Explanation> {
        let policy = self.0.path().join("policy.toml");
        let words = ["policy", "explain", "--tenant", "acme", "--subject", "ci"].iter().chain(words);
        let mut words: Vec<String> = words.map(|word| (*word).to_owned()).collect();
        if !words.iter().any(|word| word == "--config") {
            words.extend(["--policy".to_owned(), policy.to_str().unwrap().to_owned()]);
        }
        let Command::Explain(wish) = Line::try_parse_from(words)?.command;
        explain(&wish)
    }
}

const POLICY: &str = "[default]\nmodels.deny = [\"*-pro\"]\n[tenants.acme]\ntools.deny = [\"web_search*\"]\n";

#[test]
fn what_is_named_is_judged() {
    let files = Files::new(POLICY);
    assert!(files.asked(&["--model", "gpt-6"]).unwrap().allowed);
    assert!(!files.asked(&["--model", "gpt-6-pro"]).unwrap().allowed);
    let tools = ["--tool", "function:a", "--tool", "web_search_preview"];
    let told = files.asked(&tools).unwrap().to_string();
    assert!(told.contains("denied  \"web_search_preview\"  by tenants.acme.tools.deny"), "{told}");
}

#[test]
fn a_request_is_judged_as_the_gateway_would() {
    let files = Files::new(POLICY);
    let request = files.put("r.json", r#"{"model":"gpt-6","input":[{"tools":[{"type":"web_search"}]}]}"#);
    assert!(!files.asked(&["--request", &request]).unwrap().allowed);
    let broken = files.put("r.json", "{");
    assert!(files.asked(&["--request", &broken]).is_err());
    assert!(files.asked(&["--request", &request, "--model", "m"]).is_err());
}

#[test]
fn the_gateway_s_configuration_leads_to_the_policy() {
    let files = Files::new(POLICY);
    let config = files.put("gateway.toml", "policy_file = \"policy.toml\"\n[log]\n");
    assert!(!files.asked(&["--config", &config, "--model", "gpt-6-pro"]).unwrap().allowed);
    let config = files.put("gateway.toml", "[log]\n");
    assert!(files.asked(&["--config", &config, "--model", "gpt-6-pro"]).unwrap().allowed);
}

#[test]
fn everything_wrong_with_a_policy_is_told_with_its_line() {
    let files = Files::new("[default]\nmodels.deny = [\"a*b\"]\n[requirements]\nlog_content = true\n");
    let error = files.asked(&["--model", "m"]).unwrap_err();
    assert_eq!(Exit::of(&error), Exit::Config);
    let told = error.to_string();
    assert!(told.contains("policy.toml:2:"), "{told}");
    assert!(told.contains("`default.models.deny[0]` has a `*` that is not at an end"), "{told}");
    assert!(told.contains("policy.toml:4:"), "{told}");
    assert!(told.contains("`requirements.log_content` requires nothing"), "{told}");
}
