//! The commands that need no server, run as a person runs them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

mod support;

use support::Folder;

const SERVICE: &str = "\
apiVersion: mesh/v1
kind: Service
metadata: {name: market.quotes}
spec:
  protocol: grpc
  schema: {file: quotes.binpb}
  timeout: 2s
  retry: {attempts: 2, budget: 20%}
";
const OTHERS: &str = "\
apiVersion: mesh/v1
kind: Instance
metadata: {name: market.quotes/a}
spec: {address: 127.0.0.1, port: 9000, transport: plaintext}
---
apiVersion: mesh/v1
kind: JwtProvider
metadata: {name: login}
spec:
  issuer: https://login.example.com
  audiences: [market]
  jwks: {file: keys/jwks.json}
---
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: quotes-readers}
spec:
  service: market.quotes
  allow: [{methods: [market.v1.Quotes/GetQuote], callers: [{service: web.frontend}]}]
---
apiVersion: mesh/v1
kind: Mesh
metadata: {name: default}
spec: {trustDomain: mesh.local}
---
apiVersion: mesh/v1
kind: TrustBundle
metadata: {name: mesh.local}
spec:
  certificates: |
";

/// One document of every kind, each right.
async fn documents() -> Folder {
    let folder = Folder::new();
    folder
        .run(&["ca", "init", "--dir", "ca", "--trust-domain", "mesh.local"])
        .await
        .exits(0);
    folder
        .run(&["jwt", "keygen", "--dir", "docs/keys"])
        .await
        .exits(0);
    let bundle: String = folder
        .read("ca/ca.pem")
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    let schema = mesh_proto::v1::Schema {
        metadata: Some(mesh_proto::v1::Metadata {
            name: mesh_proto::domain::SchemaHash::of(mesh_proto::DESCRIPTORS).to_string(),
            ..Default::default()
        }),
        spec: Some(mesh_proto::v1::SchemaSpec {
            descriptor_set: mesh_proto::DESCRIPTORS.to_vec(),
        }),
    };
    let schema = mesh_proto::v1::document::Resource::Schema(schema);
    folder.write("docs/quotes.binpb", mesh_proto::DESCRIPTORS);
    folder.write("docs/service.yaml", SERVICE);
    folder.write("docs/others.yaml", format!("{OTHERS}{bundle}"));
    folder.write(
        "docs/schema.json",
        mesh_proto::document::to_value(&schema).to_string(),
    );
    folder
}

#[tokio::test]
async fn a_good_document_of_every_kind_is_valid() {
    let folder = documents().await;
    let ran = folder
        .run(&["validate", "-f", "docs"])
        .await
        .exits(0)
        .tells("7 documents, no fault");
    for kind in mesh_proto::Kind::ALL {
        assert!(
            ran.stdout.contains(kind.as_str()),
            "{kind} is missing in {ran:#?}"
        );
    }
    let value = folder
        .run(&["validate", "-f", "docs", "-o", "json"])
        .await
        .exits(0)
        .json();
    assert_eq!(
        (&value["valid"], value["documents"].as_array().unwrap().len()),
        (&true.into(), 7)
    );
}

#[tokio::test]
async fn every_fault_of_every_file_is_told_with_its_place() {
    let folder = documents().await;
    folder.write(
        "docs/service.yaml",
        SERVICE.replace("20%", "130%").replace("2s", "0s"),
    );
    let others = folder.read("docs/others.yaml");
    folder.write(
        "docs/others.yaml",
        others
            .replace("port: 9000", "port: 0")
            .replace("web.frontend", "Web")
            .replace("keys/", "gone/"),
    );
    let ran = folder.run(&["validate", "-f", "docs"]).await.exits(1);
    let ran = ran.tells("error: 5 faults; the documents would be refused");
    for told in [
        "docs/service.yaml: Service/market.quotes: spec.retry.budget: 130% is over 100%",
        "docs/service.yaml: Service/market.quotes: spec.timeout: 0ns is under 1ms",
        "docs/others.yaml[0]: Instance/market.quotes/a: spec.port: is missing",
        "docs/others.yaml[1]: JwtProvider/login: spec.jwks.file: cannot read",
        "docs/others.yaml[2]: AccessPolicy/quotes-readers: spec.allow[0].callers[0].service: \"Web\"",
    ] {
        assert!(ran.stderr.contains(told), "{told} is missing in {ran:#?}");
    }
    assert_eq!(ran.stdout, "");
    let value = folder
        .run(&["validate", "-f", "docs", "-o", "json"])
        .await
        .exits(1)
        .json();
    assert_eq!(
        (&value["valid"], value["faults"].as_array().unwrap().len()),
        (&false.into(), 5)
    );
    assert_eq!(
        value["faults"][0]["place"], "docs/others.yaml[0]: Instance/market.quotes/a: spec.port",
        "{value}"
    );
}

#[tokio::test]
async fn descriptors_that_do_not_link_are_a_fault_of_the_document() {
    use prost::Message;
    let folder = documents().await;
    let mut set = prost_types::FileDescriptorSet::decode(mesh_proto::DESCRIPTORS).unwrap();
    set.file.retain(|file| file.name() == "mesh/v1/status.proto");
    folder.write("docs/quotes.binpb", set.encode_to_vec());
    folder
        .run(&["validate", "-f", "docs"])
        .await
        .exits(1)
        .tells("error: docs/service.yaml: Service/market.quotes: spec.schema: the descriptors do not link");
}

#[tokio::test]
async fn a_header_that_finds_no_field_in_the_schema_is_a_fault_of_the_document() {
    let folder = documents().await;
    let with =
        |field: &str| format!("{SERVICE}  rest: {{requestHeaders: [{{header: x-a, field: {field}}}]}}\n");
    folder.write("docs/service.yaml", with("kind"));
    folder.run(&["validate", "-f", "docs"]).await.exits(0);
    folder.write("docs/service.yaml", with("kindd"));
    folder
        .run(&["validate", "-f", "docs"])
        .await
        .exits(1)
        .tells("Service/market.quotes: spec.rest.requestHeaders[0].field: no request in the schema has a field \"kindd\"");
}

#[tokio::test]
async fn documents_come_from_stdin_too_and_a_twin_is_a_fault() {
    let folder = documents().await;
    let mesh =
        "apiVersion: mesh/v1\nkind: Mesh\nmetadata: {name: default}\nspec: {trustDomain: mesh.local}\n";
    folder
        .run_with(&["validate", "-f", "-"], mesh)
        .await
        .exits(0)
        .prints("stdin");
    folder
        .run_with(&["validate", "-f", "-", "-f", "docs"], mesh)
        .await
        .exits(1)
        .tells("docs/others.yaml[3]: Mesh/default stands in stdin already");
}

#[tokio::test]
async fn input_that_cannot_be_read_is_wrong_usage() {
    let folder = Folder::new();
    folder
        .run(&["validate", "-f", "gone.yaml"])
        .await
        .exits(2)
        .tells("gone.yaml")
        .tells("hint:");
    folder.write("empty/readme.txt", "");
    folder
        .run(&["validate", "-f", "empty"])
        .await
        .exits(2)
        .tells("holds no .yaml");
    folder.write("latin.yaml", [0xff, 0xfe]);
    folder
        .run(&["validate", "-f", "latin.yaml"])
        .await
        .exits(2)
        .tells("is not UTF-8");
    folder
        .run_with(&["validate", "-f", "-"], "# nothing\n")
        .await
        .exits(2)
        .tells("there is no document");
    folder.run(&["validate"]).await.exits(2);
    folder.run(&["frobnicate"]).await.exits(2);
    folder.run(&[]).await.exits(2);
    folder.run(&["--help"]).await.exits(0).prints("Exit codes");
    folder.run(&["get", "pods"]).await.exits(2).tells("AccessPolicy");
}

#[tokio::test]
async fn what_a_document_says_cannot_steer_the_terminal() {
    let folder = Folder::new();
    let ran = folder
        .run_with(
            &["validate", "-f", "-"],
            "apiVersion: mesh/v1\nkind: \"\\e[31mPod\\u202e\"\n",
        )
        .await
        .exits(1);
    assert!(!ran.stderr.contains(['\u{1b}', '\u{202e}']), "{ran:#?}");
}

#[tokio::test]
async fn a_new_authority_works_keeps_its_keys_secret_and_is_never_overwritten() {
    let folder = Folder::new();
    let init = [
        "ca",
        "init",
        "--dir",
        "a/b",
        "--trust-domain",
        "mesh.local",
        "--operator",
        "alice",
    ];
    folder
        .run(&init)
        .await
        .exits(0)
        .prints("spiffe://mesh.local/operator/alice")
        .prints("export MESH_CREDENTIALS=a/b");
    let authority = mesh_link::ca::CertificateAuthority::load(&folder.path().join("a/b")).unwrap();
    assert_eq!(authority.trust_domain().as_str(), "mesh.local");
    let read = |name: &str| folder.read(&format!("a/b/{name}"));
    let operator =
        mesh_link::Credentials::from_pem(&read("operator.pem"), &read("operator-key.pem"), &read("ca.pem"));
    assert_eq!(operator.unwrap().id.as_operator(), Some("alice"));
    for secret in ["a/b/ca-key.pem", "a/b/operator-key.pem"] {
        assert_eq!(folder.mode(secret), 0o600, "{secret}");
    }
    let before = read("ca-key.pem");
    folder
        .run(&init)
        .await
        .exits(1)
        .tells("is already there")
        .tells("hint:");
    // One file is enough to refuse, and nothing is made beside it.
    folder.write("c/operator.pem", "mine");
    folder
        .run(&["ca", "init", "--dir", "c", "--trust-domain", "mesh.local"])
        .await
        .exits(1);
    assert!(!folder.path().join("c/ca.pem").exists());
    assert_eq!(read("ca-key.pem"), before);
    folder
        .run(&["ca", "init", "--dir", "d", "--trust-domain", "Mesh!"])
        .await
        .exits(2)
        .tells("trust domain");
}

#[tokio::test]
async fn tokens_are_minted_so_that_others_verify_them() {
    for alg in ["RS256", "ES256"] {
        let folder = Folder::new();
        let made = folder
            .run(&["jwt", "keygen", "--dir", "k", "--alg", alg, "-o", "json"])
            .await
            .exits(0)
            .json();
        assert_eq!(folder.mode("k/jwt-key.pem"), 0o600);
        let token = folder
            .run(&[
                "jwt",
                "mint",
                "--key",
                "k/jwt-key.pem",
                "--iss",
                "https://i",
                "--aud",
                "market",
                "--aud",
                "b",
                "--sub",
                "alice",
                "--scope",
                "quotes.read x",
                "--claim",
                "admin=true",
                "--expires-in",
                "90m",
                "--claim",
                "roles=[\"a\"]",
            ])
            .await
            .exits(0);
        let token = token.stdout.trim_end();

        let set: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&folder.read("k/jwks.json")).unwrap();
        assert!(!folder.read("k/jwks.json").contains("\"d\""));
        let key =
            jsonwebtoken::DecodingKey::from_jwk(set.find(made["kid"].as_str().unwrap()).unwrap()).unwrap();
        let mut validation = jsonwebtoken::Validation::new(alg.parse().unwrap());
        validation.set_audience(&["market"]);
        validation.set_issuer(&["https://i"]);
        let read = jsonwebtoken::decode::<serde_json::Value>(token, &key, &validation).unwrap();
        assert_eq!(read.header.kid.as_deref(), made["kid"].as_str());
        assert_eq!(read.claims["admin"], true);
        assert_eq!(read.claims["roles"], serde_json::json!(["a"]));
        assert_eq!(read.claims["scope"], "quotes.read x");

        folder
            .run_with(
                &["jwt", "inspect", "-", "--jwks", "k/jwks.json"],
                &format!("{token}\n"),
            )
            .await
            .exits(0)
            .prints("verified: signed by key")
            .prints("expires in 1h");
    }
}

#[tokio::test]
async fn inspect_says_why_a_token_is_not_verified() {
    let folder = Folder::new();
    folder
        .run(&["jwt", "keygen", "--dir", "a", "--kid", "k1"])
        .await
        .exits(0);
    folder
        .run(&["jwt", "keygen", "--dir", "b", "--kid", "k1"])
        .await
        .exits(0);
    folder
        .run(&["jwt", "keygen", "--dir", "c", "--kid", "k2", "--alg", "rs256"])
        .await
        .exits(0);
    folder
        .run(&["jwt", "keygen", "--dir", "a"])
        .await
        .exits(1)
        .tells("is already there");
    let mint = async |args: &[&str]| {
        let all: Vec<&str> = [&["jwt", "mint", "--key", "a/jwt-key.pem", "--kid", "k1"], args].concat();
        folder.run(&all).await.exits(0).stdout.trim_end().to_owned()
    };
    let good = mint(&[]).await;
    let expired = mint(&["--expires-in", "-5m"]).await;
    let early = mint(&["--claim", "nbf=99999999999"]).await;
    for (token, jwks, why) in [
        (&good, "b", "its signature is not that of key k1"),
        (&good, "c", "no key of the set is named k1; there are k2"),
        (&expired, "a", "it expired 5m"),
        (&early, "a", "it is not good before in "),
    ] {
        let jwks = format!("{jwks}/jwks.json");
        folder
            .run(&["jwt", "inspect", token, "--jwks", &jwks])
            .await
            .exits(1)
            .prints(&format!("not verified: {why}"));
    }
    let none = "eyJhbGciOiJub25lIiwia2lkIjoiazEifQ.e30.";
    folder
        .run(&["jwt", "inspect", none, "--jwks", "a/jwks.json"])
        .await
        .exits(1)
        .prints("its header says alg none, and key k1 is for ES256");
    // Without keys it only shows, and says so.
    let value = folder
        .run(&["jwt", "inspect", &good, "-o", "json"])
        .await
        .exits(0)
        .json();
    assert_eq!(
        (&value["verified"], &value["header"]["kid"]),
        (&false.into(), &"k1".into())
    );
    folder
        .run_with(&["jwt", "inspect"], "")
        .await
        .exits(2)
        .tells("there is nothing");
    folder
        .run(&["jwt", "inspect", "a.b"])
        .await
        .exits(2)
        .tells("2 parts and not three");
    folder.write("bad.json", "{}");
    folder
        .run(&["jwt", "inspect", &good, "--jwks", "bad.json"])
        .await
        .exits(2)
        .tells("bad.json");
    folder
        .run(&["jwt", "mint", "--key", "c/jwks.json"])
        .await
        .exits(2)
        .tells("holds no private key");
    folder
        .run(&["jwt", "mint", "--key", "gone.pem"])
        .await
        .exits(2)
        .tells("gone.pem");
    folder
        .run(&["jwt", "mint", "--key", "a/jwt-key.pem", "--alg", "RS256"])
        .await
        .exits(2)
        .tells("no private key for RS256");
}

#[tokio::test]
async fn every_shell_gets_a_completion_script() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        folder
            .run(&["completion", shell])
            .await
            .exits(0)
            .prints("instances");
    }
    folder.run(&["completion", "basic"]).await.exits(2);
}

#[tokio::test]
async fn what_is_missing_is_told_with_the_way_to_it() {
    let folder = Folder::new();
    folder
        .run(&["status"])
        .await
        .exits(2)
        .tells("no credentials are named")
        .tells("ca init");
    folder
        .run(&["status", "--credentials", "x"])
        .await
        .exits(2)
        .tells("x/operator.pem")
        .tells("ca init --dir x");
    folder
        .run(&["ca", "init", "--dir", "ca", "--trust-domain", "mesh.local"])
        .await
        .exits(0);
    // Port 1 of loopback: nothing listens there.
    folder
        .run(&["status", "--credentials", "ca", "--server", "127.0.0.1:1"])
        .await
        .exits(3)
        .tells("error: cannot reach xds-lite at 127.0.0.1:1")
        .tells("MESH_SERVER");
    for address in ["nowhere", "http://a:1", "a:0", "a:99999", ":1"] {
        folder
            .run(&["status", "--credentials", "ca", "--server", address])
            .await
            .exits(2)
            .tells("is not an address");
    }
    folder.write("ca/operator.pem", "rubbish");
    folder
        .run(&["status", "--credentials", "ca"])
        .await
        .exits(2)
        .tells("hint:");
}

/// Two services with the same methods, each with a path by its name.
fn twins(folder: &Folder) {
    folder.write("mesh.binpb", mesh_proto::DESCRIPTORS);
    let service = |name: &str| {
        format!(
            "apiVersion: mesh/v1\nkind: Service\nmetadata: {{name: {name}}}\n\
             spec: {{protocol: grpc, schema: {{file: mesh.binpb}}, rest: {{unannotated: true}}}}\n"
        )
    };
    folder.write("twins.yaml", format!("{}---\n{}", service("one"), service("two")));
}

#[tokio::test]
async fn lint_names_both_of_two_ambiguous_rules_and_exits_with_1() {
    let folder = Folder::new();
    twins(&folder);
    folder
        .run(&["lint", "-f", "twins.yaml"])
        .await
        .exits(1)
        .prints("ambiguous")
        .prints("POST /mesh.v1.Documents/Apply (mesh.v1.Documents/Apply of two)")
        .prints("(mesh.v1.Documents/Apply of one)");
    let ran = folder
        .run(&["lint", "-f", "twins.yaml", "-o", "json"])
        .await
        .exits(1);
    let found = &ran.json()["findings"][0];
    assert_eq!(
        (&found["level"], &found["what"]),
        (&"error".into(), &"ambiguous".into()),
        "{ran:?}"
    );
    assert_eq!(
        (&found["rule"]["service"], &found["by"]["service"]),
        (&"two".into(), &"one".into()),
        "{ran:?}"
    );
    // An edge that exposes one of them has no such trouble.
    folder
        .run(&["lint", "-f", "twins.yaml", "--expose", "two"])
        .await
        .exits(0)
        .tells("of 1 service: 0 errors, 0 warnings");
    folder
        .run(&["lint", "-f", "twins.yaml", "--expose", "three"])
        .await
        .exits(2)
        .tells("three");
}

#[tokio::test]
async fn lint_reads_a_schema_alone_and_what_does_not_compile_is_its_finding() {
    let folder = Folder::new();
    folder.write("mesh.binpb", mesh_proto::DESCRIPTORS);
    folder
        .run(&["lint", "--schema", "mesh.binpb", "--unannotated"])
        .await
        .exits(0)
        .tells("0 errors");
    folder.write(
        "half.binpb",
        &mesh_proto::DESCRIPTORS[..mesh_proto::DESCRIPTORS.len() / 2],
    );
    folder
        .run(&["lint", "--schema", "half.binpb"])
        .await
        .exits(1)
        .tells("half.binpb");
    let ran = folder
        .run(&["lint", "--schema", "half.binpb", "-o", "json"])
        .await
        .exits(1);
    assert_eq!(ran.json()["findings"][0]["what"], "refused");
    folder
        .run(&["lint", "--schema", "nowhere.binpb"])
        .await
        .exits(2)
        .tells("nowhere.binpb");
    folder
        .run(&["lint", "--schema", "a", "--from", "b:1"])
        .await
        .exits(2);
}

#[tokio::test]
async fn call_tells_wrong_usage_and_who_is_not_there_by_its_exit_code() {
    let folder = Folder::new();
    folder.write("mesh.binpb", mesh_proto::DESCRIPTORS);
    folder.run(&["call"]).await.exits(2).tells("HOST:PORT");
    folder.run(&["call", "nowhere"]).await.exits(3);
    folder
        .run(&["call", "127.0.0.1:1"])
        .await
        .exits(3)
        .tells("refused")
        .tells("--schema");
    let offline = ["call", "127.0.0.1:1", "--schema", "mesh.binpb"];
    folder
        .run(&offline)
        .await
        .exits(0)
        .prints("mesh.v1.Documents/Apply");
    let with = |more: &[&'static str]| [&offline[..2], more, &offline[2..]].concat();
    folder
        .run(&with(&["mesh.v1.Documents/Aply"]))
        .await
        .exits(1)
        .tells("did you mean mesh.v1.Documents/Apply");
    folder
        .run(&with(&["mesh.v1.Documents/Get", "--describe"]))
        .await
        .exits(0)
        .prints("rpc mesh.v1.Documents/Get (mesh.v1.GetRequest) returns (mesh.v1.StoredDocument);")
        .prints("message mesh.v1.GetRequest {\n  string kind = 1;");
    folder
        .run(&with(&["mesh.v1.Documents/Get", "-d", "{\"kind\": 5}"]))
        .await
        .exits(2)
        .tells("kind")
        .tells("--describe");
    folder
        .run(&with(&["mesh.v1.Documents/Get", "-d", "{\"kin\": \"a\"}"]))
        .await
        .exits(2)
        .tells("kin");
    folder
        .run(&with(&["mesh.v1.Documents/Get", "-d", "@nowhere"]))
        .await
        .exits(2)
        .tells("nowhere");
    folder
        .run(&with(&["mesh.v1.Documents/Get", "-H", "novalue"]))
        .await
        .exits(2)
        .tells("NAME: VALUE");
    folder
        .run(&with(&["mesh.v1.Documents/Get"]))
        .await
        .exits(3)
        .tells("\"name\": \"UNAVAILABLE\"")
        .tells("refused");
    folder
        .run(&[
            "call",
            "127.0.0.1:1",
            "--service",
            "a.b",
            "--schema",
            "mesh.binpb",
            "mesh.v1.Documents/Get",
        ])
        .await
        .exits(2)
        .tells("--credentials");
    folder
        .run(&["call", "--through", "127.0.0.1:1", "a.B/C"])
        .await
        .exits(2)
        .tells("--service");
}
