//! What the crate promises, rule by rule, on the schema of `testdata/lab.proto`.

mod binding;
mod editions;
mod field;
mod form;
mod headers;
mod oracle;
mod random;
mod reply;
mod request;
mod reverse;
mod routing;
mod schema;

use std::sync::{Arc, OnceLock};

use crate::{Match, Options, Recognised, Refusal, Router, Schema, UnknownInput};

/// Compiles .proto text as a user's build would. `protox::compile` would drop the annotations.
pub(crate) fn compile(file: &str, text: &str) -> Vec<u8> {
    compile_all(&[(file, text)])
}

/// The same of several files; the first may import the others.
fn compile_all(files: &[(&str, &str)]) -> Vec<u8> {
    use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

    struct These(Vec<(String, String)>);
    impl FileResolver for These {
        fn open_file(&self, name: &str) -> Result<File, protox::Error> {
            match self.0.iter().find(|(known, _)| known == name) {
                Some((_, text)) => File::from_source(name, text),
                None => Err(protox::Error::file_not_found(name)),
            }
        }
    }

    let own = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let mut resolver = ChainFileResolver::new();
    resolver.add(These(own.collect()));
    resolver.add(IncludeFileResolver::new("../proto/proto".into()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_file(files[0].0)
        .unwrap();
    compiler.encode_file_descriptor_set()
}

fn lab() -> Arc<Schema> {
    static LAB: OnceLock<Arc<Schema>> = OnceLock::new();
    LAB.get_or_init(|| {
        let bytes = compile("lab.proto", include_str!("../../testdata/lab.proto"));
        Arc::new(Schema::compile(&bytes).unwrap())
    })
    .clone()
}

/// The same schema, as the oracle has it.
fn lab_pool() -> prost_reflect::DescriptorPool {
    let bytes = compile("lab.proto", include_str!("../../testdata/lab.proto"));
    prost_reflect::DescriptorPool::decode(bytes.as_slice()).unwrap()
}

fn router() -> Router<&'static str> {
    let (router, conflicts) = Router::build([("lab", lab())]);
    assert_eq!(conflicts, []);
    router
}

fn found(http_method: &str, path: &str) -> Match<&'static str> {
    match router().recognise(http_method, path) {
        Recognised::Found(found) => found,
        other => panic!("{http_method} {path}: {other:?}"),
    }
}

/// Sends a request and shows the message that came of it as JSON: what the service would see.
fn sent(http_method: &str, target: &str, body: &str) -> Result<String, Refusal> {
    sent_with(http_method, target, body.as_bytes(), &Options::default())
}

fn sent_with(http_method: &str, target: &str, body: &[u8], options: &Options) -> Result<String, Refusal> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let call = found(http_method, path);
    let message = call.request(query, None, body, options)?;
    let whole = found("GET", "/v1/things/x");
    Ok(String::from_utf8(whole.response(&message, options)?).unwrap())
}

/// Creates from a JSON body.
fn made(body: &str) -> Result<String, Refusal> {
    sent("POST", "/v1/things", body)
}

#[track_caller]
fn refused(answer: Result<String, Refusal>, field: &str, why: &str) -> Refusal {
    let refusal = answer.expect_err(why);
    assert_eq!(refusal.http, 400, "{refusal:?}");
    assert_eq!(refusal.field.as_deref().unwrap_or_default(), field, "{refusal:?}");
    assert!(refusal.message.contains(why), "{refusal:?}");
    refusal
}

fn lenient() -> Options {
    Options {
        unknown_query: UnknownInput::Ignore,
        ..Options::default()
    }
}
