//! The real curl, as people call the edge with.

use std::process::Command;

use serde_json::Value;

use crate::process::finish;

/// A request to be made.
#[derive(Debug, Clone)]
pub struct Curl {
    url: String,
    arguments: Vec<String>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status; 0 if there was no answer.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
    /// Those that were announced.
    pub trailers: Vec<(String, String)>,
    /// curl's own exit code.
    pub exit: i32,
}

impl Curl {
    /// A GET.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            arguments: Vec::new(),
        }
    }

    /// A POST of JSON.
    #[must_use]
    pub fn post(self, body: &str) -> Self {
        self.header("content-type: application/json")
            .with(&["--data", body])
    }

    /// Another method.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        self.with(&["-X", method])
    }

    /// A header line.
    #[must_use]
    pub fn header(self, line: &str) -> Self {
        self.with(&["-H", line])
    }

    /// A bearer token.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header(&format!("authorization: Bearer {token}"))
    }

    /// Any of curl's own options.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&a| a.to_owned()));
        self
    }

    /// Makes it.
    ///
    /// # Panics
    /// There is no curl.
    #[must_use]
    pub fn call(&self) -> Answer {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--include",
            "--no-buffer",
            "--max-time",
            "15",
        ])
        .args(["--noproxy", "*"])
        .args(&self.arguments)
        .arg(&self.url);
        let ended = finish(&mut curl, "");
        let text = ended.stdout.replace("\r\n", "\n");
        let (mut head, mut body) = text.split_once("\n\n").unwrap_or((&text, ""));
        // What comes before the answer, such as 100 Continue.
        while head
            .split(' ')
            .nth(1)
            .is_some_and(|status| status.starts_with('1') && status != "101")
        {
            (head, body) = body.split_once("\n\n").unwrap_or((body, ""));
        }
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers: Vec<(String, String)> = lines.filter_map(header).collect();
        let (body, trailers) = body.split_at(body_ends(&headers, body));
        Answer {
            status: status.unwrap_or(0),
            headers,
            body: body.to_owned(),
            trailers: trailers.lines().filter_map(header).collect(),
            exit: ended.code.unwrap_or(-1),
        }
    }
}

/// Where the body ends and trailers begin, which curl writes right behind it: those that are announced, and lines before
/// them that are the service's own.
fn body_ends(headers: &[(String, String)], text: &str) -> usize {
    let announced = headers.iter().filter(|(name, _)| name == "trailer");
    let begins = announced
        .flat_map(|(_, names)| names.split(','))
        .filter_map(|name| text.rfind(&format!("{}: ", name.trim())))
        .min();
    let Some(mut end) = begins else { return text.len() };
    while let Some(line) = text[..end]
        .strip_suffix('\n')
        .map(|rest| rest.rfind('\n').map_or(0, |at| at + 1))
    {
        if !text[line..end].starts_with("x-") {
            break;
        }
        end = line;
    }
    end
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A trailer's value.
    #[must_use]
    pub fn trailer(&self, name: &str) -> Option<&str> {
        let found = self.trailers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// It is this refusal, told in JSON.
    ///
    /// # Panics
    /// It is not.
    #[track_caller]
    pub fn is_refused(&self, status: u16, reason: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("x-mesh-reason"), Some(reason), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let body = self.json();
        assert!(
            body["message"].as_str().is_some_and(|m| !m.is_empty()),
            "{self:?}"
        );
        assert!(body["code"].is_i64(), "{self:?}");
    }
}
