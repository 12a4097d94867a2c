//! What documents look like, and how their faults are told.

use super::*;

const POLICY: &str = "\
apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: quotes-readers}
spec:
  service: market.quotes
  allow:
    - methods: [market.v1.Quotes/GetQuote, market.v1.Quotes/StreamQuotes]
      callers: [service: web.frontend]
      jwt: {provider: login, claims: {scope: quotes.read}}
";

const SERVICE: &str = "\
apiVersion: mesh/v1
kind: Service
metadata: {name: market.quotes}
spec:
  protocol: grpc
  rest: {unknownQuery: reject, unknownFields: ignore}
  timeout: 2s
  retry: {attempts: 2, budget: 20%}
  balance: {policy: least-request, locality: prefer-local}
";

fn told(text: &str) -> String {
    parse(text, "x.yaml").unwrap_err().to_string()
}

#[test]
fn several_documents_of_one_file_are_read_and_written_back_the_same() {
    let loaded = parse(&format!("{SERVICE}---\n{POLICY}"), "x.yaml").unwrap();
    assert_eq!(
        loaded.iter().map(|d| d.origin.as_str()).collect::<Vec<_>>(),
        ["x.yaml[0]", "x.yaml[1]"]
    );
    for document in loaded {
        domain::check(&document.resource).unwrap();
        let again = parse(&to_yaml(&document.resource), "again").unwrap();
        assert_eq!(again[0].resource, document.resource);
    }
}

#[test]
fn enum_words_are_written_in_kebab_case_both_ways() {
    let loaded = parse(SERVICE, "x.yaml").unwrap();
    let value = to_value(&loaded[0].resource);
    assert_eq!(value["spec"]["protocol"], "grpc");
    assert_eq!(value["spec"]["balance"]["policy"], "least-request");
    assert_eq!(
        told(&SERVICE.replace("least-request", "leest-request")),
        "x.yaml: Service/market.quotes: spec.balance.policy: \"leest-request\" is not one of least-request, round-robin"
    );
}

#[test]
fn an_unknown_field_is_told_with_the_fields_there_are() {
    let text = told(&SERVICE.replace("timeout", "timeuot"));
    assert!(
        text.starts_with(
            "x.yaml: Service/market.quotes: spec.timeuot: is not known here; there are protocol,"
        ),
        "{text}"
    );
}

#[test]
fn a_field_of_the_wrong_type_is_told_at_its_place() {
    for (from, to, place) in [
        ("timeout: 2s", "timeout: [2s]", "spec.timeout:"),
        ("timeout: 2s", "timeout: soon", "spec.timeout:"),
        ("attempts: 2", "attempts: many", "spec.retry.attempts:"),
        ("attempts: 2", "attempts: -1", "spec.retry.attempts:"),
        ("budget: 20%", "budget: 20", "spec.retry.budget:"),
        ("protocol: grpc", "protocol: {a: b}", "spec.protocol:"),
        (
            "rest: {unknownQuery: reject, unknownFields: ignore}",
            "rest: yes",
            "spec.rest:",
        ),
        (
            "metadata: {name: market.quotes}",
            "metadata: market.quotes",
            "metadata:",
        ),
    ] {
        let text = told(&SERVICE.replace(from, to));
        assert!(text.contains(place), "{to}: {text}");
    }
}

#[test]
fn blank_values_are_refused_wherever_they_stand() {
    for (from, to, place) in [
        ("timeout: 2s", "timeout:", "spec.timeout: is blank"),
        ("attempts: 2", "attempts: ", "spec.retry.attempts: is blank"),
        ("protocol: grpc", "protocol: ''", "spec.protocol: is blank"),
    ] {
        let text = told(&SERVICE.replace(from, to));
        assert!(text.contains(place), "{to}: {text}");
    }
    for (from, to, place) in [
        (
            "callers: [service: web.frontend]",
            "callers:",
            "spec.allow[0].callers: is blank",
        ),
        (
            "callers: [service: web.frontend]",
            "callers: [null]",
            "spec.allow[0].callers[0]: is blank",
        ),
        (
            "callers: [service: web.frontend]",
            "callers: [service: ]",
            "spec.allow[0].callers[0].service: is blank",
        ),
        ("{scope: quotes.read}", "{}", "spec.allow[0].jwt.claims: is blank"),
        (
            "jwt: {provider: login, claims: {scope: quotes.read}}",
            "jwt:",
            "spec.allow[0].jwt: is blank",
        ),
    ] {
        let text = told(&POLICY.replace(from, to));
        assert!(text.contains(place), "{to}: {text}");
    }
}

#[test]
fn two_members_of_a_oneof_are_refused() {
    let text = told(&POLICY.replace(
        "[service: web.frontend]",
        "[{service: a, identity: 'spiffe://a/b'}]",
    ));
    assert!(
        text.contains("spec.allow[0].callers[0]: holds service and identity"),
        "{text}"
    );
}

#[test]
fn what_is_no_document_is_told_so() {
    assert!(told("a: [").contains("x.yaml: is not YAML"));
    assert!(told("- a").contains("a document holds apiVersion"));
    assert!(told("a: b").contains("kind: is missing"));
    assert!(told("kind: Pod").contains("kind: \"Pod\" is not one of Mesh, TrustBundle"));
    assert!(
        told(&SERVICE.replace("mesh/v1", "mesh/v2"))
            .contains("apiVersion: \"mesh/v2\" is not known; write mesh/v1")
    );
}

#[test]
fn a_key_written_twice_is_refused() {
    assert!(told(&SERVICE.replace("timeout: 2s", "timeout: 2s\n  timeout: 3s")).contains("is not YAML"));
}

#[test]
fn aliases_that_grow_without_end_are_refused() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let previous = level - 1;
        let refs = vec![format!("*a{previous}"); 10].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
    }
    assert!(told(&bomb).contains("is not YAML"));
}

#[test]
fn files_are_read_in_relative_to_the_document_and_missing_ones_told_at_their_place() {
    let dir = std::env::temp_dir().join(format!("mesh-document-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("a.binpb"), crate::DESCRIPTORS).unwrap();
    let with = |file: &str| {
        SERVICE.replace(
            "protocol: grpc",
            &format!("protocol: grpc\n  schema: {{file: {file}}}"),
        )
    };
    std::fs::write(dir.join("a.yaml"), with("a.binpb")).unwrap();
    let loaded = load(&dir).unwrap();
    let Resource::Service(service) = &loaded[0].resource else {
        panic!("not a service")
    };
    assert!(matches!(
        service.spec.as_ref().unwrap().schema.as_ref().unwrap().source,
        Some(schema_source::Source::Inline(_))
    ));
    std::fs::write(dir.join("a.yaml"), with("b.binpb")).unwrap();
    let text = load(&dir).unwrap_err().to_string();
    assert!(
        text.contains("Service/market.quotes: spec.schema.file: cannot read"),
        "{text}"
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn annotations_survive_the_build() {
    let pool = prost_reflect::DescriptorPool::decode(crate::DESCRIPTORS).unwrap();
    let extension = pool.get_extension_by_name("google.api.http").unwrap();
    assert_eq!(extension.number(), 72_295_728);
}
