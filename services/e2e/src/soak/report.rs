//! Writes what came of the scenarios as a table, and puts it into a document that keeps the rows of other scenarios. A scenario
//! may have a further table of its own, which stands wherever the document has a place for it.

use std::fmt::Write as _;

use super::row::Row;

/// Where the table begins and ends in a document.
const BEGIN: &str = "<!-- soak table -->";
const END: &str = "<!-- end of soak table -->";
const TITLES: &str = "| scenario | tried | faults that fired | violations | skipped | time | RSS start → peak → end | descriptors \
                      start → end | seed | scale | date |\n|---|---|---|---|---|---|---|---|---|---|---|";

/// One line for people who watch.
pub fn line(row: &Row) -> String {
    let mut text = cells(row, "", "").join(" | ");
    for fact in &row.facts {
        let _ = write!(text, "\n    {fact}");
    }
    for line in row.table.iter().flat_map(|table| &table.lines) {
        let _ = write!(text, "\n    {}", line.join(" | "));
    }
    for word in &row.words {
        let _ = write!(text, "\n    VIOLATION {word}");
    }
    text
}

/// The document with the row of its scenario replaced or added, its facts below the table, and its own table.
pub fn put(document: &str, row: &Row, scale: &str, date: &str) -> String {
    let document = put_row(document, row, scale, date);
    let Some(table) = &row.table else { return document };
    let (begin, end) =
        (format!("<!-- table of {} -->", row.scenario), format!("<!-- end of table of {} -->", row.scenario));
    let line = |cells: Vec<&str>| format!("| {} |", cells.join(" | "));
    let lines = table.lines.iter().map(|cells| line(cells.iter().map(String::as_str).collect()));
    let rule = line(vec!["---"; table.titles.len()]);
    let lines: Vec<String> = [line(table.titles.to_vec()), rule].into_iter().chain(lines).collect();
    let text = format!("{begin}\n{}\n{end}", lines.join("\n"));
    let place = document.find(&begin).zip(document.find(&end).map(|at| at + end.len()));
    match place.and_then(|(from, to)| Some((document.get(..from)?, document.get(to..)?))) {
        Some((before, after)) => format!("{before}{text}{after}"),
        None => format!("{document}\n{text}\n"),
    }
}

fn put_row(document: &str, row: &Row, scale: &str, date: &str) -> String {
    let (before, table, after) = split(document);
    let begins = |line: &str| {
        format!("| {} |", row.scenario) == line.get(..row.scenario.len() + 4).unwrap_or_default()
    };
    let told = |line: &str| line.starts_with(&format!("- **{}**", row.scenario));
    let kept =
        |line: &&str| !line.trim().is_empty() && !TITLES.contains(line) && !begins(line) && !told(line);
    let mut rows: Vec<String> = table.lines().filter(kept).map(str::to_owned).collect();
    rows.push(format!("| {} |", cells(row, scale, date).join(" | ")));
    rows.push(format!("- **{}**: {}.", row.scenario, row.facts.join(". ")));
    rows.sort();
    let (lines, facts): (Vec<_>, Vec<_>) = rows.into_iter().partition(|line| line.starts_with('|'));
    format!("{before}{BEGIN}\n{TITLES}\n{}\n\n{}\n{END}{after}", lines.join("\n"), facts.join("\n"))
}

fn split(document: &str) -> (&str, &str, &str) {
    let parts = document.split_once(BEGIN).and_then(|(before, rest)| {
        let (table, after) = rest.split_once(END)?;
        Some((before, table, after))
    });
    parts.unwrap_or((document, "", "\n"))
}

fn cells(row: &Row, scale: &str, date: &str) -> Vec<String> {
    let (start, end) = (row.course.start, row.course.end);
    let mib = |kib: u64| format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024);
    vec![
        row.scenario.to_owned(),
        format!("{} {}", row.attempted, row.operations),
        format!("{} {}", row.fired, row.faults),
        row.violations.to_string(),
        // A scenario that cannot run fails.
        "0".to_owned(),
        format!("{} s", row.duration.as_secs()),
        format!("{} → {} → {} MiB", mib(start.rss_kib), mib(end.peak_kib), mib(end.rss_kib)),
        format!("{} → {}", start.fds, end.fds),
        row.seed.to_string(),
        scale.to_owned(),
        date.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::row::Table;
    use super::super::vitals::Course;
    use super::*;

    fn row(scenario: &'static str, attempted: u64) -> Row {
        Row {
            scenario,
            operations: "calls",
            attempted,
            faults: "faults",
            fired: 1,
            violations: 0,
            words: Vec::new(),
            seed: 7,
            duration: Duration::from_secs(1),
            course: Course::default(),
            facts: vec!["it rained".to_owned()],
            table: None,
        }
    }

    #[test]
    fn a_scenario_replaces_its_own_row_and_leaves_the_others() {
        let first = put(&format!("# Words\n\n{BEGIN}\n{END}\n\nMore."), &row("cut", 1), "1", "today");
        let both = put(&first, &row("cancel", 2), "1", "today");
        let again = put(&both, &row("cut", 3), "1", "today");
        assert!(again.starts_with("# Words\n") && again.ends_with("More."), "{again}");
        assert_eq!(again.matches("| cut | 3 calls |").count(), 1, "{again}");
        assert_eq!(again.matches("| cancel | 2 calls |").count(), 1, "{again}");
        assert!(!again.contains("| cut | 1 calls |"), "{again}");
        assert_eq!(again.matches("- **cut**: it rained.").count(), 1, "{again}");
        assert_eq!(again.matches("| scenario |").count(), 1, "{again}");
    }

    #[test]
    fn a_table_of_its_own_stands_where_the_document_has_a_place_for_it() {
        let with = |cell: &str| Row {
            table: Some(Table { titles: &["a", "b"], lines: vec![vec![cell.to_owned(), "2".to_owned()]] }),
            ..row("cut", 1)
        };
        let place = "# Words\n<!-- table of cut -->\nold\n<!-- end of table of cut -->\nMore.";
        let once = put(place, &with("1"), "1", "today");
        let twice = put(&once, &with("3"), "1", "today");
        let wanted =
            "<!-- table of cut -->\n| a | b |\n| --- | --- |\n| 3 | 2 |\n<!-- end of table of cut -->\nMore.";
        assert!(twice.contains(wanted), "{twice}");
        assert!(!twice.contains("old"), "{twice}");
    }
}
