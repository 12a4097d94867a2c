//! Rules for the same requests: within a schema, at one edge, and apart.

use super::*;

/// A service under another name, with this schema, and with paths for all its methods.
fn mapped(name: &str, bytes: &[u8]) -> Resource {
    let mut resource = with_schema(bytes);
    if let Resource::Service(service) = &mut resource {
        service.metadata.as_mut().unwrap().name = name.into();
        let rest = v1::RestOptions {
            unannotated: true,
            ..Default::default()
        };
        service.spec.as_mut().unwrap().rest = Some(rest);
    }
    resource
}

#[test]
fn rules_of_two_services_for_the_same_requests_are_a_warning_that_names_both() {
    let schema = mesh_proto::DESCRIPTORS;
    // The same services with another hash: a field nobody knows is passed over.
    let other = [schema, b"\x78\x01"].concat();
    let state = stored(&[mapped("one", schema)]);
    let plan = judge(&[mapped("two", &other)], &state).unwrap();
    let warnings = &plan.outcomes[0].warnings;
    let told = warnings
        .iter()
        .find(|line| line.contains("Documents/Apply"))
        .unwrap();
    assert!(
        told.contains("POST /mesh.v1.Documents/Apply")
            && told.contains("Service/one")
            && told.contains("spec.schema"),
        "{told}"
    );
    assert!(warnings.len() <= 20, "{}", warnings.len());
    // Two versions of the same service have the same schema, and that is meant.
    let plan = judge(&[mapped("two", schema)], &state).unwrap();
    assert_eq!(plan.outcomes[0].warnings, Vec::<String>::new());
    // Whoever changes something else is not bothered.
    let both = stored(&[mapped("one", schema), mapped("two", &other)]);
    let plan = judge(&[parse(PROVIDER)], &both).unwrap();
    assert_eq!(plan.outcomes[0].warnings, Vec::<String>::new());
}

/// The descriptors of one .proto file.
fn compiled(text: &str) -> Vec<u8> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("xds-lite-judge-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("shop.proto"), text).unwrap();
    // `protox::compile` would drop the annotations.
    let mut compiler = protox::Compiler::new([folder.clone(), "../proto/proto".into()]).unwrap();
    compiler.include_imports(true).open_file("shop.proto").unwrap();
    let _ = std::fs::remove_dir_all(&folder);
    compiler.encode_file_descriptor_set()
}

/// A service whose only RPC, in a package of its own, has this rule.
fn ruled(name: &str, package: &str, rule: &str) -> Resource {
    let text = format!(
        r#"syntax = "proto3"; package {package}; import "google/api/annotations.proto";
        service Items {{ rpc Get(Item) returns (Item) {{ option (google.api.http) = {{ get: "{rule}" }}; }} }}
        message Item {{ string name = 1; string other = 2; }}"#
    );
    let mut resource = with_schema(&compiled(&text));
    if let Resource::Service(service) = &mut resource {
        service.metadata.as_mut().unwrap().name = name.into();
    }
    resource
}

/// With edges that expose these services.
fn exposed(mut state: State, edges: &[(&str, &[&str])]) -> State {
    state.edges = edges
        .iter()
        .map(|(edge, names)| {
            (
                (*edge).to_owned(),
                names.iter().map(|&name| name.to_owned()).collect(),
            )
        })
        .collect();
    state
}

#[test]
fn a_rule_that_an_edge_serves_for_another_service_is_refused_and_all_are_named() {
    let one = ruled("one", "old", "/v1/items/{name}");
    let state = exposed(
        stored(&[one]),
        &[("web.edge/a", &["one", "two"]), ("web.edge/b", &["one", "two"])],
    );
    let two = ruled("two", "new", "/v1/items/{other}");
    let Err(Refusal::Faults(faults)) = judge(std::slice::from_ref(&two), &state) else {
        panic!("it is ambiguous")
    };
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].field, "Service/two: spec.schema");
    assert_eq!(
        faults[0].description,
        "GET /v1/items/{other} (new.Items/Get) is the rule GET /v1/items/{name} (old.Items/Get) of Service/one too; the \
         edge web.edge/a exposes both: change one of the two rules, or let that edge expose one of the services"
    );
    // Whichever comes later, and both at once.
    let state = exposed(
        stored(std::slice::from_ref(&two)),
        &[("web.edge/a", &["one", "two"])],
    );
    assert_eq!(
        fields(judge(&[ruled("one", "old", "/v1/items/{name}")], &state)),
        ["Service/one: spec.schema"]
    );
    let state = exposed(State::default(), &[("web.edge/a", &["one", "two"])]);
    let both = [ruled("one", "old", "/v1/items/{name}"), two];
    assert_eq!(fields(judge(&both, &state)), ["Service/two: spec.schema"]);
}

#[test]
fn services_that_no_edge_exposes_together_may_have_the_same_rule() {
    let one = ruled("one", "old", "/v1/items/{name}");
    let edges: &[(&str, &[&str])] = &[("web.edge/a", &["one", "three"]), ("partner.edge/a", &["two"])];
    let state = exposed(stored(&[one]), edges);
    let plan = judge(&[ruled("two", "new", "/v1/items/{other}")], &state).unwrap();
    let warnings = &plan.outcomes[0].warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("Service/one"), "{warnings:?}");
}

#[test]
fn what_was_ambiguous_before_does_not_stop_another_change_and_is_told() {
    let one = ruled("one", "old", "/v1/items/{name}");
    let two = ruled("two", "new", "/v1/items/{other}");
    let state = exposed(stored(&[one, two.clone()]), &[("web.edge/a", &["one", "two"])]);
    let mut changed = two;
    if let Resource::Service(service) = &mut changed {
        service.spec.as_mut().unwrap().timeout = Some(prost_types::Duration { seconds: 9, nanos: 0 });
    }
    let plan = judge(&[changed], &state).unwrap();
    let warnings = &plan.outcomes[0].warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("web.edge/a"), "{warnings:?}");
    // Another rule in the way is another matter.
    let state = exposed(
        stored(&[
            ruled("one", "old", "/v1/items/{name}"),
            ruled("two", "new", "/v2/items/{other}"),
        ]),
        &[("web.edge/a", &["one", "two"])],
    );
    let refused = judge(&[ruled("two", "new", "/v1/items/{other}")], &state);
    assert_eq!(fields(refused), ["Service/two: spec.schema"]);
}

#[test]
fn two_versions_of_one_api_at_one_edge_are_a_warning() {
    let schema = mesh_proto::DESCRIPTORS;
    let other = [schema, b"\x78\x01"].concat();
    let state = exposed(
        stored(&[mapped("one", schema)]),
        &[("web.edge/a", &["one", "two"])],
    );
    let plan = judge(&[mapped("two", &other)], &state).unwrap();
    assert!(!plan.outcomes[0].warnings.is_empty());
}

#[test]
fn a_schema_with_the_same_rule_twice_is_refused_and_both_are_named() {
    let text = r#"syntax = "proto3"; package shop; import "google/api/annotations.proto";
        service Items {
            rpc Get(Item) returns (Item) { option (google.api.http) = { get: "/v1/{name}" }; }
            rpc Find(Item) returns (Item) { option (google.api.http) = { get: "/v1/{other}" }; }
        }
        message Item { string name = 1; string other = 2; }"#;
    let refused = judge(&[with_schema(&compiled(text))], &State::default());
    let Err(Refusal::Faults(faults)) = refused else {
        panic!("it is ambiguous")
    };
    let told = format!("{}: {}", faults[0].field, faults[0].description);
    for words in [
        "Service/a: spec.schema.inline",
        "shop.Items/Get",
        "GET",
        "/v1/{name}",
        "shop.Items/Find",
        "/v1/{other}",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
}
