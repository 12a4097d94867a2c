//! Reflection against a server that others wrote, and against answers that are wrong.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic_reflection::server::Builder;

use super::*;
use crate::grpc::plain_channel;

/// A server of our own messages that knows one version of reflection.
async fn server(version: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let builder = || Builder::configure().register_encoded_file_descriptor_set(mesh_proto::DESCRIPTORS);
    let mut routes = tonic::service::Routes::builder();
    match version {
        "v1" => routes.add_service(builder().build_v1().unwrap()),
        "v1alpha" => routes.add_service(builder().build_v1alpha().unwrap()),
        _ => &mut routes,
    };
    let served = tonic::transport::Server::builder()
        .add_routes(routes.routes())
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(served);
    address
}

async fn asked(address: SocketAddr) -> Result<Reflected, String> {
    collect(plain_channel(&address.to_string()).unwrap()).await
}

#[tokio::test]
async fn either_version_gives_every_service_and_all_files_with_their_custom_options() {
    for version in ["v1", "v1alpha"] {
        let reflected = asked(server(version).await).await.unwrap();
        assert_eq!(reflected.version, version);
        for service in ["mesh.v1.Documents", "mesh.v1.Identity"] {
            assert!(
                reflected.services.iter().any(|s| s == service),
                "{:?}",
                reflected.services
            );
        }
        let set = FileSet::decode(reflected.descriptor_set.as_slice()).unwrap();
        let names: Vec<String> = set.files.iter().map(|bytes| head(bytes).name.unwrap()).collect();
        for bytes in &set.files {
            let head = head(bytes);
            let at = |name: &str| names.iter().position(|other| other == name);
            for import in &head.imports {
                assert!(at(import) < at(head.name.as_deref().unwrap()), "{import}");
            }
        }
        // Asked again, the same bytes.
        assert_eq!(asked(server(version).await).await.unwrap(), reflected);
    }
}

fn head(bytes: &[u8]) -> FileHead {
    FileHead::decode(bytes).unwrap()
}

#[tokio::test]
async fn a_server_without_reflection_and_one_that_is_away_are_told_with_the_fix() {
    let told = asked(server("none").await).await.unwrap_err();
    assert!(
        told.contains("has no gRPC reflection") && told.contains("as a file"),
        "{told}"
    );
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let told = asked(free).await.unwrap_err();
    assert!(
        told.contains("cannot be asked") && told.contains("refused"),
        "{told}"
    );
}

fn file(name: &str, imports: &[&str]) -> Vec<u8> {
    let head = FileHead {
        name: Some(name.into()),
        package: Some("p".into()),
        imports: imports.iter().map(|&import| import.into()).collect(),
        services: vec![Named {
            name: Some(name.into()),
        }],
    };
    head.encode_to_vec()
}

#[test]
fn imports_come_before_those_who_import_them_and_a_circle_of_them_ends() {
    let mut files = Files::default();
    files
        .take(vec![
            file("a", &["c", "b"]),
            file("b", &["c"]),
            file("c", &[]),
            file("a", &[]),
        ])
        .unwrap();
    assert_eq!(files.missing(), None);
    assert!(files.services.contains("p.b"));
    let set = FileSet::decode(files.in_order().as_slice()).unwrap();
    let names: Vec<_> = set.files.iter().map(|bytes| head(bytes).name.unwrap()).collect();
    assert_eq!(names, ["c", "b", "a"]);
    let mut circle = Files::default();
    circle.take(vec![file("a", &["b"]), file("b", &["a"])]).unwrap();
    assert_eq!(
        FileSet::decode(circle.in_order().as_slice()).unwrap().files.len(),
        2
    );
    let mut half = Files::default();
    half.take(vec![file("a", &["b"])]).unwrap();
    assert_eq!(half.missing().as_deref(), Some("b"));
}

#[test]
fn too_many_files_too_many_bytes_and_what_is_no_file_are_refused() {
    let many = (0..=FILES_MAX)
        .map(|number| file(&number.to_string(), &[]))
        .collect();
    let told = Files::default().take(many).unwrap_err();
    assert!(told.contains("over 4000 files"), "{told}");
    let mut large = file("a", &[]);
    large.extend([0x9a, 0x06, 0x80, 0x80, 0x80, 0x04]);
    large.resize(large.len() + (8 << 20), 0);
    let told = Files::default().take(vec![large]).unwrap_err();
    assert!(told.contains("over 8388608 bytes"), "{told}");
    let told = Files::default().take(vec![b"\xff".to_vec()]).unwrap_err();
    assert!(told.contains("no FileDescriptorProto"), "{told}");
}

#[test]
fn only_files_that_everybody_shares_are_supplied_by_us() {
    assert!(well_known("google/api/annotations.proto").is_some());
    assert!(well_known("google/protobuf/duration.proto").is_some());
    assert!(well_known("mesh/v1/resources.proto").is_none());
}
