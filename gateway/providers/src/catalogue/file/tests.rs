//! Files that are read and files that are not.

use super::*;

fn complaint(text: &str) -> String {
    parse(text).err().unwrap()
}

#[test]
fn entries_come_in_their_order_of_priority() {
    let text =
        r#"{"models": [{"slug": "b", "priority": 2}, {"slug": "a", "priority": 1, "visibility": "hide"}]}"#;
    let read: Vec<_> = parse(text).unwrap().into_iter().map(|entry| (entry.slug, entry.hidden)).collect();
    assert_eq!(read, [("a".to_owned(), true), ("b".to_owned(), false)]);
}

#[test]
fn a_problem_names_its_entry() {
    assert!(complaint("[]").starts_with("not a list of models in Codex's form"));
    assert!(complaint(r#"{"data": []}"#).contains("missing field `models`"));
    assert_eq!(complaint(r#"{"models": []}"#), "models is empty");
    assert_eq!(complaint(r#"{"models": [{"slug": "a"}, 7]}"#), "models[1]: not an object");
    assert_eq!(complaint(r#"{"models": [{"slug": ""}]}"#), "models[0]: slug is not a model's name");
    assert_eq!(complaint(r#"{"models": [{"slug": "a"}, {"slug": "a"}]}"#), "models[1]: a is listed twice");
    assert_eq!(
        complaint(r#"{"models": [{"slug": "a", "priority": "first"}]}"#),
        "models[0]: priority is not what Codex reads there (model a)"
    );
}

#[test]
fn a_problem_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("models.json");
    let complaint = |path: &Path| read_models_file(path).err().unwrap();
    assert!(complaint(&path).starts_with(&format!("cannot read {}: ", path.display())));
    fs::write(&path, r#"{"models": [{}]}"#).unwrap();
    assert_eq!(complaint(&path), format!("{}: models[0]: slug is not a model's name", path.display()));
    fs::write(&path, r#"{"models": [{"slug": "a"}]}"#).unwrap();
    assert_eq!(read_models_file(&path).unwrap().len(), 1);
}
