//! Rules in reverse: messages as HTTP requests, and answers as messages.

use super::*;
use crate::reverse::{HttpRequest, Reverse, Said, Stream};

fn method(name: &str) -> Arc<crate::Method> {
    let schema = lab();
    schema
        .methods()
        .find(|method| method.name().ends_with(&format!("/{name}")))
        .unwrap()
        .clone()
}

fn message(json: &str) -> Vec<u8> {
    method("Get")
        .input()
        .to_wire(json.as_bytes(), &Options::default())
        .unwrap()
}

fn request(name: &str, json: &str) -> Result<HttpRequest, Refusal> {
    let reversed = Reverse::request(&method(name), &message(json), &Options::default());
    reversed.map(|(_, request)| request)
}

fn shown(name: &str, json: &str) -> String {
    match request(name, json) {
        Ok(HttpRequest {
            method,
            target,
            body: None,
        }) => format!("{method} {target}"),
        Ok(HttpRequest {
            method,
            target,
            body: Some(body),
        }) => {
            format!("{method} {target} {}", String::from_utf8(body).unwrap())
        }
        Err(refusal) => format!("{} {refusal}", refusal.http),
    }
}

#[test]
fn each_field_is_said_once_in_the_path_the_body_or_the_query() {
    for (name, json, expected) in [
        ("Get", r#"{"text": "a"}"#, "GET /v1/things/a"),
        (
            "Get",
            r#"{"text": "a", "number": 7, "truth": true}"#,
            "GET /v1/things/a?number=7&truth=true",
        ),
        (
            "Get",
            r#"{"text": "a", "inner": {"name": "n", "size": 2}}"#,
            "GET /v1/things/a?inner.name=n&inner.size=2",
        ),
        (
            "Get",
            r#"{"text": "a", "numbers": [1, 2]}"#,
            "GET /v1/things/a?numbers=1&numbers=2",
        ),
        (
            "Get",
            r#"{"text": "a", "byNumber": {"5": "x&y"}}"#,
            "GET /v1/things/a?byNumber[5]=x%26y",
        ),
        (
            "Get",
            r#"{"text": "a", "at": "2026-01-02T03:04:05Z"}"#,
            "GET /v1/things/a?at=2026-01-02T03%3A04%3A05Z",
        ),
        (
            "Get",
            r#"{"text": "a", "long": "-9007199254740993"}"#,
            "GET /v1/things/a?long=-9007199254740993",
        ),
        (
            "Get",
            r#"{"text": "a", "wrappedText": ""}"#,
            "GET /v1/things/a?wrappedText=",
        ),
        (
            "Get",
            r#"{"text": "a", "free": {"k": ["v"]}}"#,
            "GET /v1/things/a?free=%7B%22k%22%3A%5B%22v%22%5D%7D",
        ),
        (
            "Put",
            r#"{"text": "a", "number": 7}"#,
            r#"PUT /v1/things/a {"number":7}"#,
        ),
        ("Put", r#"{"text": "a"}"#, "PUT /v1/things/a {}"),
        (
            "PutInner",
            r#"{"inner": {"name": "n", "size": 2}, "truth": true}"#,
            r#"PUT /v1/inner/n?truth=true {"size":2}"#,
        ),
        ("Check", r#"{"text": "a"}"#, "POST /v1/things/a:check"),
        ("Make", r#"{"text": "a"}"#, r#"POST /v1/things {"text":"a"}"#),
        ("Watch", r#"{"text": "a"}"#, "GET /v1/things/a:watch"),
    ] {
        assert_eq!(shown(name, json), expected, "{name} {json}");
    }
}

#[test]
fn paths_are_escaped_so_that_they_stay_what_they_are() {
    for (name, json, expected) in [
        (
            "Get",
            r#"{"text": "a/b c?d#e%f"}"#,
            "GET /v1/things/a%2Fb%20c%3Fd%23e%25f",
        ),
        ("Get", r#"{"text": "é:x"}"#, "GET /v1/things/%C3%A9%3Ax"),
        ("File", r#"{"text": "a/b c/d+e"}"#, "GET /files/a/b%20c/d+e"),
        ("File", r#"{"text": "a%2Fb/%zz"}"#, "GET /files/a%2Fb/%25zz"),
        ("File", "{}", "GET /files"),
        (
            "Shelf",
            r#"{"text": "shelves/1/books/2"}"#,
            "GET /v1/shelves/1/books/2",
        ),
    ] {
        assert_eq!(shown(name, json), expected, "{name} {json}");
    }
}

#[test]
fn the_first_rule_whose_path_can_be_filled_is_taken() {
    assert_eq!(
        shown("Get", r#"{"inner": {"name": "n"}, "number": 5}"#),
        "GET /v1/counts/5?inner.name=n"
    );
    // A number that is not there is nought.
    assert_eq!(shown("Get", "{}"), "GET /v1/counts/0");
}

#[test]
fn what_cannot_be_said_is_refused_by_name() {
    for (name, json, expected) in [
        ("Put", r#"{"number": 5}"#, "400 text: does not fill the path"),
        ("Put", r#"{"text": ".."}"#, "400 text: does not fill the path"),
        (
            "File",
            r#"{"text": "a/../b"}"#,
            "400 text: does not fill the path",
        ),
        (
            "Get",
            r#"{"text": "a", "inners": [{}]}"#,
            "501 inners: has no form in a query",
        ),
        ("Upload", "{}", "501 "),
        ("Plain", "{}", "501 "),
    ] {
        let shown = shown(name, json);
        assert!(shown.starts_with(expected), "{name} {json}: {shown}");
    }
    let refusal = Reverse::request(&method("Get"), b"\xff", &Options::default()).unwrap_err();
    assert_eq!(refusal.http, 400);
}

#[test]
fn a_value_of_several_segments_must_have_the_form_of_its_template() {
    let text = r#"syntax = "proto3"; package r; import "google/api/annotations.proto";
        service S { rpc M(A) returns (A) { option (google.api.http) = { get: "/v1/{a=shelves/*/books/**}:x" }; } }
        message A { string a = 1; }"#;
    let schema = Schema::compile(&compile("r.proto", text)).unwrap();
    let method = schema.method("r.S/M").unwrap();
    let target = |a: &str| {
        let mut message = vec![10, u8::try_from(a.len()).unwrap()];
        message.extend_from_slice(a.as_bytes());
        let made = Reverse::request(method, &message, &Options::default());
        made.map(|(_, request)| request.target)
            .map_err(|refusal| refusal.http)
    };
    assert_eq!(target("shelves/1/books").unwrap(), "/v1/shelves/1/books:x");
    assert_eq!(
        target("shelves/a b/books/c/d?").unwrap(),
        "/v1/shelves/a%20b/books/c/d%3F:x"
    );
    for other in [
        "",
        "shelves",
        "shelves/1",
        "shelves//books",
        "racks/1/books",
        "shelves/1/books//2",
        "shelves/../books",
    ] {
        assert_eq!(target(other), Err(400), "{other}");
    }
}

#[test]
fn who_reads_it_by_the_same_rule_has_the_same_message() {
    for (name, json) in [
        (
            "Get",
            r#"{"text": "a/b:c %2F", "number": -7, "real": 1.5e-9, "small": "NaN", "data": "+/8="}"#,
        ),
        (
            "Get",
            r#"{"text": "x", "unsignedLong": "18446744073709551615", "perhaps": 0, "numbers": [3, 0, -1]}"#,
        ),
        (
            "Get",
            r#"{"text": "x", "at": "2026-01-02T03:04:05.000000006Z", "lasts": "-1.5s", "mask": "a.bC,d"}"#,
        ),
        (
            "Get",
            r#"{"text": "x", "wrappedLong": "0", "wrappedReal": 2.5, "wrappedText": "a&b=c"}"#,
        ),
        (
            "Get",
            r#"{"text": "x", "free": {"a": [null, {"b": 1}]}, "value": "v", "list": [1]}"#,
        ),
        (
            "Get",
            r#"{"text": "x", "byNumber": {"-1": "a", "2": ""}, "flags": {"true": 1}}"#,
        ),
        (
            "Get",
            r#"{"text": "x", "words": [1, 0], "inner": {"name": "[n]", "size": 3}}"#,
        ),
        (
            "Put",
            r#"{"text": "x", "inners": [{"name": "a"}, {}], "names": {"k": {"size": 1}}, "truth": true}"#,
        ),
        (
            "PutInner",
            r#"{"inner": {"name": "n", "size": 1}, "numbers": [1]}"#,
        ),
        ("File", r#"{"text": "a/b/c d", "number": 1}"#),
        ("Shelf", r#"{"text": "shelves/a b/books/ü"}"#),
        ("Check", r#"{"text": "a:check"}"#),
    ] {
        let wire = message(json);
        let (_, made) = Reverse::request(&method(name), &wire, &Options::default()).unwrap();
        let (path, query) = made.target.split_once('?').unwrap_or((&made.target, ""));
        let found = found(&made.method, path);
        assert!(found.method.name().ends_with(name), "{name} {json}");
        let content_type = made.body.is_some().then_some("application/json");
        let body = made.body.as_deref().unwrap_or_default();
        let read = found
            .request(query, content_type, body, &Options::default())
            .unwrap();
        let show = |wire: &[u8]| {
            let mut json = Vec::new();
            method("Get")
                .input()
                .to_json(wire, &Options::default(), &mut json)
                .unwrap();
            serde_json::from_slice::<serde_json::Value>(&json).unwrap()
        };
        assert_eq!(show(&read), show(&wire), "{} {}", made.method, made.target);
    }
}

#[test]
fn answers_are_read_by_the_rule_of_their_request() {
    let ask = |name: &str, json: &str| {
        Reverse::request(&method(name), &message(json), &Options::default())
            .unwrap()
            .0
    };
    let options = Options {
        unknown_fields: UnknownInput::Reject,
        ..Options::default()
    };
    let whole = ask("Get", r#"{"text": "a"}"#);
    let read = |reverse: &Reverse, json: &str| reverse.response(json.as_bytes(), &options);
    assert_eq!(
        read(&whole, r#"{"text": "b", "new": 1}"#).unwrap(),
        message(r#"{"text": "b"}"#)
    );
    assert!(read(&whole, "").unwrap().is_empty());
    let field = ask("Get", r#"{"number": 5}"#);
    assert_eq!(read(&field, "[1, 2]").unwrap(), message(r#"{"numbers": [1, 2]}"#));
    for (reverse, bad) in [
        (&whole, "{"),
        (&whole, "[]"),
        (&whole, r#"{"number": "x"}"#),
        (&field, "1}, {"),
        (&field, r#"[1], "text": "x""#),
    ] {
        let refusal = read(reverse, bad).unwrap_err();
        assert_eq!(refusal.http, 500, "{bad}: {refusal}");
    }
}

/// What a stream says that comes in pieces of this size.
fn streamed(content_type: &str, body: &str, size: usize) -> Result<Vec<Said>, Refusal> {
    let (reverse, _) = Reverse::request(
        &method("Watch"),
        &message(r#"{"text": "a"}"#),
        &Options::default(),
    )
    .unwrap();
    let mut stream = Stream::new(reverse, Some(content_type), &Options::default())?;
    let mut said = Vec::new();
    for piece in body.as_bytes().chunks(size) {
        stream.push(bytes::Bytes::copy_from_slice(piece));
        while let Some(next) = stream.next()? {
            said.push(next);
        }
    }
    said.extend(stream.finish()?);
    Ok(said)
}

#[test]
fn streams_are_read_in_all_three_framings_however_they_are_cut() {
    let messages =
        [r#"{"text": "b"}"#, "{}", r#"{"text": "c,d\\n"}"#].map(|json| Said::Message(message(json)));
    for (content_type, body) in [
        ("application/json", r#"[{"text": "b"}, {} ,{"text": "c,d\\n"}]"#),
        (
            "application/x-ndjson",
            "{\"text\": \"b\"}\n{}\n\n{\"text\": \"c,d\\\\n\"}",
        ),
        (
            "text/event-stream; charset=utf-8",
            ": hello\n\nid: 1\ndata: {\"text\": \"b\"}\r\n\r\ndata:{\ndata: }\nretry: 5\n\ndata: {\"text\": \"c,d\\\\n\"}\n\n",
        ),
        // With a byte order mark, and every line end there is; the last one has nothing behind it.
        (
            "text/event-stream",
            "\u{feff}data: {\"text\": \"b\"}\r\rdata: {}\r\n\r\ndata: {\"text\": \"c,d\\\\n\"}\n\r",
        ),
    ] {
        for size in 1..=body.len() {
            assert_eq!(
                streamed(content_type, body, size).unwrap(),
                messages,
                "{content_type} in pieces of {size}"
            );
        }
    }
}

#[test]
fn messages_in_objects_of_their_own_are_taken_out_of_them() {
    let messages = [r#"{"text": "b"}"#, "{}"].map(|json| Said::Message(message(json)));
    let lines = " {\"result\":{\"text\":\"b\"}}\n{ \"result\" : { } }\n";
    let failed = format!("{lines}{{\"error\":{{\"code\":14,\"message\":\"later\",\"details\":[]}}}}\n");
    for content_type in ["application/json", "application/x-ndjson"] {
        for size in 1..=lines.len() {
            assert_eq!(streamed(content_type, lines, size).unwrap(), messages, "{size}");
        }
        let said = streamed(content_type, &failed, 9).unwrap();
        assert!(
            matches!(said.as_slice(), [_, _, Said::Failed(status)] if status.code == 14),
            "{said:?}"
        );
    }
    // What stands beside others is a message with a field that is not known.
    let beside = streamed(
        "application/x-ndjson",
        "{\"result\":{\"text\":\"b\"},\"text\":\"c\"}\n",
        9,
    );
    assert_eq!(beside.unwrap(), [Said::Message(message(r#"{"text": "c"}"#))]);
    for bad in [
        "{\"result\":{}}\n{\"text\":\"b\"}\n",
        "{\"result\":{}",
        "{\"result\":5}\n",
    ] {
        assert_eq!(
            streamed("application/json", bad, 9).unwrap_err().http,
            500,
            "{bad}"
        );
    }
}

#[test]
fn a_stream_that_fails_says_so_and_one_that_breaks_off_is_no_end() {
    for (content_type, body) in [
        (
            "application/x-ndjson",
            "{}\n{\"error\": {\"code\": 14, \"message\": \"later\"}}\n",
        ),
        (
            "text/event-stream",
            "data: {}\n\nevent: error\ndata: {\"code\": 14, \"message\": \"later\"}\n\n",
        ),
    ] {
        let said = streamed(content_type, body, 7).unwrap();
        let [Said::Message(_), Said::Failed(status)] = said.as_slice() else {
            panic!("{content_type}: {said:?}");
        };
        assert_eq!((status.code, status.message.as_str()), (14, "later"));
    }
    for (content_type, body) in [
        ("application/json", "[{}, {}"),
        ("application/json", "{}"),
        ("application/x-ndjson", "{}\n{\"text\""),
        ("application/x-ndjson", "{\"number\": \"x\"}\n"),
        ("text/event-stream", "data: {\n\n"),
        ("text/html", "<html>"),
    ] {
        assert_eq!(
            streamed(content_type, body, 3).unwrap_err().http,
            500,
            "{content_type} {body}"
        );
    }
}
