//! What callers do to connections, byte by byte: floods are told to calm down, silence and stalls are ended, others go on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use mesh_tests::{Depot, Mesh, Sidecar, eventually};
use serde_json::json;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
const PRIORITY: &[u8] = &[0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 16];
const WINDOW_UPDATE: &[u8] = &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// The longest clock of these tests is 30 s; who is still open after this is open for ever.
const PATIENCE: Duration = Duration::from_secs(90);

fn mesh_with_edge() -> (Mesh, Sidecar) {
    let mesh = Mesh::start();
    let edge = mesh.edge();
    (mesh, edge)
}

fn connect(sidecar: &Sidecar) -> TcpStream {
    let stream = TcpStream::connect(&sidecar.edge).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that comes until the connection is closed; a connection that is left open fails the test.
fn until_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut seen = Vec::new();
    let mut piece = [0u8; 4_096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return seen,
            Ok(count) => seen.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                return seen;
            }
            Err(error) => panic!("left open: {error}"),
        }
    }
}

/// The error code and the word of a GOAWAY among frames.
fn goodbye(mut frames: &[u8]) -> Option<(u32, String)> {
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = frames {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let payload = rest.get(..length)?;
        if *kind == 7 {
            let code = u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?);
            return Some((code, String::from_utf8_lossy(&payload[8..]).into_owned()));
        }
        frames = &rest[length..];
    }
    None
}

#[test]
fn a_flood_of_control_frames_is_told_to_calm_down_and_nobody_else_notices() {
    const ENHANCE_YOUR_CALM: u32 = 0xb;
    let (_mesh, edge) = mesh_with_edge();
    let mut honest = connect(&edge);
    honest.write_all(&[PREFACE, SETTINGS, PING].concat()).unwrap();
    for (frame, word) in [
        (PING, "too_many_pings"),
        (SETTINGS, "too_many_pings"),
        (PRIORITY, "too_many_priorities"),
        (WINDOW_UPDATE, "too_many_window_updates"),
    ] {
        let mut stream = connect(&edge);
        stream.write_all(&[PREFACE, SETTINGS].concat()).unwrap();
        // It may be closed before all of them were sent.
        let _ = stream.write_all(&frame.repeat(500));
        let seen = until_closed(stream);
        if let Some(told) = goodbye(&seen) {
            assert_eq!(told, (ENHANCE_YOUR_CALM, word.to_owned()));
        } else {
            // The kernel throws away what was not read when a connection with unread bytes is closed.
            assert!(
                seen.len() < 64 << 10,
                "{word}: {} bytes were answered",
                seen.len()
            );
        }
    }
    honest.write_all(PING).unwrap();
    let mut answer = [0u8; 9];
    honest.read_exact(&mut answer).unwrap();
    assert_eq!(edge.get("/nowhere").call().status, 404);
}

#[test]
fn what_is_no_http_is_told_why_in_the_answer_the_log_and_the_numbers() {
    let (_mesh, mut edge) = mesh_with_edge();
    let get = "GET /nowhere HTTP/1.1\r\nhost: a\r\n";
    let malformed = ("400 Bad Request", "request_malformed");
    let too_large = ("431 Request Header Fields Too Large", "headers_too_large");
    for (request, (status, reason)) in [
        ("NO WORD\r\n\r\n".to_owned(), malformed),
        ("GET / HTTP/3.0\r\n\r\n".to_owned(), malformed),
        (format!("{get}a b: c\r\n\r\n"), malformed),
        (format!("{get}content-length: a\r\n\r\n"), malformed),
        (
            format!("{get}content-length: 1\r\ncontent-length: 2\r\n\r\nab"),
            malformed,
        ),
        ("\x16\x03\x01\x02\0\x01\0\x01".to_owned(), malformed),
        (format!("{get}{}\r\n", "a: b\r\n".repeat(100)), too_large),
        (format!("{get}a: {}\r\n\r\n", "b".repeat(25_000)), too_large),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(65_600)), too_large),
    ] {
        let shown: String = request.chars().take(60).collect();
        let mut stream = connect(&edge);
        stream.write_all(request.as_bytes()).unwrap();
        let answer = String::from_utf8(until_closed(stream)).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{shown:?}: {answer}"
        );
        for header in [
            "content-type: application/json".to_owned(),
            "connection: close".to_owned(),
            format!("x-mesh-reason: {reason}"),
            format!("content-length: {}", body.len()),
        ] {
            assert_eq!(
                head.matches(&header).count(),
                1,
                "{shown:?}: {header} in {answer}"
            );
        }
        let error: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            error["details"][0]["reason"],
            json!(reason.to_uppercase()),
            "{answer}"
        );
    }
    let line = edge
        .process()
        .says(&[r#""reason":"headers_too_large""#, r#""status":431"#]);
    assert!(!line.contains("bbbb") && !line.contains("method"), "{line}");
    let counted = edge.scrape();
    let unread =
        |line: &&str| line.starts_with("mesh_calls_total{") && line.contains(r#"reason="request_malformed""#);
    let count = counted
        .lines()
        .find(unread)
        .and_then(|line| line.rsplit(' ').next());
    assert_eq!(count, Some("6"), "{counted}");
}

#[test]
fn a_request_that_can_be_read_is_answered_before_one_behind_it_that_cannot() {
    let (_mesh, edge) = mesh_with_edge();
    let mut stream = connect(&edge);
    stream
        .write_all(b"GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\nNO WORD\r\n\r\n")
        .unwrap();
    let answers = String::from_utf8(until_closed(stream)).unwrap();
    let seen: Vec<_> = answers
        .matches("HTTP/1.1 ")
        .chain(answers.matches("x-mesh-reason: "))
        .collect();
    assert_eq!(seen.len(), 4, "{answers}");
    let (first, second) = answers.split_at(answers.rfind("HTTP/1.1 ").unwrap());
    assert!(
        first.starts_with("HTTP/1.1 404 ") && first.contains("route_unknown"),
        "{answers}"
    );
    assert!(
        second.starts_with("HTTP/1.1 400 ") && second.contains("request_malformed"),
        "{answers}"
    );
}

#[test]
fn silence_and_stalls_are_ended_and_the_stalled_caller_is_told() {
    let (mesh, edge) = mesh_with_edge();
    let _quotes = mesh.quotes("a");
    eventually("the edge reaches the service", || {
        (edge.get("/v1/quotes/ACME").call().status == 200).then_some(())
    });
    let silent = connect(&edge);
    let mut half_a_preface = connect(&edge);
    half_a_preface.write_all(b"PRI * HT").unwrap();
    let mut half_a_head = connect(&edge);
    half_a_head
        .write_all(b"GET /v1/quotes/ACME HTTP/1.1\r\nhost: a\r\n")
        .unwrap();
    let mut half_a_body = connect(&edge);
    let head = "POST /v1/orders HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    half_a_body.write_all(head.as_bytes()).unwrap();
    assert_eq!(until_closed(silent), b"");
    // Nothing but our own settings, which go first.
    until_closed(half_a_preface);
    let told = until_closed(half_a_head);
    assert!(
        told.is_empty() || told.starts_with(b"HTTP/1.1 408"),
        "{}",
        String::from_utf8_lossy(&told)
    );
    let told = String::from_utf8_lossy(&until_closed(half_a_body)).into_owned();
    assert!(
        told.starts_with("HTTP/1.1 408") && told.contains("x-mesh-reason: request_stalled"),
        "{told}"
    );
}

#[test]
fn who_stops_reading_a_stream_slows_the_service_and_is_ended() {
    let depot = Depot::start(&json!({}));
    let mut deaf = connect(&depot.edge);
    // Without an end, and as fast as it is taken.
    let head = "GET /v1/items/a:watch?size=100000 HTTP/1.1\r\nhost: a\r\n\r\n";
    deaf.write_all(head.as_bytes()).unwrap();
    eventually("the service is called", || {
        (depot.told("call").len() == 1).then_some(())
    });
    // As long as the clock has, and longer on a machine that does other things too.
    let ended = (0..PATIENCE.as_secs()).any(|_| {
        std::thread::sleep(Duration::from_secs(1));
        !depot.told("ended").is_empty()
    });
    assert!(ended, "the service still streams to somebody who does not read");
    let answer = depot.get("/v1/items/box").call();
    assert_eq!(answer.status, 200, "{answer:?}");
    // It is broken off, or says why it ends where there is still room for that.
    let seen = until_closed(deaf);
    let told = String::from_utf8_lossy(&seen[seen.len().saturating_sub(1_000)..]).into_owned();
    assert!(
        !told.ends_with("0\r\n\r\n") || told.contains("CALLER_STALLED"),
        "{}",
        &told[told.len().saturating_sub(300)..]
    );
    assert!(seen.len() < 16 << 20, "{} bytes were held for nobody", seen.len());
}

#[test]
fn a_stream_on_which_nothing_moves_for_long_is_left_alone_by_both_sides() {
    let depot = Depot::start(&json!({}));
    let mut patient = connect(&depot.edge);
    // Servers of gRPC close connections whose clients ask for signs of life every few seconds.
    let head = "GET /v1/items/a:watch?count=2&interval_ms=45000 HTTP/1.1\r\nhost: a\r\n\r\n";
    patient.write_all(head.as_bytes()).unwrap();
    let mut told = String::new();
    let mut piece = [0u8; 4_096];
    while !told.contains("\"number\":\"2\"") {
        let count = patient.read(&mut piece).unwrap();
        told.push_str(&String::from_utf8_lossy(&piece[..count]));
        assert!(count > 0 && !told.contains("error"), "{told}");
    }
}
