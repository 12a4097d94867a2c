//! Comments of .proto files, by what they stand at. Descriptors have them only where a compiler was told to keep them.

use std::collections::HashMap;

use prost_reflect::FileDescriptor;

/// Longest description, in bytes.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// The comments of the files that were looked into, by file and path.
#[derive(Default)]
pub(super) struct Comments {
    files: HashMap<String, HashMap<Vec<i32>, String>>,
}

impl Comments {
    /// The comment at a path of a file: the lines before it, or else those behind it.
    pub(super) fn at(&mut self, file: &FileDescriptor, path: &[i32]) -> Option<String> {
        let comments = self
            .files
            .entry(file.name().to_owned())
            .or_insert_with(|| read(file));
        comments.get(path).cloned()
    }

    /// Comments of another set of files may not be mixed with these.
    pub(super) fn clear(&mut self) {
        self.files.clear();
    }
}

fn read(file: &FileDescriptor) -> HashMap<Vec<i32>, String> {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let locations = info.into_iter().flat_map(|info| &info.location);
    locations
        .filter_map(|location| {
            let leading = location.leading_comments.as_deref().map(tidy);
            let trailing = location.trailing_comments.as_deref().map(tidy);
            let text = leading.filter(|text| !text.is_empty()).or(trailing)?;
            (!text.is_empty()).then(|| (location.path.clone(), text))
        })
        .collect()
}

/// Without the blank that follows `//`, and cut where it is too long.
fn tidy(comment: &str) -> String {
    let lines: Vec<&str> = comment
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .collect();
    let mut text = lines.join("\n").trim().to_owned();
    if text.len() > TEXT_BYTES_MAX {
        let mut end = TEXT_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The first sentence, for a heading.
pub(super) fn summary(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or(text).replace('\n', " ");
    let end = paragraph.find(". ").unwrap_or(paragraph.len());
    paragraph[..end].trim_end_matches('.').to_owned()
}
