//! What is refused, and how; what else an accepted request changes.

use std::time::SystemTime;

use mesh_proto::v1;

use super::*;
use crate::registry::{Stored, codec};

mod ambiguous;

const PROVIDER: &str = "apiVersion: mesh/v1\nkind: JwtProvider\nmetadata: {name: login}\nspec: {issuer: 'https://i', audiences: [a], jwks: {uri: 'https://i/keys'}}\n";
const POLICY: &str = "apiVersion: mesh/v1\nkind: AccessPolicy\nmetadata: {name: p}\nspec: {service: a, allow: [{jwt: {provider: login}}]}\n";
const MESH: &str =
    "apiVersion: mesh/v1\nkind: Mesh\nmetadata: {name: default}\nspec: {trustDomain: mesh.local}\n";
const SERVICE: &str = "apiVersion: mesh/v1\nkind: Service\nmetadata: {name: a}\nspec: {protocol: grpc}\n";

fn parse(text: &str) -> Resource {
    codec::parse(text.as_bytes()).unwrap()
}

fn with_schema(bytes: &[u8]) -> Resource {
    let mut resource = parse(SERVICE);
    if let Resource::Service(service) = &mut resource {
        let source = Some(v1::schema_source::Source::Inline(bytes.to_vec()));
        service.spec.as_mut().unwrap().schema = Some(v1::SchemaSource { source });
    }
    resource
}

fn stored(resources: &[Resource]) -> State {
    let mut state = State::default();
    for resource in resources {
        let mut resource = resource.clone();
        let schema = schema::split(&mut resource);
        for resource in schema.into_iter().chain([resource]) {
            let key = Key::of(&resource);
            let stored = Stored {
                item: Arc::new(Item::new(resource)),
                schema: None,
                revision: "r1".into(),
                modified: SystemTime::UNIX_EPOCH,
            };
            state.documents.insert(key, Arc::new(stored));
        }
    }
    state
}

fn item(resource: Resource) -> apply_request::Item {
    apply_request::Item {
        document: Some(v1::Document {
            resource: Some(resource),
        }),
        if_revision: String::new(),
    }
}

fn judge(resources: &[Resource], state: &State) -> Result<Plan, Refusal> {
    apply(resources.iter().cloned().map(item).collect(), state, "mesh.local")
}

fn fields(result: Result<Plan, Refusal>) -> Vec<String> {
    match result {
        Err(Refusal::Faults(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
        other => panic!("{other:?}"),
    }
}

fn keys(plan: &Plan) -> Vec<String> {
    let sign = |write: &Write| if write.content.is_some() { '+' } else { '-' };
    plan.writes
        .iter()
        .map(|write| format!("{}{}", sign(write), write.key.kind))
        .collect()
}

#[test]
fn every_fault_of_every_document_is_told_at_once() {
    let bad = parse("apiVersion: mesh/v1\nkind: Service\nmetadata: {name: a}\nspec: {timeout: 0s}\n");
    let told = fields(apply(
        vec![item(bad), item(parse(POLICY)), apply_request::Item::default()],
        &State::default(),
        "mesh.local",
    ));
    assert_eq!(
        told,
        [
            "Service/a: spec.protocol",
            "Service/a: spec.timeout",
            "items[2]",
            "AccessPolicy/p: spec.allow[0].jwt.provider"
        ]
    );
}

#[test]
fn headers_that_find_no_field_in_the_schema_are_refused_whether_it_comes_along_or_is_stored() {
    let with_headers = |mut resource: Resource, field: &str| {
        if let Resource::Service(service) = &mut resource {
            let one = v1::HeaderField {
                header: "x-a".into(),
                field: field.into(),
                methods: vec!["mesh.v1.Documents/*".into()],
            };
            service.spec.as_mut().unwrap().rest = Some(v1::RestOptions {
                request_headers: vec![one],
                ..Default::default()
            });
        }
        resource
    };
    let inline = with_schema(mesh_proto::DESCRIPTORS);
    let mut by_hash = inline.clone();
    schema::split(&mut by_hash);
    let state = stored(std::slice::from_ref(&inline));
    for (resource, state) in [(&inline, &State::default()), (&by_hash, &state)] {
        let told = fields(judge(&[with_headers(resource.clone(), "kindd")], state));
        assert_eq!(told, ["Service/a: spec.rest.requestHeaders[0].field"]);
        assert!(judge(&[with_headers(resource.clone(), "kind")], state).is_ok());
    }
    // Without a schema nobody knows, and whoever has it one day leaves out what does not fit.
    assert!(judge(&[with_headers(parse(SERVICE), "kindd")], &State::default()).is_ok());
}

#[test]
fn rules_about_fields_that_find_nothing_to_look_at_are_told_with_the_policy_and_with_the_service() {
    let policy = |methods: &str, field: &str| {
        let rule = format!("[{{methods: ['{methods}'], fields: {{{field}: {{values: [x]}}}}}}]");
        parse(&POLICY.replace("[{jwt: {provider: login}}]", &rule))
    };
    let service = with_schema(mesh_proto::DESCRIPTORS);
    let warnings = |resources: &[Resource], state: &State, at: usize| {
        judge(resources, state).unwrap().outcomes.swap_remove(at).warnings
    };
    for (methods, field, told) in [
        ("mesh.v1.Documents/Get", "kind", None),
        ("mesh.v1.Documents/*", "kind", None),
        ("*", "kind", None),
        (
            "mesh.v1.Documents/Get",
            "kinds",
            Some("mesh.v1.GetRequest has no field \"kinds\""),
        ),
        ("mesh.v1.Documents/Apply", "items", Some("is repeated")),
        ("mesh.v1.Registration/Register", "leave", Some("takes a stream")),
        (
            "mesh.v1.Documents/Gett",
            "kind",
            Some("has no method mesh.v1.Documents/Gett"),
        ),
        (
            "mesh.v1.Documents/*",
            "kinds",
            Some("no method of mesh.v1.Documents takes"),
        ),
        ("*", "kinds", Some("no method takes")),
    ] {
        let policy = policy(methods, field);
        let with_policy = warnings(
            std::slice::from_ref(&policy),
            &stored(std::slice::from_ref(&service)),
            0,
        );
        let with_service = warnings(std::slice::from_ref(&service), &stored(&[policy]), 0);
        match told {
            None => assert_eq!((with_policy, with_service), (vec![], vec![]), "{methods} {field}"),
            Some(told) => {
                assert_eq!(with_policy.len(), 1, "{with_policy:?}");
                let place = format!("spec.allow[0].fields.{field}: ");
                assert!(
                    with_policy[0].starts_with(&place) && with_policy[0].contains(told),
                    "{with_policy:?}"
                );
                assert_eq!(with_service, [format!("AccessPolicy/p: {}", with_policy[0])]);
            }
        }
    }
    // Where there is nothing to look at at all.
    let policy = policy("*", "kind");
    for (service, told) in [
        (SERVICE.to_owned(), "need the schema"),
        (
            SERVICE.replace("grpc", "http-json"),
            "for services that speak gRPC",
        ),
    ] {
        let warnings = warnings(&[parse(&service), policy.clone()], &State::default(), 1);
        assert!(warnings.len() == 1 && warnings[0].contains(told), "{warnings:?}");
    }
    let reflected = SERVICE.replace("protocol: grpc", "protocol: grpc, schema: {reflection: true}");
    assert_eq!(
        warnings(&[parse(&reflected), policy], &State::default(), 1),
        [""; 0]
    );
}

#[test]
fn a_policy_may_come_with_its_provider_and_before_its_service() {
    let plan = judge(&[parse(POLICY), parse(PROVIDER)], &State::default()).unwrap();
    assert_eq!(
        plan.outcomes[0].warnings,
        ["spec.service: there is no Service/a yet"]
    );
    assert_eq!(keys(&plan), ["+AccessPolicy", "+JwtProvider"]);
}

#[test]
fn one_issuer_has_one_provider() {
    let twin = parse(&PROVIDER.replace("name: login", "name: other"));
    assert_eq!(
        fields(judge(std::slice::from_ref(&twin), &stored(&[parse(PROVIDER)]))),
        ["JwtProvider/other: spec.issuer"]
    );
    assert_eq!(
        fields(judge(&[twin, parse(PROVIDER)], &State::default())).len(),
        2
    );
    assert!(judge(&[parse(PROVIDER)], &stored(&[parse(PROVIDER)])).is_ok());
}

#[test]
fn the_mesh_has_the_trust_domain_of_the_authority() {
    assert!(judge(&[parse(MESH)], &State::default()).is_ok());
    let other = parse(&MESH.replace("mesh.local", "other.local"));
    assert_eq!(
        fields(judge(&[other], &State::default())),
        ["Mesh/default: spec.trustDomain"]
    );
}

#[test]
fn one_document_stands_once_in_a_request() {
    assert_eq!(
        fields(judge(&[parse(SERVICE), parse(SERVICE)], &State::default())),
        ["Service/a: metadata.name"]
    );
}

#[test]
fn a_trust_bundle_of_no_certificates_is_refused() {
    let text = "apiVersion: mesh/v1\nkind: TrustBundle\nmetadata: {name: other}\nspec: {certificates: \"-----BEGIN CERTIFICATE-----\\nMAA=\\n-----END CERTIFICATE-----\"}\n";
    assert_eq!(
        fields(judge(&[parse(text)], &State::default())),
        ["TrustBundle/other: spec.certificates"]
    );
}

#[test]
fn an_inline_schema_is_stored_by_its_hash_before_its_service() {
    let plan = judge(&[with_schema(mesh_proto::DESCRIPTORS)], &State::default()).unwrap();
    assert_eq!(keys(&plan), ["+Schema", "+Service"]);
    let hash = plan.writes[0].key.name.clone();
    assert_eq!(
        schema::referred(plan.writes[1].content.as_ref().unwrap()),
        Some(hash.as_str())
    );
}

#[test]
fn a_schema_that_does_not_link_is_refused() {
    let set = prost_types::FileDescriptorSet {
        file: vec![prost_types::FileDescriptorProto {
            name: Some("a.proto".into()),
            dependency: vec!["missing.proto".into()],
            ..Default::default()
        }],
    };
    let bytes = prost::Message::encode_to_vec(&set);
    assert_eq!(
        fields(judge(&[with_schema(&bytes)], &State::default())),
        ["Service/a: spec.schema.inline"]
    );
    assert_eq!(
        fields(judge(&[schema::of_bytes(bytes)], &State::default())).len(),
        1
    );
}

#[test]
fn a_schema_nobody_refers_to_any_more_goes_with_the_change_that_drops_it() {
    let state = stored(&[with_schema(mesh_proto::DESCRIPTORS)]);
    assert_eq!(
        keys(&judge(&[parse(SERVICE)], &state).unwrap()),
        ["+Service", "-Schema"]
    );
    assert_eq!(
        delete(
            &Key {
                kind: Kind::Service,
                name: "a".into()
            },
            &state
        )
        .unwrap()
        .len(),
        1
    );
    let Resource::Service(mut other) = with_schema(mesh_proto::DESCRIPTORS) else {
        panic!()
    };
    other.metadata.as_mut().unwrap().name = "b".into();
    let state = stored(&[with_schema(mesh_proto::DESCRIPTORS), Resource::Service(other)]);
    assert_eq!(keys(&judge(&[parse(SERVICE)], &state).unwrap()), ["+Service"]);
    assert!(
        delete(
            &Key {
                kind: Kind::Service,
                name: "a".into()
            },
            &state
        )
        .unwrap()
        .is_empty()
    );
}

#[test]
fn a_service_that_refers_to_a_schema_that_is_not_there_is_refused() {
    let hash = format!("sha256:{}", "0".repeat(64));
    let text = format!(
        "apiVersion: mesh/v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{protocol: grpc, schema: {{hash: '{hash}'}}}}\n"
    );
    assert_eq!(
        fields(judge(&[parse(&text)], &State::default())),
        ["Service/a: spec.schema.hash"]
    );
}

#[test]
fn equal_content_is_not_written_again() {
    let state = stored(&[with_schema(mesh_proto::DESCRIPTORS), parse(MESH)]);
    let plan = judge(&[with_schema(mesh_proto::DESCRIPTORS), parse(MESH)], &state).unwrap();
    assert!(plan.writes.is_empty(), "{:?}", keys(&plan));
    assert!(
        plan.outcomes
            .iter()
            .all(|outcome| outcome.action == Action::Unchanged)
    );
}

#[test]
fn conditions_are_judged_even_when_nothing_would_change() {
    let state = stored(&[parse(MESH)]);
    for (if_revision, held) in [("", true), ("r1", true), ("r0", false), ("none", false)] {
        let items = vec![apply_request::Item {
            if_revision: if_revision.into(),
            ..item(parse(MESH))
        }];
        let result = apply(items, &state, "mesh.local");
        assert_eq!(result.is_ok(), held, "{if_revision}");
        if let Err(refusal) = result {
            assert!(matches!(refusal, Refusal::Lost(_)));
        }
    }
}

#[test]
fn what_others_refer_to_is_not_deleted() {
    let state = stored(&[
        parse(SERVICE),
        parse(POLICY),
        parse(PROVIDER),
        with_schema(mesh_proto::DESCRIPTORS),
    ]);
    for (kind, name) in [(Kind::Service, "a"), (Kind::JwtProvider, "login")] {
        assert_eq!(
            delete(
                &Key {
                    kind,
                    name: name.into()
                },
                &state
            )
            .unwrap_err(),
            ["AccessPolicy/p"]
        );
    }
    assert!(
        delete(
            &Key {
                kind: Kind::AccessPolicy,
                name: "p".into()
            },
            &state
        )
        .is_ok()
    );
}
