//! `mesh-ctl call`: any method by its name, direct and through the mesh, against servers that know nothing of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mesh_tests::documents::policy;
use mesh_tests::process::{finish, program};
use mesh_tests::{App, Ended, Folder, GrpcioApp, Mesh, eventually};
use serde_json::{Value, json};

fn call(arguments: &[&str]) -> Ended {
    call_with(arguments, "")
}

fn call_with(arguments: &[&str], stdin: &str) -> Ended {
    finish(program("mesh-ctl").arg("call").args(arguments), stdin)
}

fn lines(ended: &Ended) -> Vec<Value> {
    ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_kind_of_method_is_called_with_the_schema_the_server_tells() {
    let app = App::quotes("a");
    let to = app.address.as_str();
    let quote = call(&[to, "market.v1.Quotes/GetQuote", "-d", r#"{"symbol": "ACME"}"#])
        .ok()
        .json();
    assert_eq!(
        (&quote["symbol"], &quote["servedBy"]),
        (&json!("ACME"), &json!("a"))
    );
    let stream = call(&[
        to,
        "market.v1.Quotes/StreamQuotes",
        "-d",
        r#"{"symbol": "ACME", "count": 3, "interval": "0.01s"}"#,
    ]);
    let sequences: Vec<Value> = lines(&stream)
        .iter()
        .map(|quote| quote["sequence"].clone())
        .collect();
    assert_eq!(
        (stream.code, sequences),
        (Some(0), vec![json!("1"), json!("2"), json!("3")])
    );
    let trades = "{\"symbol\": \"ACME\", \"quantity\": \"2\", \"price\": 1.5}\n\n{\"symbol\": \"BORK\", \"quantity\": 3, \"price\": 2}\n";
    let summary = call_with(&[to, "market.v1.Quotes/RecordTrades", "-d", "-"], trades)
        .ok()
        .json();
    assert_eq!(
        (&summary["trades"], &summary["quantity"], &summary["turnover"]),
        (&json!("2"), &json!("5"), &json!(9.0))
    );
    let folder = Folder::new();
    let file = folder.write("talk.ndjson", "{\"symbol\": \"ACME\"}\n{\"symbol\": \"DUNE\"}");
    let talk = call(&[
        to,
        "market.v1.Quotes/Converse",
        "-d",
        &format!("@{}", file.display()),
    ]);
    assert_eq!((talk.code, lines(&talk).len()), (Some(0), 2), "{talk:?}");
    let list = call(&[to]);
    assert!(
        list.stdout.contains("market.v1.Quotes/Converse") && list.stdout.contains("GET /v1/quotes/{symbol}"),
        "{list:?}"
    );
    let described = call(&[to, "market.v1.Quotes/PlaceOrder", "--describe"]);
    assert!(
        described.stdout.contains("enum market.v1.Side {")
            && described.stdout.contains("int64 quantity = 3;"),
        "{described:?}"
    );
}

#[test]
fn an_error_is_told_as_json_with_its_code_and_details_and_ends_with_an_exit_code() {
    let app = App::quotes("a");
    let missing = call(&[
        &app.address,
        "market.v1.Quotes/GetQuote",
        "-d",
        r#"{"symbol": "NONE"}"#,
    ]);
    let told: Value = serde_json::from_str(&missing.stderr).unwrap();
    assert_eq!(
        (missing.code, &told["code"], &told["name"]),
        (Some(1), &json!(5), &json!("NOT_FOUND")),
        "{missing:?}"
    );
    assert!(missing.stdout.is_empty(), "{missing:?}");
    // In the middle of a stream, what came before is printed.
    let talk = "{\"symbol\": \"ACME\"}\n{\"symbol\": \"NONE\"}\n";
    let broken = call_with(&[&app.address, "market.v1.Quotes/Converse", "-d", "-"], talk);
    assert_eq!((broken.code, lines(&broken).len()), (Some(1), 1), "{broken:?}");
    // And what is wrong with our own lines is told by the line.
    let wrong = call_with(
        &[&app.address, "market.v1.Quotes/Converse", "-d", "-"],
        "{\"symbol\": \"ACME\"}\n{nonsense\n",
    );
    assert!(
        wrong.code == Some(2) && wrong.stderr.contains("line 2"),
        "{wrong:?}"
    );
    let endless = [
        &app.address,
        "market.v1.Quotes/StreamQuotes",
        "-d",
        r#"{"symbol": "ACME"}"#,
        "--deadline",
        "1s",
    ];
    let late = call(&endless);
    assert!(
        late.code == Some(4) && late.stderr.contains("DEADLINE_EXCEEDED"),
        "{late:?}"
    );
    assert!(!lines(&late).is_empty(), "{late:?}");
}

#[test]
fn headers_go_along_and_for_programs_everything_that_happens_is_a_line() {
    let app = GrpcioApp::new();
    let schema = mesh_tests::process::repository().join("examples/proto");
    assert!(schema.exists());
    let folder = Folder::new();
    let binpb = folder.join("quotes.binpb");
    let _ = mesh_tests::run("quotes", ["--descriptors", binpb.to_str().unwrap()]).ok();
    let base = [
        "--schema",
        binpb.to_str().unwrap(),
        "-o",
        "json",
        "-H",
        "x-caller: me",
        "-H",
        "x-raw-bin: AAH+",
    ];
    let with = |symbol: &'static str| {
        let data = format!("{{\"symbol\": \"{symbol}\"}}");
        let words = [&app.address, "market.v1.Quotes/GetQuote", "-d", &data];
        call(&[&words[..], &base].concat())
    };
    let good = with("ACME");
    let events = lines(&good);
    assert_eq!(events[0]["headers"]["x-app-initial"], "first", "{good:?}");
    assert_eq!(events[1]["message"]["servedBy"], "grpcio", "{good:?}");
    assert_eq!(
        (
            &events[2]["status"]["name"],
            &events[2]["status"]["trailers"]["x-app-trailing"]
        ),
        (&json!("OK"), &json!("last")),
        "{good:?}"
    );
    let seen = app.call(1);
    assert_eq!(mesh_tests::app::header(&seen, "x-caller"), Some("me"));
    assert_eq!(mesh_tests::app::header(&seen, "x-raw-bin"), Some("0001fe"));
    let bad = with("DETAILS");
    let status = lines(&bad).pop().unwrap()["status"].take();
    assert_eq!(
        (bad.code, &status["name"]),
        (Some(1), &json!("FAILED_PRECONDITION")),
        "{bad:?}"
    );
    assert_eq!(status["message"], "market is closed: 50% off — später");
}

#[test]
fn through_the_mesh_it_is_the_sidecar_that_calls_and_direct_to_a_sidecar_it_is_the_operator() {
    let mesh = Mesh::start();
    let quotes = mesh.quotes("a");
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a"]);
    let get = ["market.v1.Quotes/GetQuote", "-d", r#"{"symbol": "ACME"}"#];
    let through = [
        &["--through", &caller.outbound, "--service", "market.quotes"],
        &get[..],
    ]
    .concat();
    let quote = call(&through).ok().json();
    assert_eq!(quote["askedBy"], "spiffe://mesh.local/service/web.portfolio");
    let ca = mesh.folder.join("ca");
    let direct = [
        &[quotes.sidecar.inbound.as_str()],
        &get[..],
        &[
            "--service",
            "market.quotes",
            "--credentials",
            ca.to_str().unwrap(),
        ],
    ]
    .concat();
    assert_eq!(
        call(&direct).ok().json()["askedBy"],
        "spiffe://mesh.local/operator/admin"
    );
    // A sidecar of another service is not who was meant.
    let wrong = [
        &[quotes.sidecar.inbound.as_str()],
        &get[..],
        &["--service", "market.other", "--credentials", ca.to_str().unwrap()],
    ]
    .concat();
    let told = call(&wrong);
    assert!(
        told.code == Some(3) && told.stderr.contains("market.quotes"),
        "{told:?}"
    );
    // Policies judge it as any call, reflection too.
    mesh.apply(&policy("closed", "[]"));
    let refused = eventually("the policy is in force", || {
        Some(call(&through)).filter(|ended| ended.code != Some(0))
    });
    assert!(refused.stderr.contains("refuses reflection"), "{refused:?}");
    let binpb = mesh.folder.join("documents/quotes.binpb");
    let refused = call(&[&through[..], &["--schema", binpb.to_str().unwrap()]].concat());
    let told: Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!(
        (refused.code, &told["name"]),
        (Some(1), &json!("PERMISSION_DENIED")),
        "{refused:?}"
    );
    assert_eq!(told["details"][0]["reason"], "ACCESS_DENIED", "{told}");
}
