//! Any way of cutting a body gives the same messages; what is no stream is refused where it is wrong.

use super::*;

fn take(splitter: &mut Splitter, all: &mut Vec<String>) -> Result<(), Refusal> {
    while let Some(message) = splitter.next()? {
        all.push(String::from_utf8(message.to_vec()).unwrap());
    }
    Ok(())
}

/// The messages of a body that comes in pieces of this size.
fn split_by(framing: Framing, body: &str, size: usize) -> Result<Vec<String>, Refusal> {
    let mut splitter = Splitter::new(framing, 100);
    let mut all = Vec::new();
    for piece in body.as_bytes().chunks(size) {
        splitter.push(Bytes::copy_from_slice(piece));
        take(&mut splitter, &mut all)?;
    }
    if let Some(last) = splitter.finish()? {
        all.push(String::from_utf8(last.to_vec()).unwrap());
    }
    Ok(all)
}

fn split(framing: Framing, body: &str) -> Result<Vec<String>, Refusal> {
    split_by(framing, body, usize::MAX)
}

#[test]
fn any_way_of_cutting_a_body_gives_the_same_messages() {
    let array = r#" [ {"a":"],[\"\\"} ,[1,[2]], "x,]" , 7,{} ] "#;
    let lines = "{\"a\":1}\n\n  \r\n{\"b\":\"\\n\"}\r\n3";
    for size in 1..=array.len() {
        let found = split_by(Framing::Array, array, size).unwrap();
        let found: Vec<&str> = found.iter().map(|message| message.trim()).collect();
        assert_eq!(
            found,
            [r#"{"a":"],[\"\\"}"#, "[1,[2]]", r#""x,]""#, "7", "{}"],
            "{size}"
        );
        let found = split_by(Framing::Lines, lines, size).unwrap();
        let found: Vec<&str> = found.iter().map(|message| message.trim()).collect();
        assert_eq!(found, ["{\"a\":1}", "{\"b\":\"\\n\"}", "3"], "{size}");
    }
}

#[test]
fn an_empty_body_and_an_empty_array_are_empty_streams() {
    for (framing, body) in [
        (Framing::Array, ""),
        (Framing::Array, " \n"),
        (Framing::Array, "[]"),
        (Framing::Array, " [ ] "),
        (Framing::Lines, ""),
        (Framing::Lines, "\n\n"),
    ] {
        assert_eq!(split(framing, body), Ok(Vec::new()), "{body:?}");
    }
}

#[test]
fn what_is_no_array_of_messages_is_refused_where_it_is_wrong() {
    for (body, offset) in [
        ("{\"a\":1}", 0),
        ("  {}", 2),
        ("7", 0),
        ("\u{feff}[]", 0),
        ("[,]", 1),
        ("[{},]", 4),
        ("[{} {}]", 4),
        ("[{}] []", 5),
        ("[{}]x", 4),
        ("[}", 1),
        ("[", 1),
        ("[{}", 3),
        ("[{}, {\"a\":", 10),
        ("[\"a]", 4),
    ] {
        let refused = split(Framing::Array, body).unwrap_err();
        assert_eq!(
            (refused.http, refused.offset),
            (400, Some(offset)),
            "{body}: {refused:?}"
        );
    }
    let refused = split(Framing::Array, "{}").unwrap_err();
    assert!(refused.message.contains("not an object"), "{refused:?}");
    assert_eq!(split(Framing::Lines, "\u{feff}{}").unwrap_err().http, 400);
}

#[test]
fn a_message_is_handed_out_with_its_last_byte_and_told_where_it_begins() {
    let mut splitter = Splitter::new(Framing::Array, 100);
    splitter.push(Bytes::from_static(b"[ {\"a\":1}"));
    assert_eq!(splitter.next().unwrap().unwrap(), "{\"a\":1}");
    assert_eq!((splitter.began(), splitter.messages()), (2, 1));
    assert_eq!(splitter.next(), Ok(None));
    splitter.push(Bytes::from_static(b", {\"b\""));
    assert_eq!(splitter.next(), Ok(None));
    splitter.push(Bytes::from_static(b":2}"));
    assert_eq!(splitter.next().unwrap().unwrap(), "{\"b\":2}");
    assert_eq!(splitter.began(), 11);
}

#[test]
fn the_limit_counts_for_each_message_and_is_seen_before_its_end_came() {
    let long = format!("\"{}\"", "x".repeat(60));
    let two = format!("[{long},{long},{long}]");
    assert_eq!(split(Framing::Array, &two).unwrap().len(), 3);
    for framing in [Framing::Array, Framing::Lines] {
        let mut splitter = Splitter::new(framing, 100);
        splitter.push(Bytes::from_static(b"["));
        assert_eq!(splitter.next(), Ok(None));
        splitter.push(Bytes::from("\"".to_owned() + &"x".repeat(200)));
        let refused = splitter.next().unwrap_err();
        assert_eq!(
            (refused.http, refused.code),
            (413, crate::Code::ResourceExhausted),
            "{framing:?}"
        );
    }
}

#[test]
fn a_message_that_lies_in_one_piece_is_not_copied() {
    let body = Bytes::from_static(b"[{\"a\":1}]");
    let mut splitter = Splitter::new(Framing::Array, 100);
    splitter.push(body.clone());
    let message = splitter.next().unwrap().unwrap();
    assert_eq!(message.as_ptr(), body[1..].as_ptr());
}

#[test]
fn the_framing_is_what_the_content_type_says_and_other_types_are_refused() {
    for (content_type, framing) in [
        (None, Framing::Array),
        (Some("application/json"), Framing::Array),
        (Some("Application/JSON; charset=UTF-8"), Framing::Array),
        (Some("application/x-ndjson"), Framing::Lines),
        (Some("application/jsonl; charset=\"utf-8\""), Framing::Lines),
    ] {
        assert_eq!(Framing::of(content_type), Ok(framing), "{content_type:?}");
    }
    for content_type in [
        "",
        "text/json",
        "application/json; charset=utf-16",
        "application/grpc-web",
    ] {
        assert_eq!(
            Framing::of(Some(content_type)).unwrap_err().http,
            415,
            "{content_type}"
        );
    }
}
