//! In which ways a command that should print a token can misbehave, and what must come of it.

/// What no command may show to anybody but the provider.
pub(super) const CANARY: &str = "canary-of-the-commands-52d9e1";

/// What comes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comes {
    /// It is killed for the time that it takes.
    Late,
    /// An error that says this.
    Error(&'static str),
    /// A token, with the canary behind this: odd, but what was asked for.
    Token(&'static str),
}

/// One way to misbehave.
#[derive(Debug)]
pub(super) struct Misbehaviour {
    /// Also the provider's id and its model.
    pub(super) name: &'static str,
    script: &'static str,
    pub(super) comes: Comes,
}

/// All of them.
pub(super) const MISBEHAVIOURS: [Misbehaviour; 12] = [
    each("hangs", "echo $CANARY; sleep 1000", Comes::Late),
    each("deaf", "trap '' TERM INT HUP; echo $CANARY; while :; do sleep 1; done", Comes::Late),
    each("deaf-grandchild", "(trap '' TERM; while :; do sleep 1; done) & wait", Comes::Late),
    each("grandchild-with-the-pipe", "printf $CANARY; sleep 1000 & exit 0", Comes::Token("")),
    each("gibibyte", "yes $CANARY | head -c 1073741824", Comes::Error("printed more than 65536 bytes")),
    each("nul", r#"printf "$CANARY\0x""#, Comes::Error("cannot stand in a header")),
    each("crlf", r#"printf "$CANARY\r\n$CANARY\r\n""#, Comes::Error("more than one line")),
    each("not-utf-8", r#"printf "$CANARY\377\376""#, Comes::Error("cannot stand in a header")),
    each("empty", "echo $CANARY >&2; echo", Comes::Error("gave nothing where a token should be")),
    each("error-and-success", r#"echo "error: no $CANARY""#, Comes::Token("error: no ")),
    each("secret-on-stderr", "echo $CANARY >&2; exit 1", Comes::Error("exited with code 1")),
    // A JWT that ended in 1970.
    each("ended", "echo e30.eyJleHAiOjF9.$CANARY", Comes::Error("expired")),
];

const fn each(name: &'static str, script: &'static str, comes: Comes) -> Misbehaviour {
    Misbehaviour { name, script, comes }
}

impl Misbehaviour {
    /// The script; it notes the process group that it runs in. A spoiled one that hangs notes another's, which nobody kills.
    pub(super) fn script(&self, spoiled: bool) -> String {
        let notes = match spoiled && self.name == "hangs" {
            true => "setsid sleep 5 & echo $! >> runs",
            false => "echo $$ >> runs",
        };
        format!("{notes}\n{}\n", self.script)
    }

    /// What its caller is told.
    pub(super) fn says(&self) -> Option<&'static str> {
        match self.comes {
            Comes::Late => Some("and was killed"),
            Comes::Error(says) => Some(says),
            Comes::Token(_) => None,
        }
    }

    /// What the provider is shown.
    pub(super) fn token(&self) -> Option<String> {
        match self.comes {
            Comes::Token(before) => Some(format!("{before}{CANARY}")),
            Comes::Late | Comes::Error(_) => None,
        }
    }
}
