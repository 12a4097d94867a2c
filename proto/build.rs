//! Compiles the .proto files with protox (no protoc), keeps the descriptors with their custom options, and generates
//! messages with ordered maps, so that equal content always has equal bytes.

use std::path::PathBuf;
use std::{env, error::Error, fs};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "google/api/annotations.proto",
        "google/rpc/error_details.proto",
        "google/rpc/status.proto",
        "envoy/service/discovery/v3/ads.proto",
        "mesh/v1/documents.proto",
        "mesh/v1/identity.proto",
        "mesh/v1/registration.proto",
        "mesh/v1/resources.proto",
        "mesh/v1/status.proto",
    ];
    println!("cargo:rerun-if-changed=proto");

    // `protox::compile` drops custom options; the compiler's own encoding keeps them.
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(files)?;
    let descriptors = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("mesh.binpb"), &descriptors)?;

    let set = prost_types::FileDescriptorSet::decode(descriptors.as_slice())?;
    tonic_prost_build::configure()
        .btree_map(".")
        .build_transport(false)
        .compile_fds(set)?;
    Ok(())
}
