//! How a command fails: an exit code, what is wrong (all of it), and what to try next.

use std::fmt::Write as _;
use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use mesh_proto::Faults;

use crate::output::safe;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// What a shell script sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Told no, or found faults or differences.
    Refused = 1,
    /// Wrong usage, or input that cannot be read.
    Usage = 2,
    /// No server answers.
    Unreachable = 3,
    /// Waited as long as was asked.
    TimedOut = 4,
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// The first line stands after `error: `; further ones are indented under it. None: everything was said already.
    pub(crate) lines: Vec<String>,
    /// Each stands after `hint: `.
    pub(crate) hints: Vec<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, line: impl Into<String>) -> Self {
        Self {
            exit,
            lines: vec![line.into()],
            hints: Vec::new(),
        }
    }

    pub(crate) fn refused(line: impl Into<String>) -> Self {
        Self::new(Exit::Refused, line)
    }

    pub(crate) fn usage(line: impl Into<String>) -> Self {
        Self::new(Exit::Usage, line)
    }

    /// Nothing more to say than the exit code.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self {
            exit,
            lines: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// Every fault: one stands on the error line itself, several are listed under a headline.
    pub(crate) fn faults(headline: &str, faults: &Faults) -> Self {
        let mut lines: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
        if lines.len() != 1 {
            lines.insert(0, format!("{} faults; {headline}", lines.len()));
        }
        Self {
            exit: Exit::Refused,
            lines,
            hints: Vec::new(),
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub(crate) fn lines(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.lines.extend(lines);
        self
    }

    /// Prints to stderr, escaped, coloured when that is a terminal.
    pub(crate) fn print(&self) {
        let mut text = String::new();
        for (index, line) in self.lines.iter().enumerate() {
            // A line may itself hold several, since servers tell several faults in one message.
            for (inner, line) in line.lines().enumerate() {
                let _ = if index + inner == 0 {
                    writeln!(text, "{ERROR}error:{ERROR:#} {}", safe(line))
                } else {
                    writeln!(text, "  {}", safe(line))
                };
            }
        }
        for hint in &self.hints {
            let _ = writeln!(text, "{HINT}hint:{HINT:#} {}", safe(hint));
        }
        // There is nowhere left to say that stderr is closed.
        let _ = anstream::stderr().write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_is_the_error_itself_and_several_get_a_headline() {
        let one = Failure::faults("nothing was sent", &Faults::one("a", "is blank"));
        assert_eq!(one.lines, ["a: is blank"]);
        let mut many = Faults::one("a", "is blank");
        many.0.extend(Faults::one("b", "is blank").0);
        let many = Failure::faults("nothing was sent", &many);
        assert_eq!(
            many.lines,
            ["2 faults; nothing was sent", "a: is blank", "b: is blank"]
        );
    }
}
