//! An explanation as people read it.

use std::fmt::{Display, Formatter, Result};

use super::{Check, Explanation, Saying, Section, Setting};

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "{}: tenant {:?}, subject {:?}", verdict(self.allowed), self.tenant, self.subject)?;
        writeln!(f, "\nlooked at")?;
        for looked in &self.tables {
            let unknown = if looked.known { "" } else { " (not in the policy)" };
            writeln!(f, "  {}{unknown}", looked.table)?;
        }
        for section in self.sections.iter().filter(|section| section.setting.is_none()) {
            write!(f, "\n{section}")?;
        }
        writeln!(f, "\nwhat holds besides")?;
        self.sections
            .iter()
            .filter(|section| section.setting.is_some())
            .try_for_each(|section| section.fmt(f))
    }
}

impl Display for Section {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.setting {
            Some(setting) => writeln!(f, "  {} {setting}", self.about)?,
            None => writeln!(f, "{}", self.about)?,
        }
        self.checks.iter().try_for_each(|check| check.fmt(f))?;
        self.path.iter().try_for_each(|saying| write!(f, "      {saying}"))
    }
}

impl Display for Setting {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}", self.value.as_deref().unwrap_or("no limit"))?;
        self.rule.as_ref().map_or(Ok(()), |rule| write!(f, "  by {rule}"))
    }
}

impl Display for Check {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let verdict = verdict(self.allowed);
        match &self.rule {
            Some(rule) => writeln!(f, "  {verdict}  {}  by {rule}", self.asked)?,
            None => writeln!(f, "  {verdict}  {}  no rule is against it", self.asked)?,
        }
        self.message.as_ref().map_or(Ok(()), |message| writeln!(f, "      the caller is told: {message}"))
    }
}

impl Display for Saying {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let replaced = if self.replaced { "  (replaced by a more specific table)" } else { "" };
        writeln!(f, "{}: {} = {}{replaced}", self.table, self.key, self.value)
    }
}

fn verdict(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "denied" }
}
