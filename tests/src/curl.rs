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
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Answer {
            status: status.unwrap_or(0),
            headers: lines.filter_map(header).collect(),
            body: body.to_owned(),
            exit: ended.code.unwrap_or(-1),
        }
    }
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
