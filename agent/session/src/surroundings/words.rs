//! The words in which the model is told what holds around it.

use agent_threads::{Git, Settings};
use serde_json::Value;
use time::OffsetDateTime;

/// What the model may do, as the settings say. Nobody having chosen means the narrowest.
pub(super) fn permissions(settings: &Settings) -> String {
    let sandbox = name_of(settings.sandbox.as_ref());
    let files = match sandbox {
        Some("dangerFullAccess" | "danger-full-access") => "Files may be read and written everywhere.",
        Some("workspaceWrite" | "workspace-write") => {
            "Files may be read everywhere and written in the working directory."
        }
        Some("externalSandbox" | "external-sandbox") => {
            "What files may be touched is limited from outside of this service."
        }
        _ => "Files may be read and not written.",
    };
    let network = match sandbox {
        Some("dangerFullAccess" | "danger-full-access") => true,
        _ => settings.sandbox.as_ref().and_then(|set| set.get("networkAccess")).is_some_and(is_on),
    };
    let network = if network { "The network may be used." } else { "The network is closed." };
    let asking = match name_of(settings.approval_policy.as_ref()) {
        Some("never") => "The user is never asked: what is not allowed fails.",
        Some("untrusted") => "The user is asked before every command that is not known to be harmless.",
        Some("on-failure") => "The user is asked when a command has failed for want of permission.",
        _ => "The user can be asked to allow more.",
    };
    format!("<permissions>\n{files} {network}\n{asking}\n</permissions>")
}

fn name_of(setting: Option<&Value>) -> Option<&str> {
    setting.and_then(|setting| setting.as_str().or_else(|| setting.get("type")?.as_str()))
}

fn is_on(setting: &Value) -> bool {
    setting.as_bool() == Some(true) || setting.as_str() == Some("enabled")
}

/// Where the model works, and what day it is there.
pub(super) fn environment(cwd: &str, now_ms: i64) -> String {
    let now =
        OffsetDateTime::from_unix_timestamp(now_ms.div_euclid(1_000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let cwd = escaped(cwd);
    format!(
        "<environment_context>\n  <cwd>{cwd}</cwd>\n  <current_date>{}</current_date>\n  <timezone>Etc/UTC</timezone>\n\
         </environment_context>",
        now.date()
    )
}

/// What the project's own files ask for.
pub(super) fn project_docs(cwd: &str, docs: &str) -> String {
    format!("# AGENTS.md instructions for {cwd}\n\n<INSTRUCTIONS>\n{docs}\n</INSTRUCTIONS>")
}

/// Which state of a repository the model works on.
pub(super) fn git(git: &Git) -> String {
    let mut text = "<git_context>\n".to_owned();
    let facts = [("branch", &git.branch), ("commit", &git.sha), ("origin", &git.origin_url)];
    for (name, fact) in facts {
        if let Some(fact) = fact {
            text.push_str(&format!("  <{name}>{}</{name}>\n", escaped(fact)));
        }
    }
    text.push_str("</git_context>");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn permissions_say_what_the_settings_say() {
        let told = |sandbox: Value, approval: Value| {
            permissions(&Settings {
                sandbox: Some(sandbox),
                approval_policy: Some(approval),
                ..Settings::default()
            })
        };
        let narrow = permissions(&Settings::default());
        assert!(narrow.contains("not written") && narrow.contains("closed"), "{narrow}");
        assert_eq!(narrow, told(json!({"type": "readOnly", "networkAccess": false}), json!("on-request")));
        let wide = told(json!({"type": "dangerFullAccess"}), json!("never"));
        assert!(
            wide.contains("everywhere.") && wide.contains("may be used") && wide.contains("never asked"),
            "{wide}"
        );
        let open = told(json!({"type": "workspaceWrite", "networkAccess": true}), json!("untrusted"));
        assert!(open.contains("written in the working directory") && open.contains("may be used"), "{open}");
    }

    #[test]
    fn a_day_is_told_by_its_date_and_names_cannot_pretend_to_be_markup() {
        let text = environment("/a<b>&c", 1_795_819_572_000);
        assert!(text.contains("<cwd>/a&lt;b&gt;&amp;c</cwd>"), "{text}");
        assert!(text.contains("<current_date>2026-11-27</current_date>"), "{text}");
        let text = git(&Git { sha: None, branch: Some("a</branch>".to_owned()), origin_url: None });
        assert_eq!(text, "<git_context>\n  <branch>a&lt;/branch&gt;</branch>\n</git_context>");
    }
}
