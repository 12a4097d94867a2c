use super::*;
use crate::files::TestFolder;

const SERVICE: &str = "apiVersion: mesh/v1
kind: Service
metadata: {name: market.quotes}
spec: {protocol: grpc, schema: {file: quotes.binpb}}
";
const INSTANCE: &str = "apiVersion: mesh/v1
kind: Instance
metadata: {name: market.quotes/a}
spec: {address: 127.0.0.1, port: 9000, transport: plaintext}
";
const POLICY: &str = "apiVersion: mesh/v1
kind: AccessPolicy
metadata: {name: readers}
spec: {service: market.quotes, allow: [{methods: ['*'], jwt: {provider: login}}]}
";

fn config() -> Config {
    let text = "node: {service: web.portfolio, id: a}
resources: {file: .}
outbound: {listen: '127.0.0.1:0'}
";
    Config::parse(text, Path::new("."), []).unwrap()
}

fn folder(name: &str) -> TestFolder {
    let folder = TestFolder::new(name);
    std::fs::write(folder.0.join("quotes.binpb"), mesh_proto::DESCRIPTORS).unwrap();
    folder.write("service.yaml", SERVICE);
    folder.write("instance.yaml", INSTANCE);
    folder
}

fn told(folder: &TestFolder) -> String {
    load(&Source::Files(folder.0.clone()), &config())
        .err()
        .unwrap()
        .to_string()
}

#[test]
fn a_folder_of_documents_becomes_resources_with_the_schema_by_hash_and_everything_known() {
    let folder = folder("standalone");
    let resources = load(&Source::Files(folder.0.clone()), &config())
        .unwrap()
        .resources();
    let hash = SchemaHash::of(mesh_proto::DESCRIPTORS);
    assert_eq!(
        resources.services["market.quotes"].schema,
        Some(SchemaSource::Hash(hash.clone()))
    );
    assert!(resources.schemas.contains_key(&hash));
    assert_eq!(resources.instances["market.quotes"].len(), 1);
    for service in ["market.quotes", "web.portfolio"] {
        assert!(resources.services_known.contains(service), "{service}");
        assert!(resources.policies_known.contains(service), "{service}");
    }
}

#[test]
fn a_policy_that_leans_on_a_provider_that_is_not_there_is_refused() {
    let folder = folder("standalone-provider");
    folder.write("policy.yaml", POLICY);
    assert_eq!(
        told(&folder),
        "policy.yaml: AccessPolicy/readers: spec.allow[0].jwt.provider: there is no JwtProvider login"
    );
}

#[test]
fn a_policy_about_a_field_that_the_service_does_not_have_is_refused() {
    let folder = folder("standalone-fields");
    let rules = "[{methods: [mesh.v1.Documents/Get], fields: {FIELD: {values: [a]}}}]";
    let policy = POLICY.replace("[{methods: ['*'], jwt: {provider: login}}]", rules);
    folder.write("policy.yaml", &policy.replace("FIELD", "kinds"));
    assert_eq!(
        told(&folder),
        "policy.yaml: AccessPolicy/readers: spec.allow[0].fields.kinds: mesh.v1.Documents/Get: mesh.v1.GetRequest has no field \"kinds\""
    );
    folder.write("policy.yaml", &policy.replace("FIELD", "kind"));
    assert!(load(&Source::Files(folder.0.clone()), &config()).is_ok());
}

#[test]
fn a_document_that_stands_twice_and_every_other_fault_are_told_together() {
    let folder = folder("standalone-twice");
    folder.write("again.yaml", INSTANCE);
    folder.write(
        "zbad.yaml",
        &SERVICE
            .replace("market.quotes", "market.other")
            .replace("quotes.binpb", "zbad.yaml"),
    );
    let told = told(&folder);
    assert!(
        told.contains("zbad.yaml: Service/market.other: spec.schema"),
        "{told}"
    );
    std::fs::remove_file(folder.0.join("zbad.yaml")).unwrap();
    let told = load(&Source::Files(folder.0.clone()), &config())
        .err()
        .unwrap()
        .to_string();
    assert_eq!(
        told,
        "instance.yaml: Instance/market.quotes/a: stands in again.yaml as well; write it once"
    );
}

#[test]
fn a_good_edit_is_swapped_a_bad_one_is_told_and_changes_nothing() {
    let folder = folder("standalone-edit");
    let (shared, _requests) = Shared::new(config());
    let mut standalone = Standalone::begin(shared.clone(), Source::Files(folder.0.clone())).unwrap();
    assert!(!standalone.has_changed());
    let port = |shared: &Shared| {
        let instances = &shared.snapshot().resources.instances;
        instances["market.quotes"].values().next().unwrap().port
    };
    folder.write("instance.yaml", &INSTANCE.replace("9000", "9001"));
    assert!(standalone.has_changed());
    standalone.swap().unwrap();
    assert_eq!(port(&shared), 9001);
    folder.write("instance.yaml", &INSTANCE.replace("9000", "90000"));
    assert!(standalone.has_changed());
    assert!(standalone.swap().unwrap_err().to_string().contains("spec.port"));
    assert_eq!(port(&shared), 9001);
    assert!(!standalone.has_changed());
    std::fs::write(folder.0.join("quotes.binpb"), b"changed").unwrap();
    assert!(standalone.has_changed());
}

#[test]
fn a_service_that_stands_in_no_file_is_known_not_to_exist_once_it_was_called() {
    let folder = folder("standalone-wanted");
    let (shared, _requests) = Shared::new(config());
    let mut standalone = Standalone::begin(shared.clone(), Source::Files(folder.0.clone())).unwrap();
    let other = ServiceName::parse("market.orders").unwrap();
    assert!(!shared.snapshot().resources.services_known.contains(&other));
    standalone.want(other.clone());
    assert!(shared.snapshot().resources.services_known.contains(&other));
}
