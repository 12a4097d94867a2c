//! Requests: which source fills which field, and what is refused.

use super::*;

#[test]
fn path_body_and_query_fill_their_own_fields() {
    let seen = sent("PUT", "/v1/inner/ann?number=7&word=WORD_YES", r#"{"size": 3}"#).unwrap();
    assert_eq!(
        seen,
        r#"{"inner":{"size":3,"name":"ann"},"number":7,"word":"WORD_YES"}"#
    );
}

#[test]
fn a_second_differing_value_for_a_field_of_the_path_is_refused_and_an_equal_one_is_not() {
    refused(
        sent("GET", "/v1/things/a?text=b", ""),
        "text",
        "differs from the value in the path",
    );
    refused(sent("GET", "/v1/counts/100?number=9999", ""), "number", "differs");
    refused(
        sent("GET", "/v1/owners/ann/things/x?inner.name=bob", ""),
        "inner.name",
        "differs",
    );
    refused(sent("PUT", "/v1/things/a?text=b", "{}"), "text", "differs");
    refused(sent("PUT", "/v1/things/a", r#"{"text": "b"}"#), "text", "differs");
    refused(sent("PUT", "/v1/things/a", r#"{"text": ""}"#), "text", "differs");
    refused(
        sent("PUT", "/v1/inner/ann", r#"{"name": "bob"}"#),
        "inner.name",
        "differs",
    );
    assert_eq!(
        sent("GET", "/v1/counts/100?number=1e2", "").unwrap(),
        r#"{"number":100}"#
    );
    assert_eq!(
        sent("PUT", "/v1/things/a", r#"{"text": "a"}"#).unwrap(),
        r#"{"text":"a"}"#
    );
    assert_eq!(
        sent("PUT", "/v1/things/a", r#"{"text": null}"#).unwrap(),
        r#"{"text":"a"}"#
    );
    let nested = sent("PUT", "/v1/inner/ann", r#"{"inner": {"name": "bob"}}"#).unwrap();
    assert_eq!(nested, r#"{"inner":{"inner":{"name":"bob"},"name":"ann"}}"#);
}

#[test]
fn the_path_stays_authoritative_where_unknown_parameters_are_ignored() {
    refused(
        sent_with("GET", "/v1/things/a?text=b", b"", &lenient()),
        "text",
        "differs",
    );
}

#[test]
fn another_member_of_the_paths_oneof_is_refused() {
    refused(
        sent("POST", "/v1/choice/x", r#"{"choiceB": {}}"#),
        "choice_a",
        "only one of them",
    );
}

#[test]
fn a_value_of_the_wrong_type_in_the_path_is_refused_even_without_a_body() {
    refused(sent("GET", "/v1/counts/abc", ""), "number", "must be a number");
    refused(sent("GET", "/v1/counts/0.5", ""), "number", "whole number");
    refused(
        sent("GET", "/v1/words/WORD_MAYBE", ""),
        "word",
        "must be a value of lab.Word",
    );
    assert_eq!(sent("GET", "/v1/words/2", "").unwrap(), r#"{"word":"WORD_NO"}"#);
}

#[test]
fn query_parameters_go_by_proto_name_json_name_and_dots() {
    let seen = sent("GET", "/v1/things/a?perhaps=0&byNumber", "");
    refused(seen, "byNumber", "is a map");
    for (query, field) in [
        ("unsigned_long=5", r#""unsignedLong":"5""#),
        ("unsignedLong=5", r#""unsignedLong":"5""#),
        ("strange=s", r#""strange":"s""#),
        ("odd_name=s", r#""strange":"s""#),
        ("inner.inner.size=4", r#""inner":{"inner":{"size":4}}"#),
        ("numbers=1&numbers=2", r#""numbers":[1,2]"#),
        ("words=WORD_NO&words=1", r#""words":["WORD_NO","WORD_YES"]"#),
        ("perhaps=0", r#""perhaps":0"#),
        ("truth=true", r#""truth":true"#),
        ("real=NaN", r#""real":"NaN""#),
        ("data=-_8", r#""data":"+/8=""#),
        ("choiceA=x%26y+z", r#""choiceA":"x&y z""#),
        (
            "at=2024-05-01T12:00:00.5%2B01:00",
            r#""at":"2024-05-01T11:00:00.500Z""#,
        ),
        ("lasts=1.5s", r#""lasts":"1.500s""#),
        ("mask=fooBar,baz", r#""mask":"fooBar,baz""#),
        ("wrappedLong=-9", r#""wrappedLong":"-9""#),
        ("wrappedText=", r#""wrappedText":"""#),
        ("wrappedText", r#""wrappedText":"""#),
        ("%63hoiceA=x", r#""choiceA":"x""#),
        (
            "byNumber[-1]=a&by_number%5B10%5D=b",
            r#""byNumber":{"-1":"a","10":"b"}"#,
        ),
        ("flags[true]=WORD_NO", r#""flags":{"true":"WORD_NO"}"#),
        ("free={\"a\":[1,null]}", r#""free":{"a":[1.0,null]}"#),
        ("value=\"x\"", r#""value":"x""#),
        ("value=null", r#""value":null"#),
        ("list=[]", r#""list":[]"#),
    ] {
        let seen = sent("GET", &format!("/v1/things/a?{query}"), "").unwrap();
        assert_eq!(seen, format!(r#"{{"text":"a",{field}}}"#), "{query}");
    }
    assert_eq!(sent("GET", "/v1/things/a?&=x&", "").unwrap(), r#"{"text":"a"}"#);
}

#[test]
fn query_parameters_that_do_not_fit_are_refused_by_name() {
    for (query, field, why) in [
        ("nope=1", "nope", "no such field"),
        ("inner.nope=1", "inner.nope", "no such field"),
        ("number=1&number=1", "number", "given twice"),
        ("unsigned_long=1&unsignedLong=2", "unsignedLong", "given twice"),
        ("choice_a=x&choice_b.name=y", "choice_b.name", "only one of them"),
        ("choice_b.name=y&choice_a=x", "choice_a", "only one of them"),
        ("numbers=1,2", "numbers", "must be a number"),
        ("inner=x", "inner", "takes no plain value"),
        ("inners=x", "inners", "list of messages"),
        ("inners.name=x", "inners.name", "is repeated"),
        ("number.x=1", "number.x", "has no fields"),
        ("names.a=1", "names.a", "goes into a map"),
        ("free=1", "free", "must be JSON: must be an object"),
        ("value=abc", "value", "must be JSON"),
        ("list={}", "list", "must be JSON: must be an array"),
        ("any={}", "any", "takes no plain value"),
        ("byNumber[x]=a", "byNumber[x]", "as a key"),
        ("byNumber[1]=a&byNumber[1]=b", "byNumber[1]", "given twice"),
        ("byNumber[1]=a&by_number[1]=b", "by_number[1]", "given twice"),
        ("names[a]=b", "names[a]", "takes no plain value"),
        ("numbers[0]=1", "numbers[0]", "is no map"),
        ("flags[yes]=1", "flags[yes]", "as a key"),
        ("at=null", "at", "RFC 3339"),
        ("at=0000-01-01T00:00:00Z", "at", "RFC 3339"),
        ("lasts=null", "lasts", "duration"),
        ("lasts=1h", "lasts", "duration"),
        ("mask=foo_bar", "mask", "lowerCamelCase"),
        ("truth=1", "truth", "true or false"),
        ("data=%3F", "data", "base64"),
        ("word=WORD_MAYBE", "word", "must be a value of"),
        ("long=9223372036854775808", "long", "out of the range"),
        ("number=%zz", "number", "malformed percent escape"),
        ("number=%ff", "number", "not UTF-8"),
        ("wrappedLong=null", "wrappedLong", "must be a number"),
    ] {
        refused(sent("GET", &format!("/v1/things/a?{query}"), ""), field, why);
    }
    let deep = vec!["inner"; 33].join(".");
    refused(
        sent("GET", &format!("/v1/things/a?{deep}=1"), ""),
        &deep,
        "deeper than 32",
    );
}

#[test]
fn parameters_of_the_body_count_as_unknown() {
    refused(
        sent("PUT", "/v1/things/a?number=1", "{}"),
        "number",
        "belongs into the body",
    );
    refused(
        sent("PUT", "/v1/inner/a?inner.size=1", "{}"),
        "inner.size",
        "belongs into the body",
    );
    let ignored = sent_with("PUT", "/v1/things/a?number=1&nope=2", b"{}", &lenient()).unwrap();
    assert_eq!(ignored, r#"{"text":"a"}"#);
}

#[test]
fn a_body_where_the_rule_has_none_is_refused() {
    refused(sent("GET", "/v1/things/a", "{}"), "", "takes no body");
    refused(sent("POST", "/v1/things/a:check", " "), "", "takes no body");
}

#[test]
fn an_empty_body_is_an_empty_message() {
    assert_eq!(sent("PUT", "/v1/things/a", "").unwrap(), r#"{"text":"a"}"#);
    assert_eq!(made("").unwrap(), "{}");
}

#[test]
fn a_body_may_be_one_field_of_any_kind() {
    assert_eq!(
        sent("POST", "/v1/numbers", "[1, 2]").unwrap(),
        r#"{"numbers":[1,2]}"#
    );
    assert_eq!(
        sent("POST", "/v1/names", r#"{"x": {"size": 1}}"#).unwrap(),
        r#"{"names":{"x":{"size":1}}}"#
    );
    assert_eq!(
        sent("POST", "/v1/text", r#""hello""#).unwrap(),
        r#"{"text":"hello"}"#
    );
    refused(
        sent("POST", "/v1/text", r#"{"text": "hello"}"#),
        "text",
        "must be a string",
    );
    refused(sent("POST", "/v1/text", "hello"), "text", "must be a string");
    refused(sent("POST", "/v1/numbers", "1"), "numbers", "must be an array");
    refused(sent("POST", "/v1/numbers", "[1] 2"), "", "follows the JSON value");
}

#[test]
fn only_json_in_utf8_is_read() {
    let call = found("POST", "/v1/things");
    let with = |content_type| {
        call.request("", content_type, b"{}", &Options::default())
            .map_err(|refusal| refusal.http)
    };
    for good in [
        None,
        Some("application/json"),
        Some("Application/JSON; charset=UTF-8"),
        Some("application/json;charset=\"utf-8\""),
    ] {
        assert!(with(good).is_ok(), "{good:?}");
    }
    for bad in [
        "text/json",
        "",
        "application/json; charset=utf-16",
        "application/json, application/json",
        "application/xml",
        "application/x-www-form-urlencoded",
        "application/jsonx",
    ] {
        assert_eq!(with(Some(bad)), Err(415), "{bad}");
    }
    assert!(
        call.request("", Some("text/plain"), b"", &Options::default())
            .is_ok()
    );
}

#[test]
fn a_body_over_the_limit_is_413() {
    let mut options = Options::default();
    options.limits.message_bytes = 10;
    let refusal = sent_with("POST", "/v1/things", br#"{"text":"abc"}"#, &options).unwrap_err();
    assert_eq!((refusal.http, refusal.code.number()), (413, 8));
}

#[test]
fn one_body_is_not_taken_for_a_stream_of_messages() {
    for path in ["/v1/upload", "/v1/talk"] {
        let refusal = found("POST", path)
            .request("", None, b"[]", &Options::default())
            .unwrap_err();
        assert_eq!((refusal.http, refusal.code.number()), (501, 12));
    }
}

#[test]
fn the_first_message_of_a_stream_holds_the_path_and_later_ones_may_not_contradict_it() {
    let shown = |message: Vec<u8>| {
        let json = found("GET", "/v1/things/x").response(&message, &Options::default());
        String::from_utf8(json.unwrap()).unwrap()
    };
    let call = found("POST", "/v1/upload/a");
    let options = Options::default();
    let first = call.first_message("", br#"{"number": 1}"#, &options).unwrap();
    assert_eq!(shown(first), r#"{"number":1,"text":"a"}"#);
    let later = call.later_message(br#"{"number": 2}"#, &options).unwrap();
    assert_eq!(shown(later), r#"{"number":2}"#);
    let later = call.later_message(br#"{"text": "b"}"#, &options);
    assert_eq!(later.unwrap_err().field.as_deref(), Some("text"));
}

#[test]
fn a_body_in_pieces_is_read_as_if_it_came_whole() {
    let call = found("PUT", "/v1/things/a");
    let body = r#"{"number": 12, "inner": {"name": "éé"}, "numbers": [1, 2]}"#.as_bytes();
    let whole = call.request("", None, body, &Options::default()).unwrap();
    for at in 0..=body.len() {
        let mut reader = call
            .begin("", Some("application/json"), &Options::default())
            .unwrap();
        reader.push(&body[..at]).unwrap();
        reader.push(&body[at..]).unwrap();
        assert_eq!(reader.finish().unwrap(), whole, "{at}");
    }
}

#[test]
fn path_and_query_are_judged_before_any_body_is_read() {
    let call = found("GET", "/v1/things/a");
    let refusal = call.begin("nope=1", None, &Options::default()).unwrap_err();
    assert_eq!(refusal.field.as_deref(), Some("nope"));
    let call = found("GET", "/v1/counts/x");
    assert_eq!(call.begin("", None, &Options::default()).unwrap_err().http, 400);
}

#[test]
fn a_message_type_is_read_and_written_without_a_rule() {
    let inner = lab().message("lab.Inner").unwrap();
    let options = Options::default();
    let wire = inner.to_wire(br#"{"size": 5}"#, &options).unwrap();
    let mut out = b"[".to_vec();
    inner.to_json(&wire, &options, &mut out).unwrap();
    assert_eq!(out, br#"[{"size":5}"#);
    assert_eq!(inner.to_json(b"\xff", &options, &mut out).unwrap_err().http, 500);
    assert_eq!(out, br#"[{"size":5}"#);
    assert!(lab().message("lab.Nothing").is_none());
    let method = lab();
    let method = method.method("lab.Lab/Check").unwrap();
    assert_eq!(method.input().full_name(), "lab.Everything");
    assert_eq!(method.output().full_name(), "google.protobuf.Empty");
}

#[test]
fn the_json_of_every_type_is_read() {
    for (body, field) in [
        (
            r#"{"long": "-9223372036854775808"}"#,
            r#""long":"-9223372036854775808""#,
        ),
        (r#"{"long": 9007199254740993}"#, r#""long":"9007199254740993""#),
        (
            r#"{"unsigned_long": 18446744073709551615}"#,
            r#""unsignedLong":"18446744073709551615""#,
        ),
        (r#"{"number": "5"}"#, r#""number":5"#),
        (r#"{"number": 1e2}"#, r#""number":100"#),
        (
            r#"{"real": "-Infinity", "small": 0.5}"#,
            r#""real":"-Infinity","small":0.5"#,
        ),
        (r#"{"word": 7}"#, r#""word":7"#),
        (r#"{"data": "-_8"}"#, r#""data":"+/8=""#),
        (r#"{"text": "\u00e9\ud83d\ude00"}"#, r#""text":"é😀""#),
        (r#"{"byNumber": {"-3": "x"}}"#, r#""byNumber":{"-3":"x"}"#),
        (
            r#"{"flags": {"true": "WORD_NO"}}"#,
            r#""flags":{"true":"WORD_NO"}"#,
        ),
        (r#"{"value": null}"#, r#""value":null"#),
        (
            r#"{"nothing": null, "values": [null, 1]}"#,
            r#""values":[null,1.0]"#,
        ),
        (
            r#"{"free": {"a": [1, {"b": null}, "x"]}}"#,
            r#""free":{"a":[1.0,{"b":null},"x"]}"#,
        ),
        (r#"{"list": []}"#, r#""list":[]"#),
        (r#"{"wrappedText": ""}"#, r#""wrappedText":"""#),
        (r#"{"wrappedReal": "NaN"}"#, r#""wrappedReal":"NaN""#),
        (r#"{"empty": {}}"#, r#""empty":{}"#),
        (r#"{"choiceB": {}, "choiceA": null}"#, r#""choiceB":{}"#),
        (r#"{"any": {}}"#, r#""any":{}"#),
        (
            r#"{"any": {"size": 3, "@type": "type.googleapis.com/lab.Inner"}}"#,
            r#""any":{"@type":"type.googleapis.com/lab.Inner","size":3}"#,
        ),
        (
            r#"{"any": {"value": "1s", "@type": "x.org/google.protobuf.Duration"}}"#,
            r#""any":{"@type":"x.org/google.protobuf.Duration","value":"1s"}"#,
        ),
    ] {
        assert_eq!(made(body).unwrap(), format!("{{{field}}}"), "{body}");
    }
    assert_eq!(
        made(r#"{"inner": null, "numbers": null, "names": null, "text": null}"#).unwrap(),
        "{}"
    );
}

#[test]
fn json_of_the_wrong_kind_is_refused_at_its_place() {
    for (body, field, why) in [
        (r#"{"text": 1}"#, "text", "must be a string"),
        (r#"{"number": true}"#, "number", "must be a number"),
        (r#"{"number": 0.5}"#, "number", "whole number"),
        (r#"{"number": 2147483648}"#, "number", "out of the range"),
        (r#"{"number": 01}"#, "number", "JSON"),
        (r#"{"number": "0x10"}"#, "number", "must be a number"),
        (r#"{"number": " 5"}"#, "number", "must be a number"),
        (r#"{"real": 1e400}"#, "real", "out of the range"),
        (r#"{"real": NaN}"#, "real", "must be a number"),
        (r#"{"truth": "true"}"#, "truth", "true or false"),
        (r#"{"truth": 1}"#, "truth", "true or false"),
        (r#"{"word": "WORD_MAYBE"}"#, "word", "must be a value of lab.Word"),
        (r#"{"word": true}"#, "word", "name or number"),
        (r#"{"data": "?"}"#, "data", "base64"),
        (r#"{"inner": []}"#, "inner", "must be an object"),
        (r#"{"inners": {}}"#, "inners", "must be an array"),
        (
            r#"{"inners": [{}, {"inner": {"size": "x"}}]}"#,
            "inners[1].inner.size",
            "must be a number",
        ),
        (r#"{"inners": [null]}"#, "inners[0]", "must not be null"),
        (r#"{"numbers": [1, null]}"#, "numbers[1]", "must be a number"),
        (r#"{"names": {"a": null}}"#, "names.a", "must not be null"),
        (r#"{"byNumber": {"x": "y"}}"#, "byNumber.x", "as a key"),
        (r#"{"flags": {"yes": 1}}"#, "flags.yes", "as a key"),
        (r#"{"at": "2024-05-01t12:00:00Z"}"#, "at", "RFC 3339"),
        (r#"{"at": 5}"#, "at", "must be a string"),
        (r#"{"lasts": "315576000001s"}"#, "lasts", "duration"),
        (r#"{"mask": "a_b"}"#, "mask", "lowerCamelCase"),
        (r#"{"free": []}"#, "free", "must be an object"),
        (r#"{"list": {}}"#, "list", "must be an array"),
        (
            r#"{"free": {"a": 1e400}}"#,
            "free.fields.a.numberValue",
            "out of the range",
        ),
        (r#"{"wrappedLong": true}"#, "wrappedLong", "must be a number"),
        (r#"{"any": {"size": 3}}"#, "any", "holds no @type"),
        (
            r#"{"any": {"@type": "type.googleapis.com/lab.Nothing"}}"#,
            "any.@type",
            "names no type",
        ),
        (r#"{"any": {"@type": "lab.Inner"}}"#, "any.@type", "names no type"),
        (r#"{"any": {"@type": 5}}"#, "any.@type", "must be a string"),
        (
            r#"{"any": {"@type": "x/google.protobuf.Duration"}}"#,
            "any",
            "holds no value",
        ),
        (
            r#"{"any": {"@type": "x/lab.Inner", "@type": "x/lab.Inner"}}"#,
            "any.@type",
            "written twice",
        ),
        (
            r#"{"choiceA": "x", "choiceB": {}}"#,
            "choiceB",
            "only one of them",
        ),
        ("[]", "", "must be an object"),
        ("null", "", "must be an object"),
        ("{} {}", "", "follows the JSON value"),
        (r#"{"text": "x",}"#, "", "must be a string"),
        (r#"{"text": "x" "#, "", "not closed"),
        (r#"{"text": "\ud800"}"#, "text", "lone surrogate"),
        ("\u{feff}{}", "", "must be an object"),
    ] {
        let field = field.replace("free.fields.a.numberValue", "free.a");
        refused(made(body), &field, why);
    }
}

#[test]
fn a_name_written_twice_is_refused_in_either_spelling_at_any_depth() {
    for (body, field) in [
        (r#"{"text": "a", "text": "a"}"#, "text"),
        (r#"{"unsignedLong": 1, "unsigned_long": 1}"#, "unsignedLong"),
        (r#"{"text": null, "text": null}"#, "text"),
        (r#"{"inner": {"size": 1, "size": 1}}"#, "inner.size"),
        (r#"{"names": {"a": {}, "a": {}}}"#, "names.a"),
        (r#"{"byNumber": {"1": "", "1e0": ""}}"#, "byNumber.1e0"),
        (r#"{"free": {"a": 1, "\u0061": 2}}"#, "free.a"),
        (r#"{"nope": 1, "nope": 2}"#, "nope"),
    ] {
        refused(made(body), field, "is written twice");
    }
}

#[test]
fn unknown_fields_are_ignored_or_refused_by_switch() {
    let body = br#"{"nope": [{"deep": 1}], "inner": {"nope": "x"}, "text": "a"}"#;
    let seen = sent_with("POST", "/v1/things", body, &Options::default()).unwrap();
    assert_eq!(seen, r#"{"inner":{},"text":"a"}"#);
    let strict = Options {
        unknown_fields: UnknownInput::Reject,
        ..Options::default()
    };
    refused(
        sent_with("POST", "/v1/things", body, &strict),
        "nope",
        "no such field",
    );
    let inner = br#"{"inner": {"nope": 1}}"#;
    refused(
        sent_with("POST", "/v1/things", inner, &strict),
        "inner.nope",
        "no such field",
    );
}

#[test]
fn bytes_that_are_not_utf8_are_refused_with_their_place() {
    let refusal = sent_with("POST", "/v1/things", b"{\"text\": \"\xff\"}", &Options::default()).unwrap_err();
    assert_eq!((refusal.http, refusal.offset), (400, Some(10)));
}

#[test]
fn a_refusal_says_where_in_the_body() {
    let refusal = refused(
        made(r#"{"inner": {"size": "x"}}"#),
        "inner.size",
        "must be a number",
    );
    assert!(refusal.offset.is_some());
    let status = refusal.to_status();
    assert_eq!(status.code, 3);
    let body = String::from_utf8(crate::status::body(&status, None)).unwrap();
    assert!(
        body.contains(r#""@type":"type.googleapis.com/google.rpc.BadRequest""#),
        "{body}"
    );
    assert!(body.contains(r#""field":"inner.size""#), "{body}");
}

fn nested(open: &str, middle: &str, close: &str, times: usize) -> String {
    format!("{}{middle}{}", open.repeat(times), close.repeat(times))
}

#[test]
fn json_is_read_to_depth_64_and_no_deeper() {
    let inner = |times| nested(r#"{"inner":"#, "{}", "}", times);
    assert!(made(&inner(63)).is_ok());
    for times in [64, 128, 100_000] {
        assert_eq!(made(&inner(times)).unwrap_err().http, 400, "{times}");
        assert_eq!(
            made(&format!(r#"{{"nope": {}}}"#, nested("[", "", "]", times)))
                .unwrap_err()
                .http,
            400
        );
        assert_eq!(
            made(&format!(r#"{{"free": {}}}"#, nested(r#"{"a":"#, "1", "}", times)))
                .unwrap_err()
                .http,
            400
        );
        assert_eq!(
            made(&format!(r#"{{"list": {}}}"#, nested("[", "", "]", times)))
                .unwrap_err()
                .http,
            400
        );
    }
}

#[test]
fn free_json_that_no_protobuf_decoder_would_take_is_refused_and_not_sent() {
    // Each level of JSON is three messages: Value, Struct and map entry.
    let free = |times| format!(r#"{{"free": {}}}"#, nested(r#"{"a":"#, "1", "}", times));
    assert!(made(&free(30)).is_ok());
    let refusal = made(&free(40)).unwrap_err();
    assert!(refusal.message.contains("messages nest deeper"), "{refusal:?}");
}

#[test]
fn any_nests_16_deep_and_no_deeper_wherever_its_type_stands() {
    let first = r#"{"@type":"x/lab.Inner","any":"#;
    let any = |times| format!(r#"{{"any": {}}}"#, nested(first, "{}", "}", times));
    assert!(made(&any(15)).is_ok());
    for times in [16, 60, 8000] {
        assert_eq!(made(&any(times)).unwrap_err().http, 400, "{times}");
    }
    let last = |times| {
        format!(
            r#"{{"any": {}}}"#,
            nested(r#"{"any":"#, "{}", r#","@type":"x/lab.Inner"}"#, times)
        )
    };
    assert!(made(&last(15)).is_ok());
    assert_eq!(made(&last(16)).unwrap_err().http, 400);
}

#[test]
fn a_field_holds_at_most_100000_elements() {
    let zeros = |count| format!(r#"{{"numbers": [{}]}}"#, vec!["0"; count].join(","));
    assert!(made(&zeros(100_000)).is_ok());
    refused(made(&zeros(100_001)), "numbers", "more than 100000 elements");
    let keys: Vec<_> = (0..100_001).map(|key| format!(r#""{key}":"""#)).collect();
    refused(
        made(&format!(r#"{{"byNumber": {{{}}}}}"#, keys.join(","))),
        "byNumber",
        "more than 100000 elements",
    );
}

#[test]
fn small_json_that_stands_for_a_huge_message_is_refused_before_it_is_one() {
    let row = format!("[{}0]", "0,".repeat(20_000));
    let body = format!(r#"{{"values": [{}[]]}}"#, format!("{row},").repeat(100));
    assert!(body.len() < crate::MESSAGE_BYTES_MAX);
    let refusal = made(&body).unwrap_err();
    assert_eq!((refusal.http, refusal.code.number()), (413, 8), "{refusal:?}");
}
