//! Which RPC a head is.

use super::*;
use crate::Routing;

fn schema(rules: &[(&str, &str)]) -> Arc<Schema> {
    let rpcs: String = rules
        .iter()
        .map(|(name, rule)| {
            format!("rpc {name}(M) returns (M) {{ option (google.api.http) = {{ {rule} }}; }}\n")
        })
        .collect();
    let text = format!(
        r#"syntax = "proto3"; package r; import "google/api/annotations.proto";
        service S {{ {rpcs} }} message M {{ string a = 1; string b = 2; }}"#
    );
    Arc::new(Schema::compile(&compile("r.proto", &text)).unwrap())
}

fn seen(router: &Router<&'static str>, http_method: &str, path: &str) -> String {
    match router.recognise(http_method, path) {
        Recognised::Found(found) => {
            let name = found.method.name().trim_start_matches("r.S/").to_owned();
            let bindings: Vec<_> = found
                .bindings()
                .map(|(name, value)| format!(" {name}={value}"))
                .collect();
            name + &bindings.concat()
        }
        Recognised::Options { allow } => format!("204 {allow}"),
        Recognised::MethodNotAllowed { allow } => format!("405 {allow}"),
        Recognised::NotFound => "404".into(),
        Recognised::Malformed(_) => "400".into(),
    }
}

#[track_caller]
fn routes(rules: &[(&str, &str)], cases: &[(&str, &str)]) {
    let (router, _) = Router::build([("r", schema(rules))]);
    for (request, expected) in cases {
        let (http_method, path) = request.split_once(' ').unwrap();
        assert_eq!(seen(&router, http_method, path), *expected, "{request}");
    }
}

#[test]
fn the_most_specific_rule_wins_and_a_dead_end_is_walked_back() {
    routes(
        &[
            ("Rest", r#"get: "/c/*/d/**""#),
            ("AnyE", r#"get: "/c/*/d/e""#),
            ("FE", r#"get: "/c/f/d/e""#),
            ("FX", r#"get: "/c/f/x/y""#),
            ("All", r#"get: "/**""#),
        ],
        &[
            ("GET /c/f/d/e", "FE"),
            ("GET /c/g/d/e", "AnyE"),
            ("GET /c/f/d/z", "Rest"),
            ("GET /c/f/d", "Rest"),
            ("GET /c/f/x/y", "FX"),
            ("GET /c/f/x/z", "All"),
            ("GET /", "All"),
        ],
    );
}

#[test]
fn a_node_that_has_the_path_but_not_the_method_does_not_stop_the_search() {
    routes(
        &[
            ("Exact", r#"post: "/v1/a""#),
            ("Any", r#"get: "/v1/{a}""#),
            ("Rest", r#"delete: "/{a=**}""#),
        ],
        &[
            ("POST /v1/a", "Exact"),
            ("GET /v1/a", "Any a=a"),
            ("DELETE /v1/a", "Rest a=v1/a"),
            ("PUT /v1/a", "405 DELETE, GET, HEAD, OPTIONS, POST"),
        ],
    );
}

#[test]
fn a_verb_is_cut_at_the_last_colon_of_the_last_segment_only() {
    routes(
        &[
            ("V", r#"get: "/{a=*}/{b=*}:verb""#),
            ("Plain", r#"get: "/x/{a}""#),
        ],
        &[
            ("GET /some:verb/const:verb", "V a=some:verb b=const"),
            ("GET /a/b:c:verb", "V a=a b=b:c"),
            ("GET /some/other:verb/", "404"),
            ("GET /a/b", "404"),
            ("GET /a/b:other", "404"),
            ("GET /x/b:verb", "V a=x b=b"),
            ("GET /x/b:other", "Plain a=b:other"),
            ("GET /a/:verb", "404"),
        ],
    );
}

#[test]
fn a_verb_of_one_rule_does_not_change_how_another_is_read() {
    routes(
        &[
            ("Seal", r#"post: "/v1/{a=crates/*}:seal""#),
            ("Get", r#"get: "/v1/{a=crates/*}""#),
            ("Box", r#"post: "/v1/{a=boxes/*}""#),
        ],
        &[
            ("POST /v1/crates/9:seal", "Seal a=crates/9"),
            ("GET /v1/crates/9:seal", "Get a=crates/9:seal"),
            ("POST /v1/boxes/9:seal", "Box a=boxes/9:seal"),
            ("PUT /v1/crates/9:seal", "405 GET, HEAD, OPTIONS, POST"),
        ],
    );
}

#[test]
fn only_a_raw_colon_is_a_verb_and_only_a_raw_slash_parts_segments() {
    routes(
        &[
            ("Cancel", r#"post: "/v1/{a}:cancel""#),
            ("One", r#"post: "/v1/{a}""#),
        ],
        &[
            ("POST /v1/x:cancel", "Cancel a=x"),
            ("POST /v1/x%3Acancel", "One a=x:cancel"),
            ("POST /v1/x%2Fy", "One a=x/y"),
            ("POST /v1%2Fx", "404"),
            ("POST /%761/x", "404"),
            ("POST /v1/x+y", "One a=x+y"),
            ("POST /v1/%252F", "One a=%2F"),
        ],
    );
}

#[test]
fn a_variable_of_several_segments_keeps_reserved_characters_as_sent() {
    routes(
        &[
            ("Rest", r#"get: "/f/{a=**}""#),
            ("Two", r#"get: "/g/{a=x/*}/{b}""#),
        ],
        &[
            ("GET /f/%2f%23/%20%2523", "Rest a=%2f%23/ %23"),
            ("GET /f/%2f", "Rest a=%2f"),
            ("GET /f", "Rest a="),
            ("GET /g/x/%2F%41/%2F", "Two a=x/%2FA b=/"),
        ],
    );
}

#[test]
fn an_empty_segment_matches_nothing() {
    routes(
        &[
            ("One", r#"get: "/v1/{a}""#),
            ("Rest", r#"get: "/f/{a=**}""#),
            ("Root", r#"get: "/""#),
        ],
        &[
            ("GET /v1/", "404"),
            ("GET /v1/a/", "404"),
            ("GET //v1/a", "404"),
            ("GET /f/", "404"),
            ("GET /f/a//b", "404"),
            ("GET /", "Root"),
            ("GET //", "404"),
        ],
    );
}

#[test]
fn what_is_no_path_is_refused() {
    routes(
        &[("Rest", r#"get: "/{a=**}""#)],
        &[
            ("GET v1/a", "400"),
            ("GET *", "400"),
            ("GET http://h/v1", "400"),
            ("GET /%zz", "400"),
            ("GET /a%", "400"),
            ("GET /%ff", "400"),
            ("GET /%00", "400"),
            ("GET /a/../b", "400"),
            ("GET /a/%2e%2E", "400"),
            ("GET /./a", "400"),
        ],
    );
    let (router, _) = Router::build([("r", schema(&[("Rest", r#"get: "/{a=**}""#)]))]);
    assert_eq!(seen(&router, "GET", &"/a".repeat(257)), "400");
    assert_eq!(seen(&router, "GET", ""), "400");
}

#[test]
fn characters_of_templates_are_plain_text_in_a_request() {
    routes(
        &[("Lit", r#"get: "/v1/a""#), ("One", r#"get: "/v2/{a}""#)],
        &[
            ("GET /v1/*", "404"),
            ("GET /*/a", "404"),
            ("GET /v2/{a}", "One a={a}"),
            ("GET /v2/**", "One a=**"),
        ],
    );
}

#[test]
fn head_is_answered_by_the_get_rule_and_options_by_a_list() {
    routes(
        &[
            ("Get", r#"get: "/v1/{a}""#),
            ("Post", r#"post: "/v1/{a}""#),
            ("Only", r#"post: "/v2""#),
        ],
        &[
            ("HEAD /v1/x", "Get a=x"),
            ("OPTIONS /v1/x", "204 GET, HEAD, OPTIONS, POST"),
            ("OPTIONS /v2", "204 OPTIONS, POST"),
            ("HEAD /v2", "405 OPTIONS, POST"),
            ("get /v1/x", "405 GET, HEAD, OPTIONS, POST"),
            ("OPTIONS /v3", "404"),
        ],
    );
}

#[test]
fn custom_kinds_and_the_kind_for_every_method_are_recognised() {
    for (http_method, path) in [("PURGE", "/v1/cache"), ("GET", "/v1/any"), ("BREW", "/v1/any")] {
        assert_eq!(found(http_method, path).method.name(), "lab.Lab/Shelf");
    }
}

#[test]
fn a_rule_registered_twice_is_reported_and_the_first_stays_in_force() {
    let one = schema(&[("First", r#"get: "/v1/{a}""#)]);
    let two = schema(&[("Second", r#"get: "/v1/{b}""#), ("Other", r#"get: "/v2""#)]);
    let (router, conflicts) = Router::build([("one", one), ("two", two)]);
    assert_eq!(seen(&router, "GET", "/v1/x"), "First a=x");
    assert_eq!(seen(&router, "GET", "/v2"), "Other");
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].first, ("one", "r.S/First".into()));
    assert_eq!(conflicts[0].second, ("two", "r.S/Second".into()));
    assert_eq!(conflicts[0].rule, "GET /v1/{b}");
}

#[test]
fn refusals_of_the_head_carry_their_status_and_code() {
    let refusal = |http_method, path| {
        router()
            .recognise(http_method, path)
            .refusal()
            .map(|r| (r.http, r.code.number()))
    };
    assert_eq!(refusal("GET", "/nowhere"), Some((404, 5)));
    assert_eq!(refusal("POST", "/v1/things/x"), Some((405, 12)));
    assert_eq!(refusal("GET", "/v1/things/%zz"), Some((400, 3)));
    assert_eq!(refusal("GET", "/v1/things/x"), None);
    assert_eq!(refusal("OPTIONS", "/v1/things/x"), None);
}

#[test]
fn methods_without_a_rule_are_not_reached() {
    assert!(matches!(
        router().recognise("POST", "/lab.Lab/Plain"),
        Recognised::NotFound
    ));
    assert!(matches!(
        router().recognise("POST", "/lab.Lab/Get"),
        Recognised::NotFound
    ));
}

#[test]
fn gates_see_the_template_and_the_bound_fields_before_any_body_is_read() {
    let call = found("GET", "/v1/owners/ann/things/x%20y");
    assert_eq!(call.template(), "/v1/owners/{inner.name}/things/{text}");
    assert_eq!(
        call.bindings().collect::<Vec<_>>(),
        [("inner.name", "ann"), ("text", "x y")]
    );
}

fn mapped() -> Routing {
    Routing {
        unannotated: true,
        ..Routing::default()
    }
}

#[test]
fn with_unannotated_a_method_without_a_rule_is_reached_by_its_name_and_a_written_rule_stays_the_only_one() {
    let text = r#"syntax = "proto3"; package r; import "google/api/annotations.proto";
        service S {
            rpc Plain(M) returns (M);
            rpc Ruled(M) returns (M) { option (google.api.http) = { get: "/v1/m" }; }
            rpc Taken(M) returns (M) { option (google.api.http) = { post: "/r.S/Also" body: "*" }; }
            rpc Also(M) returns (M);
        }
        message M { string a = 1; }"#;
    let schema = Arc::new(Schema::compile(&compile("r.proto", text)).unwrap());
    let (off, _) = Router::build([("r", schema.clone())]);
    assert_eq!(seen(&off, "POST", "/r.S/Plain"), "404");
    let (on, conflicts) = Router::build_with([("r", schema, mapped())]);
    assert_eq!(seen(&on, "POST", "/r.S/Plain"), "Plain");
    assert_eq!(seen(&on, "GET", "/r.S/Plain"), "405 OPTIONS, POST");
    assert_eq!(seen(&on, "POST", "/r.S/Ruled"), "404");
    assert_eq!(seen(&on, "GET", "/v1/m"), "Ruled");
    // What a person wrote comes first, and what it hides is told.
    assert_eq!(seen(&on, "POST", "/r.S/Also"), "Taken");
    let told: Vec<_> = conflicts
        .iter()
        .map(|conflict| (conflict.first.1.as_str(), conflict.second.1.as_str()))
        .collect();
    assert_eq!(told, [("r.S/Taken", "r.S/Also")]);
    let Recognised::Found(found) = on.recognise("POST", "/r.S/Plain") else {
        panic!("it was found before")
    };
    let message = found
        .request("", None, br#"{"a":"x"}"#, &Options::default())
        .unwrap();
    assert_eq!(message, b"\x0a\x01x");
    let refused = found.request("a=x", None, b"", &Options::default()).unwrap_err();
    assert_eq!(refused.http, 400);
}

#[test]
fn every_route_is_listed_and_its_example_is_recognised_as_itself() {
    let text = r#"syntax = "proto3"; package r; import "google/api/annotations.proto";
        service S {
            rpc A(M) returns (M) { option (google.api.http) = { get: "/v1/{a}/x/{n}:go" additional_bindings { get: "/v1/{a=k/*/l/**}" } additional_bindings { put: "/" body: "a" } }; }
            rpc B(M) returns (M) { option (google.api.http) = { custom { kind: "*" path: "/b/*/{e}/{t}" } body: "*" }; }
            rpc C(M) returns (M);
        }
        enum E { ZERO = 0; }
        message M { string a = 1; int32 n = 2; E e = 3; bool t = 4; }"#;
    let schema = Arc::new(Schema::compile(&compile("r.proto", text)).unwrap());
    let (router, _) = Router::build_with([("r", schema.clone(), mapped())]);
    let routes = schema.routes(true);
    assert_eq!((routes.len(), schema.routes(false).len()), (5, 4));
    for route in routes {
        let http_method = if route.http_method() == "*" {
            "LOCK"
        } else {
            route.http_method()
        };
        let path = route.example_path();
        let Recognised::Found(found) = router.recognise(http_method, &path) else {
            panic!("{http_method} {path} is not recognised");
        };
        assert_eq!(
            (found.method.name(), found.template()),
            (route.method.name(), route.template())
        );
        let body = if route.takes_body() { "\"x\"" } else { "" };
        let body = if route.template() == "/" { body } else { "" };
        assert!(
            found
                .request("", None, body.as_bytes(), &Options::default())
                .is_ok(),
            "{path}"
        );
    }
}

#[test]
fn a_method_without_a_rule_is_reached_by_its_name_only_where_that_is_switched_on() {
    let text = r#"syntax = "proto3"; package r; import "google/api/annotations.proto";
        service S {
            rpc Bare(M) returns (M);
            rpc Ruled(M) returns (M) { option (google.api.http) = { get: "/ruled" }; }
        } message M { string a = 1; }"#;
    let schema = Arc::new(Schema::compile(&compile("r.proto", text)).unwrap());
    let (off, _) = Router::build([("r", schema.clone())]);
    assert_eq!(seen(&off, "POST", "/r.S/Bare"), "404");
    let (on, conflicts) = Router::build_with([(
        "r",
        schema,
        Routing {
            unannotated: true,
            decode_reserved: false,
        },
    )]);
    assert!(conflicts.is_empty());
    assert_eq!(seen(&on, "POST", "/r.S/Bare"), "Bare");
    assert_eq!(seen(&on, "GET", "/r.S/Bare"), "405 OPTIONS, POST");
    assert_eq!(seen(&on, "POST", "/r.S/Ruled"), "404");
    assert_eq!(seen(&on, "GET", "/ruled"), "Ruled");
    let Recognised::Found(found) = on.recognise("POST", "/r.S/Bare") else {
        panic!("it is found");
    };
    let message = found
        .request(
            "",
            Some("application/json"),
            br#"{"a": "x"}"#,
            &Options::default(),
        )
        .unwrap();
    assert_eq!(message, b"\x0a\x01x");
}

#[test]
fn reserved_characters_of_several_segments_stay_encoded_unless_a_switch_says_otherwise() {
    let schema = schema(&[("A", r#"get: "/v1/{a=x/**}""#)]);
    let value = |decode_reserved| {
        let routing = Routing {
            unannotated: false,
            decode_reserved,
        };
        let (router, _) = Router::build_with([("r", schema.clone(), routing)]);
        match router.recognise("GET", "/v1/x/%2f%23/%20") {
            Recognised::Found(found) => found
                .bindings()
                .map(|(_, value)| value.to_owned())
                .collect::<String>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(value(false), "x/%2f%23/ ");
    assert_eq!(value(true), "x/%2f#/ ");
}
