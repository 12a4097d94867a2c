//! Bodies that are not JSON, or not as they are: `google.api.HttpBody` both ways, forms, and content codings.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_tests::{Answer, Curl, Depot, run_python};
use serde_json::{Value, json};

const BOTH: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

fn depot() -> Depot {
    Depot::start(&json!({}))
}

/// A file of so many bytes, and curl's name for it.
fn file(depot: &Depot, name: &str, bytes: usize) -> String {
    let content: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect();
    depot.folder.write(name, content);
    format!("@{}", depot.folder.join(name).display())
}

fn sha256(depot: &Depot, name: &str) -> String {
    let script = "import hashlib,sys; print(hashlib.sha256(open(sys.argv[1],'rb').read()).hexdigest())";
    run_python(&["-c", script, &depot.folder.join(name).display().to_string()])
        .trim()
        .to_owned()
}

#[test]
fn an_upload_is_carried_as_it_is_in_pieces_of_a_bounded_size() {
    let depot = depot();
    let name = file(&depot, "large.bin", 10 << 20);
    for version in BOTH {
        let answer = depot
            .get("/v1/shelves/a/upload?version=3")
            .with(&[version, "--data-binary", &name])
            .header("content-type: image/png")
            .call();
        assert_eq!(answer.status, 200, "{answer:?}");
        let summary = answer.json();
        assert_eq!(summary["bytes"], (10 << 20).to_string(), "{summary}");
        assert_eq!(
            (&summary["name"], &summary["version"], &summary["contentType"]),
            (&json!("a"), &json!(3), &json!("image/png"))
        );
        let longest: u64 = summary["longest"].as_str().unwrap().parse().unwrap();
        assert!(
            longest <= 1 << 20 && summary["messages"].as_u64() >= Some(10),
            "{summary}"
        );
        assert_eq!(summary["sha256"], sha256(&depot, "large.bin"));
    }
    let empty = depot
        .get("/v1/shelves/a/upload")
        .with(&["--data-binary", ""])
        .header("content-type: a/b")
        .call();
    assert_eq!(
        (empty.status, &empty.json()["messages"]),
        (200, &json!(1)),
        "{empty:?}"
    );
    assert_eq!(empty.json()["contentType"], "a/b");
}

#[test]
fn an_upload_that_is_one_message_is_bounded_by_the_limit_of_messages() {
    let depot = depot();
    let large = file(&depot, "large.bin", (4 << 20) + 1);
    for version in BOTH {
        let store = |name: &str| {
            depot
                .get("/v1/shelves/a/store")
                .with(&[version, "--data-binary", name])
                .call()
        };
        // This curl loses an early answer over HTTP/2.
        if version == "--http1.1" {
            store(&large).is_refused(413, "request_too_large");
        }
        let small = store(&file(&depot, "small.bin", 100_000));
        assert_eq!(
            (small.status, &small.json()["bytes"]),
            (200, &json!("100000")),
            "{small:?}"
        );
    }
    depot
        .get("/v1/shelves/a/store?colour=red")
        .post("x")
        .call()
        .is_refused(400, "request_unreadable");
    assert_eq!(depot.told("call").len(), 2);
}

#[test]
fn a_form_is_its_file_or_its_fields() {
    let depot = depot();
    let name = file(&depot, "form.bin", 3 << 20);
    let form = |path: &str, parts: &[&str]| {
        let mut call = depot.get(path);
        for part in parts {
            call = call.with(&["--form", part]);
        }
        call.call()
    };
    let picture = format!("picture={name};type=image/png");
    for path in ["/v1/shelves/a/upload", "/v1/shelves/a/store"] {
        let answer = form(path, &["version=7", &picture]);
        assert_eq!(answer.status, 200, "{answer:?}");
        let summary = answer.json();
        assert_eq!(summary["sha256"], sha256(&depot, "form.bin"), "{summary}");
        assert_eq!(
            (&summary["version"], &summary["contentType"]),
            (&json!(7), &json!("image/png"))
        );
    }
    let data = format!("data={}", file(&depot, "tiny.bin", 3));
    let fields = form(
        "/v1/items/box",
        &["note=a b", "number=7", "fragile=true", "tags=x", "tags=y", &data],
    );
    assert_eq!(fields.status, 200, "{fields:?}");
    assert_eq!(
        fields.json(),
        json!({"name": "box", "note": "a b", "number": "7", "fragile": true, "tags": ["x", "y"], "data": "AAEC"})
    );
}

#[test]
fn a_form_that_does_not_fit_is_refused() {
    let depot = depot();
    let name = file(&depot, "form.bin", 1000);
    let picture = format!("picture={name}");
    let form = |path: &str, parts: &[&str]| {
        let mut call = depot.get(path);
        for part in parts {
            call = call.with(&["--form", part]);
        }
        call.call()
    };
    for (path, parts) in [
        ("/v1/items/box", vec!["number=seven"]),
        ("/v1/items/box", vec!["name=another"]),
        ("/v1/items/box", vec!["fragile=perhaps"]),
        ("/v1/shelves/a/store", vec!["version=1", "shelf=b"]),
        ("/v1/shelves/a/store", vec![&picture, &picture]),
        ("/v1/shelves/a/upload", vec!["version=1"]),
        ("/v1/shelves/a/upload", vec!["colour=red", &picture]),
    ] {
        form(path, &parts).is_refused(400, "request_unreadable");
    }
    let broken = |content_type: &str, body: &str| {
        let call = depot.get("/v1/items/box").with(&["--data-binary", body]);
        call.header(&format!("content-type: {content_type}")).call()
    };
    broken("multipart/form-data; boundary=x", "no form").is_refused(400, "request_unreadable");
    broken("multipart/form-data", "--x--").is_refused(415, "content_type_unknown");
    assert!(depot.told("call").is_empty(), "{:?}", depot.told("call"));
}

#[test]
fn a_download_has_the_type_of_its_first_message_and_its_bytes_joined() {
    let depot = depot();
    for version in BOTH {
        let answer = depot.get("/v1/files/a?count=3&size=4").with(&[version]).call();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/pdf"),
            "{answer:?}"
        );
        assert_eq!(answer.body, "AAAABBBBCCCC");
        // Nothing may pass for the whole that is not.
        let broken = depot
            .get("/v1/files/a?count=3&size=4&fail_after=2")
            .with(&[version])
            .call();
        assert_ne!(broken.exit, 0, "{broken:?}");
        let refused = depot.get("/v1/files/a?count=x").with(&[version]).call();
        refused.is_refused(400, "request_unreadable");
        let page = depot
            .get("/v1/pages/a%20b?content_type=text/html")
            .with(&[version])
            .call();
        assert_eq!(
            (page.header("content-type"), page.body.as_str()),
            (Some("text/html"), "<p>a b</p>")
        );
        let nameless = depot.get("/v1/pages/a").with(&[version]).call();
        assert_eq!(
            nameless.header("content-type"),
            Some("application/octet-stream"),
            "{nameless:?}"
        );
    }
    let large = depot.get("/v1/files/a?count=50&size=1000000").call();
    assert_eq!((large.exit, large.body.len()), (0, 50_000_000));
}

/// The body of a call, compressed by Python's own libraries.
fn packed(depot: &Depot, coding: &str, plain: &str) -> String {
    let path = depot
        .folder
        .join(&format!("{coding}.packed"))
        .display()
        .to_string();
    let script = match coding {
        "gzip" => "import gzip,sys; open(sys.argv[1],'wb').write(gzip.compress(eval(sys.argv[2])))",
        "deflate" => "import zlib,sys; open(sys.argv[1],'wb').write(zlib.compress(eval(sys.argv[2]),9))",
        "br" => "import brotli,sys; open(sys.argv[1],'wb').write(brotli.compress(eval(sys.argv[2])))",
        _ => "import zstandard,sys; open(sys.argv[1],'wb').write(zstandard.compress(eval(sys.argv[2])))",
    };
    let _ = run_python(&["-c", script, &path, plain]);
    format!("@{path}")
}

const CODINGS: [&str; 4] = ["gzip", "deflate", "br", "zstd"];

fn post(depot: &Depot, path: &str, coding: &str, body: &str) -> Answer {
    depot
        .get(path)
        .with(&["--data-binary", body])
        .header("content-type: application/json")
        .header(&format!("content-encoding: {coding}"))
        .call()
}

#[test]
fn a_bomb_is_refused_as_soon_as_it_is_over_the_limit_and_what_is_broken_at_once() {
    let depot = depot();
    for coding in CODINGS {
        let bomb = packed(&depot, coding, r#"b'{"note":"' + b'x' * (256 << 20) + b'"}'"#);
        post(&depot, "/v1/items/box", coding, &bomb).is_refused(413, "request_too_large");
        let bomb = packed(&depot, coding, r#"b'[{"note":"' + b'x' * (64 << 20) + b'"}]'"#);
        post(&depot, "/v1/shelves/a/items", coding, &bomb).is_refused(413, "request_too_large");
        post(&depot, "/v1/items/box", coding, "{}").is_refused(400, "request_unreadable");
    }
    for bad in ["compress", "gzip, gzip", ""] {
        post(&depot, "/v1/items/box", &format!(" {bad}"), "{}");
    }
    post(&depot, "/v1/items/box", "compress", "{}").is_refused(415, "content_type_unknown");
    post(&depot, "/v1/items/box", "gzip, gzip", "{}").is_refused(415, "content_type_unknown");
    assert!(depot.told("call").iter().all(|call| call["method"] != "Fill"));
}

#[test]
fn compressed_requests_are_read_whatever_takes_them() {
    let depot = depot();
    for coding in CODINGS {
        let one = packed(&depot, coding, r#"b'{"note":"' + b'x' * 100000 + b'"}'"#);
        let answer = post(&depot, "/v1/items/box", coding, &one);
        assert_eq!(answer.status, 200, "{coding}: {answer:?}");
        assert_eq!(answer.json()["note"].as_str().unwrap().len(), 100_000);
        let many = packed(
            &depot,
            coding,
            r#"b'[' + b','.join([b'{"number":1}'] * 5000) + b']'"#,
        );
        let answer = post(&depot, "/v1/shelves/a/items", coding, &many);
        assert_eq!(
            (answer.status, &answer.json()["messages"]),
            (200, &json!(5000)),
            "{coding}: {answer:?}"
        );
        let raw = packed(&depot, coding, "b'abc' * 1000000");
        let answer = post(&depot, "/v1/shelves/a/upload", coding, &raw);
        assert_eq!(
            (answer.status, &answer.json()["bytes"]),
            (200, &json!("3000000")),
            "{coding}: {answer:?}"
        );
    }
    let call = depot.told("call").first().cloned().unwrap();
    assert_eq!(mesh_tests::app::header(&call, "content-encoding"), None);
}

fn asking(depot: &Depot, path: &str, accept: &str) -> Curl {
    depot
        .get(path)
        .with(&["--compressed"])
        .header(&format!("accept-encoding: {accept}"))
}

#[test]
fn answers_are_compressed_for_those_who_ask_where_it_is_worth_it() {
    let depot = depot();
    let large = format!("/v1/items/box?note={}&etag=v1", "x".repeat(2000));
    for coding in CODINGS {
        for version in BOTH {
            let answer = asking(&depot, &large, coding).with(&[version]).call();
            assert_eq!(answer.header("content-encoding"), Some(coding), "{answer:?}");
            assert_eq!(answer.json()["note"].as_str().unwrap().len(), 2000);
            assert!(
                answer.header("vary").unwrap().contains("accept-encoding"),
                "{answer:?}"
            );
            // Other bytes than without: the tag is the same in meaning only.
            assert_eq!(answer.header("etag"), Some("W/\"v1\""));
            let stream = asking(&depot, "/v1/items/a:watch?count=100", coding)
                .with(&[version])
                .call();
            assert_eq!(stream.header("content-encoding"), Some(coding), "{stream:?}");
            assert_eq!(stream.body.lines().count(), 100, "{stream:?}");
        }
    }
    for (path, accept) in [
        (large.as_str(), "identity"),
        (large.as_str(), "gzip;q=0"),
        ("/v1/items/box", "gzip"),
        ("/v1/files/a?count=3&size=4000", "gzip"),
    ] {
        let answer = asking(&depot, path, accept).call();
        assert_eq!(
            (answer.status, answer.header("content-encoding")),
            (200, None),
            "{answer:?}"
        );
    }
    let text = asking(
        &depot,
        "/v1/files/a?count=3&size=4000&content_type=text/plain",
        "gzip",
    )
    .call();
    assert_eq!(
        (text.header("content-encoding"), text.body.len()),
        (Some("gzip"), 12_000)
    );
    let off = Depot::start(&json!({"compression": "never"}));
    let answer = asking(&off, &large, "gzip").call();
    assert_eq!(
        (answer.header("content-encoding"), answer.header("vary")),
        (None, None),
        "{answer:?}"
    );
}

#[test]
fn a_failure_in_the_middle_of_a_compressed_stream_is_seen_too() {
    let depot = depot();
    let lines = asking(&depot, "/v1/items/a:watch?fail_after=2", "gzip").call();
    let last: Value = serde_json::from_str(lines.body.lines().last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], 14, "{lines:?}");
    let array = asking(&depot, "/v1/items/a:watch?fail_after=2", "gzip")
        .header("accept: application/json")
        .call();
    assert_ne!(array.exit, 0, "{array:?}");
}
