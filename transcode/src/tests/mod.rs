//! What the crate promises, rule by rule, on the schema of `testdata/lab.proto`.

mod oracle;
mod reply;
mod request;
mod routing;
mod schema;

use std::sync::{Arc, OnceLock};

use crate::{Match, Options, Recognised, Refusal, Router, Schema, UnknownInput};

/// Compiles .proto text as a user's build would. `protox::compile` would drop the annotations.
fn compile(file: &str, text: &str) -> Vec<u8> {
    use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

    struct One<'a>(&'a str, &'a str);
    impl FileResolver for One<'_> {
        fn open_file(&self, name: &str) -> Result<File, protox::Error> {
            if name == self.0 {
                File::from_source(name, self.1)
            } else {
                Err(protox::Error::file_not_found(name))
            }
        }
    }

    let mut resolver = ChainFileResolver::new();
    resolver.add(One(&*file.to_owned().leak(), &*text.to_owned().leak()));
    resolver.add(IncludeFileResolver::new("../proto/proto".into()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file(file).unwrap();
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
