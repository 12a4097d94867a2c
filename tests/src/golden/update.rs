//! Writes the `expect` of a golden file anew, with what was seen.

use serde_json::{Map, Value, json};

use super::case::{Case, folder};
use super::judge::Difference;

/// Whether failing files are to be written anew.
#[must_use]
pub fn wanted() -> bool {
    std::env::var("MESH_GOLDEN_UPDATE").is_ok_and(|value| value == "1")
}

/// Writes what was seen into a file; what was as expected stays as it is.
///
/// # Panics
/// The file cannot be written, or is no golden file.
pub fn write(case: &Case, differences: &[Difference]) {
    let path = folder().join(&case.file);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, updated(&text, differences)).unwrap();
}

/// Takes away the mark of a file that holds by now.
///
/// # Panics
/// The file cannot be written.
pub fn unmark(case: &Case) {
    let path = folder().join(&case.file);
    let text = std::fs::read_to_string(&path).unwrap();
    let kept = text.lines().filter(|line| !line.starts_with("pending:"));
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, kept).unwrap();
}

fn updated(text: &str, differences: &[Difference]) -> String {
    let (before, _) = text.split_once("\nexpect:").unwrap_or((text.trim_end(), ""));
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let value: Value = serde_saphyr::from_str_with_options(text, options).unwrap();
    let mut expect: Map<String, Value> = value["expect"].as_object().cloned().unwrap_or_default();
    for difference in differences {
        let (key, inner) = difference.key.split_once('/').unwrap_or((&difference.key, ""));
        let seen = difference.seen.clone();
        if inner.is_empty() {
            expect.insert(key.to_owned(), seen);
        } else if let Some(fields) = expect.entry(key).or_insert_with(|| json!({})).as_object_mut() {
            fields.insert(inner.to_owned(), seen);
        }
    }
    let mut text = format!("{before}\nexpect:\n");
    // JSON is YAML.
    for (key, value) in &expect {
        text.push_str(&format!("  {key}: {value}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_takes_the_place_of_what_was_expected() {
        let file = "from: here\nask: GET /\nexpect:\n  status: 200\n  headers: {allow: GET}\n";
        let differences = [
            Difference {
                key: "status".into(),
                expected: json!(200),
                seen: json!(404),
            },
            Difference {
                key: "headers/allow".into(),
                expected: json!("GET"),
                seen: Value::Null,
            },
        ];
        assert_eq!(
            updated(file, &differences),
            "from: here\nask: GET /\nexpect:\n  headers: {\"allow\":null}\n  status: 404\n"
        );
    }
}
