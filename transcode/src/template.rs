//! Path templates of `google.api.http`: `/v1/{name=shelves/*}/books/**:verb`.
//!
//! ```text
//!  Template = "/" Segments [ ":" LITERAL ]      Segment  = "*" | "**" | LITERAL | Variable
//!  Segments = Segment { "/" Segment }           Variable = "{" FieldPath [ "=" Segments ] "}"
//! ```

use std::ops::Range;

use crate::percent::{self, Decode};
use crate::quote;

const TEMPLATE_BYTES_MAX: usize = 2048;
const SEGMENTS_MAX: usize = 64;

/// A template, with its variables as ranges of its segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) segments: Vec<Segment>,
    pub(crate) verb: Option<String>,
    pub(crate) variables: Vec<Variable>,
}

/// What one segment of a path must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Exactly this, as it is sent.
    Literal(String),
    /// `*`: any one segment.
    Any,
    /// `**`: zero or more segments, at the end.
    Rest,
}

/// A part of the path that fills a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// `a.b.c` in proto names.
    pub(crate) field_path: String,
    /// Which segments of the template. Where the last of them is `**`, the end is open.
    pub(crate) segments: Range<usize>,
    /// More than one segment, or a `**`: reserved characters stay encoded.
    pub(crate) several: bool,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(format!("is over {TEMPLATE_BYTES_MAX} bytes"));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("{} does not start with a slash", quote(text)));
        };
        let mut parser = Parser {
            rest,
            template: Template {
                segments: Vec::new(),
                verb: None,
                variables: Vec::new(),
            },
        };
        if !rest.is_empty() {
            parser
                .whole()
                .map_err(|why| format!("{} is not a path template: {why}", quote(text)))?;
        }
        Ok(parser.template)
    }

    /// The template without the names of its variables: rules with equal shapes match the same paths.
    pub(crate) fn shape(&self) -> String {
        let mut shape = String::new();
        for segment in &self.segments {
            shape.push('/');
            shape.push_str(match segment {
                Segment::Literal(text) => text,
                Segment::Any => "*",
                Segment::Rest => "**",
            });
        }
        if let Some(verb) = &self.verb {
            shape.push(':');
            shape.push_str(verb);
        }
        shape
    }
}

struct Parser<'a> {
    rest: &'a str,
    template: Template,
}

impl Parser<'_> {
    fn whole(&mut self) -> Result<(), String> {
        self.segments(true)?;
        if self.eat(':') {
            let verb = self.take_while(is_literal);
            if verb.is_empty() || !self.rest.is_empty() {
                return Err("a verb is one word and stands at the end".into());
            }
            self.template.verb = Some(verb);
        }
        match self.rest.chars().next() {
            None => Ok(()),
            Some('?' | '#') => Err("it is a path only; a query is not part of it".into()),
            Some(other) => Err(format!("{other:?} is out of place")),
        }
    }

    fn segments(&mut self, variables_allowed: bool) -> Result<(), String> {
        loop {
            self.segment(variables_allowed)?;
            if !self.eat('/') {
                return Ok(());
            }
            if self.rest.is_empty() {
                return Err("it must not end in a slash".into());
            }
        }
    }

    fn segment(&mut self, variables_allowed: bool) -> Result<(), String> {
        if self.template.segments.last() == Some(&Segment::Rest) {
            return Err("nothing but a verb may follow **".into());
        }
        if self.template.segments.len() == SEGMENTS_MAX {
            return Err(format!("it has more than {SEGMENTS_MAX} segments"));
        }
        match self.rest.chars().next() {
            Some('{') if variables_allowed => self.variable()?,
            Some('{') => return Err("a variable cannot hold a variable".into()),
            Some('*') => {
                let segment = match self.take_while(|c| c == '*').len() {
                    1 => Segment::Any,
                    2 => Segment::Rest,
                    _ => return Err("there are * and **, no other wildcards".into()),
                };
                self.template.segments.push(segment);
            }
            _ => {
                let literal = self.take_while(is_literal);
                if literal.is_empty() {
                    return Err(match self.rest.chars().next() {
                        Some(other) if !"/:}".contains(other) => {
                            format!("{other:?} is out of place; write it percent-encoded")
                        }
                        _ => "it has an empty segment".into(),
                    });
                }
                if percent::decode(&literal, Decode::All).is_err() {
                    return Err(format!("{} is no percent-encoded UTF-8", quote(&literal)));
                }
                self.template.segments.push(Segment::Literal(literal));
            }
        }
        match self.rest.chars().next() {
            Some('*' | '{') => Err("a wildcard or variable is a segment of its own".into()),
            Some(other) if is_literal(other) => Err("a wildcard or variable is a segment of its own".into()),
            _ => Ok(()),
        }
    }

    fn variable(&mut self) -> Result<(), String> {
        self.eat('{');
        let field_path = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        let is_name = |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !field_path.split('.').all(is_name) {
            return Err("a variable is named by a field path".into());
        }
        let start = self.template.segments.len();
        if self.eat('=') {
            self.segments(false)?;
        } else {
            if self.template.segments.last() == Some(&Segment::Rest) {
                return Err("nothing but a verb may follow **".into());
            }
            self.template.segments.push(Segment::Any);
        }
        if !self.eat('}') {
            return Err("a variable is {field_path} or {field_path=segments}".into());
        }
        let segments = start..self.template.segments.len();
        let several = segments.len() > 1 || self.template.segments.last() == Some(&Segment::Rest);
        self.template.variables.push(Variable {
            field_path,
            segments,
            several,
        });
        Ok(())
    }

    fn eat(&mut self, expected: char) -> bool {
        let rest = self.rest.strip_prefix(expected);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken.to_owned()
    }
}

/// What a path segment may hold unencoded (RFC 3986), without what means something in a template.
fn is_literal(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~!$&'()+,;@%".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    #[test]
    fn a_variable_alone_is_one_segment() {
        let template = parsed("/v1/quotes/{symbol}");
        assert_eq!(template.shape(), "/v1/quotes/*");
        assert_eq!(template.variables[0].segments, 2..3);
        assert!(!template.variables[0].several);
        assert_eq!(template.shape(), parsed("/v1/quotes/{other=*}").shape());
    }

    #[test]
    fn a_variable_may_span_segments_and_a_verb_stands_last() {
        let template = parsed("/v1/{name=shelves/*/books/**}:check");
        assert_eq!(template.shape(), "/v1/shelves/*/books/**:check");
        assert_eq!(template.verb.as_deref(), Some("check"));
        assert_eq!(template.variables[0].segments, 1..5);
        assert!(template.variables[0].several);
    }

    #[test]
    fn one_double_star_alone_counts_as_several_segments() {
        assert!(parsed("/{a=**}").variables[0].several);
    }

    #[test]
    fn the_slash_alone_is_a_template() {
        assert_eq!(parsed("/").segments, []);
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for bad in [
            "",
            "foo/bar",
            "//",
            "/a//b",
            "/foo/bar/",
            "/foo/bar?x",
            "/foo#x",
            "/foo/bar*",
            "/foo/***",
            "/a/**/*",
            "/a/**/foo/*",
            "/a/**/**",
            "/a/**/b",
            "/a{x=b/**}/c",
            "/a{x}",
            "/{x}b",
            "/{x}{y}",
            "/{1}",
            "/{field-}",
            "/{}",
            "/{a.}",
            "/{.a}",
            "/{a..b}",
            "/{a=}",
            "/{a",
            "/{a=b",
            "/{a=b/}",
            "/{a={b}/c}",
            "/a:",
            "/a:b:c",
            "/a:b/c",
            "/a:*",
            "/{a:b}",
            "/{x=**}/{y}",
            "/{x=**}/{y=*}",
            "/a b",
            "/é",
            "/a}",
            "/:verb",
            "/*a",
            "/a=b",
            "/a%zz",
            "/a%",
            "/%ff",
        ] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_template_of_too_many_segments_or_bytes_is_refused() {
        assert!(Template::parse(&"/a".repeat(SEGMENTS_MAX)).is_ok());
        assert!(Template::parse(&"/a".repeat(SEGMENTS_MAX + 1)).is_err());
        assert!(Template::parse(&format!("/{}", "a".repeat(TEMPLATE_BYTES_MAX))).is_err());
    }
}
