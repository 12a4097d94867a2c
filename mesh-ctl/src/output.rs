//! Printing: tables for people, JSON and YAML for programs, and nothing that could steer a terminal.

use std::fmt::Write as _;
use std::io::Write as _;

use comfy_table::{Attribute, Cell, Color, Table};
use serde_json::Value;

use crate::cli::Format;
use crate::failure::{Exit, Failure};

/// Most bytes of a text from elsewhere that are shown.
pub(crate) const TEXT_BYTES_MAX: usize = 4 << 10;

/// Text from elsewhere as it may stand on one line of a terminal: what would move the cursor, change colours or turn the
/// reading direction is escaped, and the whole is cut at [`TEXT_BYTES_MAX`].
pub(crate) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(TEXT_BYTES_MAX));
    for c in text.chars() {
        if out.len() >= TEXT_BYTES_MAX {
            out.push('…');
            break;
        }
        if is_unsafe(c) {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// C0, DEL and C1 controls, and the marks that reorder or hide text (Unicode TR 36, "Trojan Source").
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Writes text of our own making to stdout. Colour codes in it are dropped when that is no terminal.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| match error.kind() {
            // Whoever read us has read enough.
            std::io::ErrorKind::BrokenPipe => Failure::silent(Exit::Refused),
            _ => Failure::usage(format!("cannot write to stdout: {error}")),
        })
}

/// Writes one line of our own making to stderr: news that are no part of the answer.
pub(crate) fn note(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Prints a value as JSON or YAML.
pub(crate) fn print_value(format: Format, value: &Value) -> Result<(), Failure> {
    match format {
        Format::Yaml => print(&yaml(value)),
        Format::Json | Format::Table => print(&format!("{}\n", json(value))),
    }
}

/// Prints documents so that they can be applied again: several as a JSON list or as a YAML stream.
pub(crate) fn print_documents(format: Format, documents: &[Value]) -> Result<(), Failure> {
    match (format, documents) {
        (Format::Yaml, documents) => {
            let texts: Vec<String> = documents.iter().map(yaml).collect();
            print(&texts.join("---\n"))
        }
        (_, [one]) => print_value(Format::Json, one),
        (_, many) => print_value(Format::Json, &Value::Array(many.to_vec())),
    }
}

/// JSON with the characters escaped that JSON itself would let pass.
pub(crate) fn json(value: &Value) -> String {
    escaped(serde_json::to_string_pretty(value).unwrap_or_default())
}

/// The same on one line.
pub(crate) fn json_line(value: &Value) -> String {
    escaped(serde_json::to_string(value).unwrap_or_default())
}

fn escaped(text: String) -> String {
    if !text.chars().any(|c| is_unsafe(c) && c != '\n') {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) && c != '\n' {
            // All of them are in the basic plane: one escape each.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// YAML; or, where that would let something unsafe pass, JSON, which is YAML too.
fn yaml(value: &Value) -> String {
    let text = serde_saphyr::to_string(value).unwrap_or_default();
    if text.is_empty() || text.chars().any(|c| is_unsafe(c) && c != '\n') {
        return format!("{}\n", json(value));
    }
    if text.ends_with('\n') {
        text
    } else {
        format!("{text}\n")
    }
}

/// A table without borders. Cells are escaped when they are made with [`cell`].
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    // `print` decides about colours, for all output alike.
    table.enforce_styling();
    table.style_text_only();
    table.set_header(
        header
            .iter()
            .map(|title| Cell::new(title).add_attribute(Attribute::Bold)),
    );
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// A cell with text from anywhere; `-` when there is none.
pub(crate) fn cell(text: impl AsRef<str>) -> Cell {
    match text.as_ref() {
        "" => Cell::new("-"),
        text => Cell::new(safe(text)),
    }
}

/// A cell that is good news.
pub(crate) fn good(text: impl AsRef<str>) -> Cell {
    cell(text).fg(Color::Green)
}

/// A cell to look at.
pub(crate) fn warn(text: impl AsRef<str>) -> Cell {
    cell(text).fg(Color::Yellow)
}

/// A cell that is bad news.
pub(crate) fn bad(text: impl AsRef<str>) -> Cell {
    cell(text).fg(Color::Red)
}

/// Prints a table.
pub(crate) fn print_table(table: &Table) -> Result<(), Failure> {
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    print(&format!("{}\n", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as value;

    #[test]
    fn text_from_elsewhere_cannot_steer_a_terminal() {
        assert_eq!(safe("a\u{1b}[31mred\u{7}\nb"), "a\\u{1b}[31mred\\u{7}\\nb");
        assert_eq!(
            safe("\u{9b}2J\u{202e}evil\u{200b}"),
            "\\u{9b}2J\\u{202e}evil\\u{200b}"
        );
        assert_eq!(safe("Zürich → 東京"), "Zürich → 東京");
    }

    #[test]
    fn text_from_elsewhere_is_cut() {
        let long = safe(&"\u{1b}".repeat(100_000));
        assert!(long.len() < TEXT_BYTES_MAX + 16, "{}", long.len());
        assert!(long.ends_with('…'));
    }

    #[test]
    fn json_and_yaml_escape_what_they_could_let_pass_and_still_say_the_same() {
        let nasty = value!({"a": "\u{9b}31m\u{202e}\u{1b}\u{7f}", "b": [1, true, null]});
        for text in [json(&nasty), yaml(&nasty)] {
            assert!(!text.chars().any(|c| is_unsafe(c) && c != '\n'), "{text:?}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), nasty);
        }
    }

    #[test]
    fn tables_are_aligned_without_borders_and_empty_cells_are_a_dash() {
        let mut table = table(&["KIND", "NAME"]);
        table.add_row([cell("Service"), cell("a")]);
        table.add_row([cell(""), cell("b")]);
        table.force_no_tty();
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        assert_eq!(lines.last().unwrap(), "-        b");
        assert!(lines[1].starts_with("Service  a"), "{lines:?}");
    }
}
