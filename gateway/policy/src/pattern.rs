//! Names with an optional `*` at their ends.
//!
//! An allowed name is compared as it is written; a denied one also in any other case of its letters, because some
//! providers do not tell them apart.

/// What a name is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: Box<str>,
    any_before: bool,
    any_after: bool,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    Empty,
    StarInside,
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Pattern, Wrong> {
        if text.is_empty() {
            return Err(Wrong::Empty);
        }
        if text == "*" {
            return Ok(Pattern { text: "".into(), any_before: true, any_after: true });
        }
        let (any_before, rest) = strip(text.strip_prefix('*'), text);
        let (any_after, inner) = strip(rest.strip_suffix('*'), rest);
        if inner.is_empty() || inner.contains('*') {
            return Err(Wrong::StarInside);
        }
        Ok(Pattern { text: inner.into(), any_before, any_after })
    }

    /// The name, if only one is meant.
    pub(crate) fn whole(&self) -> Option<&str> {
        (!self.any_before && !self.any_after).then_some(&*self.text)
    }

    /// Whether a name is meant, as it is written.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let text = &*self.text;
        match (self.any_before, self.any_after) {
            (false, false) => name == text,
            (false, true) => name.starts_with(text),
            (true, false) => name.ends_with(text),
            (true, true) => name.contains(text),
        }
    }

    /// Whether a name is meant, in any case of its ASCII letters.
    pub(crate) fn matches_any_case(&self, name: &str) -> bool {
        let (text, name) = (self.text.as_bytes(), name.as_bytes());
        let at = |start: Option<usize>| {
            let part = start.and_then(|start| name.get(start..start + text.len()));
            part.is_some_and(|part| part.eq_ignore_ascii_case(text))
        };
        match (self.any_before, self.any_after) {
            (false, false) => name.eq_ignore_ascii_case(text),
            (false, true) => at(Some(0)),
            (true, false) => at(name.len().checked_sub(text.len())),
            (true, true) => (0..=name.len()).any(|start| at(Some(start))),
        }
    }
}

fn strip<'a>(stripped: Option<&'a str>, whole: &'a str) -> (bool, &'a str) {
    stripped.map_or((false, whole), |rest| (true, rest))
}

/// A tool's type, and its name where that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolPattern {
    kind: Pattern,
    name: Option<Pattern>,
}

impl ToolPattern {
    pub(crate) fn parse(text: &str) -> Result<ToolPattern, Wrong> {
        match text.split_once(':') {
            None => Ok(ToolPattern { kind: Pattern::parse(text)?, name: None }),
            Some((kind, name)) => {
                Ok(ToolPattern { kind: Pattern::parse(kind)?, name: Some(Pattern::parse(name)?) })
            }
        }
    }

    pub(crate) fn matches(&self, kind: &str, name: Option<&str>) -> bool {
        let named = self.name.as_ref().is_none_or(|wanted| name.is_some_and(|name| wanted.matches(name)));
        self.kind.matches(kind) && named
    }

    pub(crate) fn matches_any_case(&self, kind: &str, name: Option<&str>) -> bool {
        let named =
            self.name.as_ref().is_none_or(|wanted| name.is_some_and(|name| wanted.matches_any_case(name)));
        self.kind.matches_any_case(kind) && named
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, ToolPattern, Wrong};

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let pattern = Pattern::parse(pattern).unwrap();
        for name in yes {
            assert!(pattern.matches(name) && pattern.matches_any_case(name), "{pattern:?} {name}");
            assert!(pattern.matches_any_case(&name.to_uppercase()), "{pattern:?} {name}");
        }
        for name in no {
            assert!(!pattern.matches(name) && !pattern.matches_any_case(name), "{pattern:?} {name}");
        }
    }

    #[test]
    fn a_star_stands_for_any_text_at_an_end() {
        check("gpt-6", &["gpt-6"], &["gpt-6-sol", "x-gpt-6", "", "gpt-"]);
        check("gpt-6*", &["gpt-6", "gpt-6-sol"], &["openai.gpt-6", "gpt-"]);
        check("*-mini", &["gpt-6-mini", "-mini"], &["gpt-6-mini-2", "mini"]);
        check("*gpt-6*", &["gpt-6", "openai.gpt-6-sol"], &["gpt-5", ""]);
        check("*", &["", "anything"], &[]);
        assert!(!Pattern::parse("GPT").unwrap().matches("gpt"));
    }

    #[test]
    fn other_stars_are_refused() {
        for text in ["a*b", "**", "***", "*a*b*", "a**"] {
            assert_eq!(Pattern::parse(text), Err(Wrong::StarInside), "{text}");
        }
        for text in ["", ":", "function:", ":name"] {
            assert_eq!(ToolPattern::parse(text), Err(Wrong::Empty), "{text}");
        }
    }

    #[test]
    fn a_tool_is_known_by_type_or_by_type_and_name() {
        let mcp = ToolPattern::parse("mcp:https://mcp.example.com/*").unwrap();
        assert!(mcp.matches("mcp", Some("https://mcp.example.com/a")));
        assert!(!mcp.matches("mcp", Some("https://mcp.example.com.evil/a")));
        assert!(!mcp.matches("mcp", None));
        let search = ToolPattern::parse("web_search*").unwrap();
        assert!(search.matches("web_search_preview", None) && search.matches("web_search", Some("x")));
    }
}
