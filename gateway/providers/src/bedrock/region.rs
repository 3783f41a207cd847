//! In which AWS region calls are made, and who said so.

use std::path::PathBuf;

use super::Kind;
use crate::check::Env;

/// The region if nobody names one.
pub(super) const DEFAULT: &str = "us-east-1";
/// The variables that name it, the first one wins.
const VARIABLES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
/// Where Mantle is.
const MANTLE: [&str; 14] = [
    "ap-northeast-1",
    "ap-south-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "eu-central-1",
    "eu-north-1",
    "eu-south-1",
    "eu-west-1",
    "eu-west-2",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-gov-west-1",
    "us-west-2",
];
/// The largest profile file that is read.
const PROFILE_FILE_MAX: u64 = 1024 * 1024;

/// A region and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) name: String,
    /// For people, for example `AWS_REGION`.
    pub(crate) source: String,
}

/// The region: the configuration's, else the environment's, else the profile's, else the default.
pub(super) fn choose(configured: Option<&str>, profile: Option<&str>, env: Env<'_>) -> Region {
    let named = |name: &str, source: &str| Region { name: name.trim().to_owned(), source: source.to_owned() };
    if let Some(name) = configured {
        return named(name, "aws.region");
    }
    let read = |variable| Some((env(variable).filter(|name| !name.trim().is_empty())?, variable));
    if let Some((name, variable)) = VARIABLES.into_iter().find_map(read) {
        return named(&name, variable);
    }
    let profile =
        profile.map(str::to_owned).or_else(|| env("AWS_PROFILE")).filter(|it| !it.trim().is_empty());
    let profile = profile.unwrap_or_else(|| "default".to_owned());
    match of_profile(&profile, env) {
        Some(name) => named(&name, &format!("profile {profile}")),
        None => named(DEFAULT, "the default"),
    }
}

/// Why a provider cannot be used in a region; nothing if it can. The Runtime is in nearly every region and gets new ones
/// often, so any name that looks like one is taken; what it does not serve there, it says itself.
pub(super) fn refused(kind: Kind, region: &str) -> Option<String> {
    match kind {
        Kind::Mantle if !MANTLE.contains(&region) => {
            Some(format!("Mantle is not in {region}: it is in {}", MANTLE.join(", ")))
        }
        Kind::Runtime if !is_plausible(region) => Some("for example us-east-1".to_owned()),
        Kind::Mantle | Kind::Runtime => None,
    }
}

/// Whether a name has the form of AWS's regions: `us-east-1`, `us-gov-west-1`. It becomes a part of a host name.
fn is_plausible(region: &str) -> bool {
    let parts: Vec<&str> = region.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_number = (1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    (2..=4).contains(&words.len()) && region.len() <= 32 && words.iter().all(is_word) && is_number
}

/// The region of a profile, from the files that the AWS tools read. Nothing if there is none.
fn of_profile(profile: &str, env: Env<'_>) -> Option<String> {
    let file = |variable: &str, name: &str| {
        let home = || Some(PathBuf::from(env("HOME")?).join(".aws").join(name));
        env(variable).filter(|path| !path.trim().is_empty()).map(PathBuf::from).or_else(home)
    };
    let region = |path: PathBuf, names: &[String]| {
        let small = std::fs::metadata(&path).ok()?.len() <= PROFILE_FILE_MAX;
        region_in(&std::fs::read_to_string(path).ok().filter(|_| small)?, names)
    };
    let mut names = vec![format!("profile {profile}")];
    if profile == "default" {
        names.push("default".to_owned());
    }
    let config = file("AWS_CONFIG_FILE", "config").and_then(|path| region(path, &names));
    config.or_else(|| region(file("AWS_SHARED_CREDENTIALS_FILE", "credentials")?, &[profile.to_owned()]))
}

/// The value of `region` in the first of these sections that has one. Indented lines belong to another key.
fn region_in(text: &str, sections: &[String]) -> Option<String> {
    let mut inside = false;
    for line in text.lines() {
        if let Some(section) = line.trim_end().strip_prefix('[') {
            let section = section.split(']').next().unwrap_or_default();
            let section = section.split_whitespace().collect::<Vec<_>>().join(" ");
            inside = sections.contains(&section);
        } else if inside
            && !line.starts_with([' ', '\t'])
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "region"
        {
            let value = value.split(" #").next().unwrap_or_default();
            let value = value.split(" ;").next().unwrap_or_default().trim();
            return (!value.is_empty()).then(|| value.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_that_is_named_wins() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("config");
        let text = "[default]\nregion = eu-west-1\n[profile  work]\noutput = json\nregion=eu-north-1 # here\n\
                    s3 =\n  region = us-west-1\n[profile none]\n  region = x\n";
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap().to_owned();
        let all = [("AWS_REGION", "us-west-2"), ("AWS_DEFAULT_REGION", "us-east-2")];
        type Case<'a> = (Option<&'a str>, Option<&'a str>, &'a [(&'a str, &'a str)], &'a str, &'a str);
        let cases: [Case<'_>; 8] = [
            (Some("sa-east-1"), None, &all, "sa-east-1", "aws.region"),
            (None, Some("work"), &all, "us-west-2", "AWS_REGION"),
            (None, Some("work"), &all[1..], "us-east-2", "AWS_DEFAULT_REGION"),
            (None, None, &[("AWS_REGION", " ")], "eu-west-1", "profile default"),
            (None, Some("work"), &[], "eu-north-1", "profile work"),
            (None, None, &[("AWS_PROFILE", "work")], "eu-north-1", "profile work"),
            (None, Some("none"), &[], "us-east-1", "the default"),
            (None, Some("missing"), &[], "us-east-1", "the default"),
        ];
        for (configured, profile, variables, name, source) in cases {
            let env = |wanted: &str| match wanted {
                "AWS_CONFIG_FILE" => Some(file.clone()),
                _ => variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned()),
            };
            let expected = Region { name: name.to_owned(), source: source.to_owned() };
            assert_eq!(choose(configured, profile, &env), expected);
        }
    }

    #[test]
    fn regions_that_cannot_be() {
        for region in ["us-east-1", "us-gov-west-1", "ap-southeast-2"] {
            assert_eq!(refused(Kind::Mantle, region), None);
        }
        for region in ["us-west-1", "mars-1", "", "us-east-1.evil.example"] {
            assert!(refused(Kind::Mantle, region).is_some(), "{region}");
        }
        for region in ["us-west-1", "us-gov-east-1", "ap-southeast-10", "us-iso-east-1"] {
            assert_eq!(refused(Kind::Runtime, region), None, "{region}");
        }
        for region in
            ["", "us", "us-east", "US-EAST-1", "us-east-1.evil.example", "us-east-1/x", "a-b-c-d-e-1"]
        {
            assert!(refused(Kind::Runtime, region).is_some(), "{region}");
        }
    }
}
