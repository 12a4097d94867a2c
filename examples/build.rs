//! Compiles the .proto files with protox (no protoc), and keeps their descriptors: annotations and comments included.

use std::path::PathBuf;
use std::{env, error::Error, fs};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../proto/proto/google");

    // `protox::compile` drops custom options; the compiler's own encoding keeps them.
    let mut compiler = protox::Compiler::new(["proto", "../proto/proto"])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_file("market/v1/quotes.proto")?;
    let descriptors = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("quotes.binpb"), &descriptors)?;

    let set = prost_types::FileDescriptorSet::decode(descriptors.as_slice())?;
    tonic_prost_build::configure().compile_fds(set)?;
    Ok(())
}
