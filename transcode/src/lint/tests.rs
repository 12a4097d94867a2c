//! What is found, and what is not.

use super::*;
use crate::tests::compile;

fn schema(package: &str, rules: &[(&str, &str)]) -> Arc<Schema> {
    let rpcs: String = rules
        .iter()
        .map(|(name, rule)| match *rule {
            "" => format!("rpc {name}(M) returns (M);\n"),
            rule => format!("rpc {name}(M) returns (M) {{ option (google.api.http) = {{ {rule} }}; }}\n"),
        })
        .collect();
    let text = format!(
        r#"syntax = "proto3"; package {package}; import "google/api/annotations.proto";
        service S {{ {rpcs} }} message M {{ string a = 1; string b = 2; }}"#
    );
    Arc::new(Schema::compile(&compile("r.proto", &text)).unwrap())
}

/// `level what: loser < winner`, one a finding.
fn told(report: &Report<&str>) -> Vec<String> {
    let short = |named: &Named<&str>| named.rpc.rsplit('/').next().unwrap_or("").to_owned();
    let line = |finding: &Finding<&str>| {
        let by = finding.by.as_ref().map_or("nobody".to_owned(), short);
        let (level, what) = (finding.level.word(), finding.what.word());
        format!("{level} {what}: {} < {by}", short(&finding.rule))
    };
    report.findings.iter().map(line).collect()
}

fn one(rules: &[(&str, &str)]) -> Vec<String> {
    told(&lint(&[("r", schema("r", rules), false)]))
}

#[test]
fn rules_that_are_not_in_each_others_way_are_not_told() {
    let report = lint(&[(
        "r",
        schema(
            "r",
            &[
                ("A", r#"get: "/v1/a/{a}""#),
                ("B", r#"post: "/v1/a/{a}""#),
                ("C", r#"get: "/v1/a/{a}:go""#),
                (
                    "D",
                    r#"get: "/v1/b/{a}" additional_bindings { get: "/v2/b/{b}" }"#,
                ),
                ("E", ""),
            ],
        ),
        false,
    )]);
    assert_eq!((told(&report), report.rules, report.more), (vec![], 5, 0));
}

#[test]
fn a_literal_before_a_variable_is_as_it_should_be_and_a_rest_that_loses_paths_is_looked_at() {
    assert_eq!(
        one(&[("Any", r#"get: "/v1/{a}""#), ("Exact", r#"get: "/v1/me""#)]),
        ["info shadowed: Any < Exact"]
    );
    assert_eq!(
        one(&[("Rest", r#"get: "/a/**""#), ("Any", r#"get: "/a/*""#)]),
        ["warning shadowed: Rest < Any"]
    );
    assert_eq!(
        one(&[("A", r#"get: "/a/**" additional_bindings { get: "/a/*" }"#)]),
        ["info shadowed: A < A"]
    );
}

#[test]
fn rules_that_cross_are_told_with_a_path_and_with_the_one_the_router_takes() {
    let rules = [("Early", r#"get: "/a/b/*""#), ("Late", r#"get: "/a/*/c""#)];
    let schema = schema("r", &rules);
    let report = lint(&[("r", schema.clone(), false)]);
    assert_eq!(told(&report), ["warning overlapping: Late < Early"]);
    assert!(
        report.findings[0].message.contains("/a/b/c"),
        "{:?}",
        report.findings
    );
    let (router, _) = Router::build([("r", schema)]);
    let Recognised::Found(found) = router.recognise("GET", "/a/b/c") else {
        panic!("it has two rules")
    };
    assert_eq!(found.method.name(), "r.S/Early");
}

#[test]
fn a_rule_whose_every_path_is_taken_is_unreachable() {
    let rules = [
        ("Rest", r#"get: "/a/**""#),
        ("None", r#"get: "/a""#),
        ("Some", r#"get: "/a/*/**""#),
    ];
    let found = one(&rules);
    assert_eq!(found[0], "error unreachable: Rest < None", "{found:?}");
    // Without one of the two it has a path of its own.
    assert!(!one(&rules[..2]).iter().any(|line| line.contains("unreachable")));
    let dots = one(&[("Dots", r#"get: "/a/../b""#)]);
    assert_eq!(dots, ["error unreachable: Dots < nobody"]);
}

#[test]
fn a_rule_for_any_http_method_comes_after_one_for_a_certain_method() {
    let found = one(&[
        ("Any", r#"custom { kind: "*" path: "/a/{a}" }"#),
        ("Get", r#"get: "/a/{b}""#),
    ]);
    assert_eq!(found, ["info shadowed: Any < Get"]);
}

#[test]
fn the_same_rule_of_two_services_is_an_error_that_names_both() {
    let one = schema("one", &[("A", r#"get: "/v1/{a}""#), ("B", "")]);
    let two = schema("two", &[("C", r#"get: "/v1/{b}""#)]);
    let report = lint(&[("first", one.clone(), false), ("second", two, false)]);
    let finding = &report.findings[0];
    assert_eq!(
        (finding.level, finding.what, report.findings.len()),
        (Level::Error, What::Ambiguous, 1)
    );
    assert_eq!(
        (finding.rule.target, finding.rule.rule.as_str()),
        ("second", "GET /v1/{b}")
    );
    let by = finding.by.clone().unwrap();
    assert_eq!(
        (by.target, by.rpc.as_str(), by.rule.as_str()),
        ("first", "one.S/A", "GET /v1/{a}")
    );
    // The same service twice is ambiguous in its rules, mapped ones too, and in its gRPC name.
    let report = lint(&[("first", one.clone(), true), ("second", one, true)]);
    assert_eq!(
        told(&report),
        [
            "error ambiguous: A < A",
            "error ambiguous: B < B",
            "warning same name: * < *"
        ]
    );
}

#[test]
fn there_is_an_end_to_what_is_told() {
    let rules: Vec<(String, String)> = (0..60)
        .map(|number| {
            (
                format!("R{number}"),
                format!(r#"get: "/{{a}}/{number}" additional_bindings {{ get: "/{number}/{{a}}" }}"#),
            )
        })
        .collect();
    let rules: Vec<(&str, &str)> = rules
        .iter()
        .map(|(name, rule)| (name.as_str(), rule.as_str()))
        .collect();
    let report = lint(&[("r", schema("r", &rules), false)]);
    assert_eq!(
        (report.findings.len(), report.more),
        (FINDINGS_MAX, 60 * 60 - FINDINGS_MAX)
    );
}
