//! What services do to connections, byte by byte: interim answers without an end, connections that close under calls.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use mesh_tests::documents::{instance, lay_out};
use mesh_tests::{Answer, Folder, Sidecar, SidecarPlan, eventually};
use serde_json::json;

const PREFACE_BYTES: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 103`, by HPACK's name of `:status`.
const INTERIM: &[u8] = b"\x08\x03103";

/// What was seen and done, in order: `connection`, `asked NAME`, `reset CODE`.
type Told = Arc<Mutex<Vec<String>>>;

/// A service of gRPC over bare TCP, which does what the symbol that is asked for says.
struct Http2 {
    stream: TcpStream,
    told: Told,
    /// Whether no connection was there before this one.
    is_first: bool,
    /// The stream that is answered when `AFTER` was asked for.
    held: Option<u32>,
    /// What came of each request.
    begun: HashMap<u32, Vec<u8>>,
}

impl Http2 {
    fn frame(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &id.to_be_bytes()].concat();
        // Who has closed the connection is seen by the reader.
        let _ = self.stream.write_all(&[&head, payload].concat());
    }

    fn answer(&mut self, id: u32) {
        let header = |name: &str, value: &str| {
            let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
            [vec![0], text(name), text(value)].concat()
        };
        let head = [vec![0x88], header("content-type", "application/grpc")].concat();
        self.frame(HEADERS, END_HEADERS, id, &head);
        self.frame(DATA, 0, id, b"\0\0\0\0\x06\x0a\x04ACME");
        self.frame(HEADERS, END_HEADERS | END_STREAM, id, &header("grpc-status", "0"));
    }

    fn interim(&mut self, id: u32, times: usize) {
        for _ in 0..times {
            self.frame(HEADERS, END_HEADERS, id, INTERIM);
        }
    }

    fn reset(&mut self, id: u32, code: u32) {
        self.frame(RST_STREAM, 0, id, &code.to_be_bytes());
    }

    fn tell(&self, what: String) {
        self.told.lock().unwrap().push(what);
    }

    fn asked(&mut self, id: u32, symbol: &str) {
        self.tell(format!("asked {symbol}"));
        match symbol {
            "TEN" => {
                self.interim(id, 10);
                self.answer(id);
            }
            "ELEVEN" => self.interim(id, 11),
            // Once it is whole.
            "LATE" => {}
            "HELD" => self.held = Some(id),
            // The one that was there first is the last that is answered here, later.
            "CLOSES" if self.is_first => {
                let last = self.held.unwrap_or_default();
                self.frame(GOAWAY, 0, 0, &[&last.to_be_bytes()[..], &[0; 4]].concat());
                let mut later = Http2 {
                    stream: self.stream.try_clone().unwrap(),
                    told: self.told.clone(),
                    is_first: true,
                    held: None,
                    begun: HashMap::new(),
                };
                std::thread::spawn(move || {
                    eventually("the other call", || {
                        (asked(&later.told, "AFTER") == 1).then_some(())
                    });
                    later.answer(last);
                });
            }
            "REFUSED" if asked(&self.told, "REFUSED") == 1 => self.reset(id, REFUSED_STREAM),
            "NEVER" => self.reset(id, REFUSED_STREAM),
            "BROKEN" => self.reset(id, INTERNAL_ERROR),
            _ => self.answer(id),
        }
    }

    fn serve(&mut self) -> std::io::Result<()> {
        self.is_first = counted(&self.told, "connection") == 0;
        self.tell("connection".into());
        self.stream.read_exact(&mut [0; PREFACE_BYTES])?;
        self.frame(SETTINGS, 0, 0, &[]);
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head)?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let id = u32::from_be_bytes(head[5..].try_into().unwrap());
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut payload)?;
            match (head[3], head[4]) {
                (SETTINGS, 0) => self.frame(SETTINGS, ACK, 0, &[]),
                (PING, 0) => self.frame(PING, ACK, 0, &payload),
                (DATA, flags) => {
                    if length > 0 {
                        self.frame(WINDOW_UPDATE, 0, 0, &length.to_be_bytes());
                        self.frame(WINDOW_UPDATE, 0, id, &length.to_be_bytes());
                    }
                    let message = self.begun.entry(id).or_default();
                    let before = symbol(message);
                    message.extend_from_slice(&payload);
                    let (now, bytes) = (symbol(message), message.len());
                    if flags & END_STREAM != 0 {
                        self.tell(format!("whole {bytes}"));
                        if now.as_deref() == Some("LATE") {
                            self.reset(id, REFUSED_STREAM);
                        }
                    }
                    if let Some(symbol) = now.filter(|_| before.is_none()) {
                        self.asked(id, &symbol);
                    }
                }
                (RST_STREAM, _) => {
                    let code = u32::from_be_bytes(payload[..4].try_into().unwrap());
                    self.tell(format!("reset {code}"));
                }
                _ => {}
            }
        }
    }
}

/// The symbol that a request is about, once it has come: its first field, behind the head of its frame.
fn symbol(message: &[u8]) -> Option<String> {
    let (length, text) = message.get(6..)?.split_first()?;
    let text = text.get(..usize::from(*length))?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// How often this was told.
fn counted(told: &Told, what: &str) -> usize {
    let told = told.lock().unwrap();
    told.iter().filter(|line| *line == what).count()
}

/// How often this symbol was asked for.
fn asked(told: &Told, symbol: &str) -> usize {
    counted(told, &format!("asked {symbol}"))
}

/// A listener each of whose connections is served on a thread of its own, for as long as it lives.
fn listen(serve: impl Fn(TcpStream) + Send + Copy + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn edge(address: &str, service: &str, expose: &serde_json::Value) -> (Sidecar, Folder) {
    let folder = Folder::new();
    lay_out(&folder);
    std::fs::remove_file(folder.join("documents/access.yaml")).unwrap();
    folder.write(
        "documents/instances.yaml",
        instance(&format!("{service}/raw"), address, "plaintext"),
    );
    let edge = SidecarPlan::new("web.edge", "edge")
        .standalone(&folder.join("documents"))
        .edge(expose)
        // Each thread has connections of its own.
        .set("/threads", json!(1))
        .start();
    (edge, folder)
}

fn http2() -> (Sidecar, Folder, Told) {
    let told = Told::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let telling = told.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut service = Http2 {
                stream: stream.unwrap(),
                told: telling.clone(),
                is_first: false,
                held: None,
                begun: HashMap::new(),
            };
            std::thread::spawn(move || service.serve());
        }
    });
    let (edge, folder) = edge(&address, "market.quotes", &json!([{"service": "market.quotes"}]));
    (edge, folder, told)
}

fn quote(edge: &Sidecar, symbol: &str) -> Answer {
    edge.get(&format!("/v1/quotes/{symbol}")).call()
}

/// An order with a price of so many digits.
fn order(edge: &Sidecar, symbol: &str, digits: usize) -> Answer {
    // In this order, in which it is also sent.
    let order = format!(
        r#"{{"symbol": "{symbol}", "limitPrice": "{}"}}"#,
        "1".repeat(digits)
    );
    edge.get("/v1/orders").post(&order).call()
}

#[track_caller]
fn is_answered(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json(), json!({"symbol": "ACME"}));
}

#[test]
fn a_service_may_send_ten_interim_answers_and_one_more_ends_its_call_and_no_other() {
    let (edge, _folder, told) = http2();
    is_answered(&quote(&edge, "TEN"));
    quote(&edge, "ELEVEN").is_refused(500, "response_unreadable");
    // CANCEL
    eventually("the service is told", || {
        told.lock().unwrap().contains(&"reset 8".into()).then_some(())
    });
    is_answered(&quote(&edge, "TEN"));
    assert_eq!(counted(&told, "connection"), 1, "{told:?}");
}

#[test]
fn a_service_over_http_1_1_may_send_ten_interim_answers_and_not_one_more() {
    let address = listen(|mut stream| {
        let mut head = Vec::new();
        let mut byte = [0];
        while stream.read(&mut byte).is_ok_and(|read| read == 1) {
            head.push(byte[0]);
            if !head.ends_with(b"\r\n\r\n") {
                continue;
            }
            let request = String::from_utf8_lossy(&head).into_owned();
            let few = request.starts_with("GET /ten ");
            head.clear();
            for _ in 0..if few { 10 } else { 11 } {
                let _ = stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
            }
            if few {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone");
            }
        }
    });
    let expose = json!([{"service": "web.portfolio", "prefix": "/p"}]);
    let (edge, _folder) = edge(&address, "web.portfolio", &expose);
    for _ in 0..2 {
        let few = edge.get("/p/ten").call();
        assert_eq!((few.status, few.body.as_str()), (200, "done"), "{few:?}");
        edge.get("/p/more").call().is_refused(500, "response_unreadable");
    }
}

#[test]
fn a_call_after_the_last_that_a_closing_connection_answers_is_sent_again_and_those_before_end_well() {
    let (edge, _folder, told) = http2();
    let held = std::thread::scope(|scope| {
        let held = scope.spawn(|| quote(&edge, "HELD"));
        eventually("a call is under way", || {
            (asked(&told, "HELD") == 1).then_some(())
        });
        is_answered(&quote(&edge, "CLOSES"));
        // The first connection still has its call, and is given no other.
        is_answered(&quote(&edge, "AFTER"));
        held.join().unwrap()
    });
    is_answered(&held);
    let counts = ["HELD", "CLOSES", "AFTER"].map(|symbol| asked(&told, symbol));
    assert_eq!(counts, [1, 2, 1], "{told:?}");
    assert_eq!(counted(&told, "connection"), 2, "{told:?}");
}

#[test]
fn a_call_that_a_service_refuses_unseen_is_sent_again_once_and_whole() {
    let (edge, _folder, told) = http2();
    is_answered(&quote(&edge, "REFUSED"));
    assert_eq!(asked(&told, "REFUSED"), 2, "{told:?}");
    quote(&edge, "NEVER").is_refused(503, "upstream_reset");
    assert_eq!(asked(&told, "NEVER"), 2, "{told:?}");

    // In the middle of it, and at its end.
    for symbol in ["REFUSED", "LATE"] {
        let (edge, _folder, told) = http2();
        let answer = order(&edge, symbol, 60_000);
        match symbol {
            "LATE" => answer.is_refused(503, "upstream_reset"),
            _ => assert_eq!(answer.json(), json!({"id": "ACME"}), "{answer:?}"),
        }
        assert_eq!(asked(&told, symbol), 2, "{told:?}");
        let told = told.lock().unwrap();
        let whole: Vec<usize> = told
            .iter()
            .filter_map(|line| line.strip_prefix("whole ")?.parse().ok())
            .collect();
        assert!(
            whole.iter().all(|bytes| *bytes == whole[0] && *bytes > 60_000),
            "{told:?}"
        );
        assert!(!whole.is_empty(), "{told:?}");
    }
}

#[test]
fn a_call_that_was_looked_at_or_is_too_large_to_keep_is_sent_once() {
    let (edge, _folder, told) = http2();
    quote(&edge, "BROKEN").is_refused(503, "upstream_reset");
    assert_eq!(asked(&told, "BROKEN"), 1, "{told:?}");
    order(&edge, "LATE", 100_000).is_refused(503, "upstream_reset");
    assert_eq!(asked(&told, "LATE"), 1, "{told:?}");
}
