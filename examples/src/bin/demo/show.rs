//! How the demo prints: numbered steps; under each what was done, what was seen, and what therefore holds.

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};

/// Width of something seen, and how many rows of a long line are shown; the rest is cut.
const SEEN_CHARS: usize = 130;
const SEEN_ROWS_MAX: usize = 3;
const TICK: Duration = Duration::from_millis(100);

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const COMMAND: Style = AnsiColor::Cyan.on_default();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// One line. Colours are dropped where nobody sees them, and so is everything when nobody reads.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(anstream::stdout(), "{text}");
}

/// A heading without a number.
pub(crate) fn heading(text: &str) {
    line(format_args!("\n{BOLD}{text}{BOLD:#}"));
}

/// The title of a numbered step.
pub(crate) fn title(number: usize, text: &str) {
    line(format_args!("\n{BOLD}{number:>2}  {text}{BOLD:#}"));
}

/// A command as a person would type it.
pub(crate) fn did(command: impl Display) {
    line(format_args!("    {COMMAND}$ {command}{COMMAND:#}"));
}

/// What came of it; long lines are wrapped, and cut in the end.
pub(crate) fn saw(text: impl Display) {
    for part in text.to_string().lines().filter(|part| !part.trim().is_empty()) {
        let chars: Vec<char> = part.chars().collect();
        let rows = chars.chunks(SEEN_CHARS);
        let is_cut = rows.len() > SEEN_ROWS_MAX;
        for (index, row) in rows.take(SEEN_ROWS_MAX).enumerate() {
            let row: String = row.iter().collect();
            let dots = if is_cut && index + 1 == SEEN_ROWS_MAX {
                "…"
            } else {
                ""
            };
            line(format_args!("      {DIM}{row}{dots}{DIM:#}"));
        }
    }
}

/// Something that happened.
pub(crate) fn note(text: impl Display) {
    line(format_args!("    {text}"));
}

/// Prints whether a claim holds.
///
/// # Errors
/// The claim and what was seen instead.
pub(crate) fn check(holds: bool, claim: &str, instead: impl Display) -> Result<(), String> {
    if holds {
        line(format_args!("    {GOOD}✓{GOOD:#} {claim}"));
        return Ok(());
    }
    line(format_args!("    {BAD}✗{BAD:#} {claim}"));
    Err(format!("{claim}: {instead}"))
}

/// A failure, in red.
pub(crate) fn failure(text: impl Display) {
    line(format_args!("\n{BAD}✗ {text}{BAD:#}"));
}

/// A success, in green.
pub(crate) fn success(text: impl Display) {
    line(format_args!("\n{GOOD}✓ {text}{GOOD:#}"));
}

/// Shows on a terminal that something takes its time, until it is dropped.
pub(crate) fn waiting(what: &'static str) -> Waiting {
    let bar = ProgressBar::new_spinner().with_message(what);
    if let Ok(style) = ProgressStyle::with_template("    {spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    Waiting(bar)
}

/// See [`waiting`].
pub(crate) struct Waiting(ProgressBar);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
