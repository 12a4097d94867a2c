//! Headers that stand for fields of messages: which names may, and that no two of them mean the same call.

use super::access_policy::{MethodMatch, read_method};
use crate::fault::{Check, Faults};
use crate::name::quote;
use crate::v1;

/// Most headers of one service that stand for a field, each way: each is looked for in every call.
pub const HEADER_FIELDS_MAX: usize = 32;
/// Most methods that one of them may name.
const METHODS_MAX: usize = 100;
/// Longest name of a header, in bytes.
const HEADER_BYTES_MAX: usize = 128;
/// Longest way to a field, in bytes.
const FIELD_BYTES_MAX: usize = 256;

/// What belongs to one connection, or frames and negotiates the body: neither says anything of a message.
const OF_THE_CONNECTION: [&str; 15] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
];
/// What the mesh alone says or reads: where a call came from, who makes it, and what would change how it is read.
const OF_THE_MESH: [&str; 12] = [
    "authorization",
    "cookie",
    "date",
    "forwarded",
    "traceparent",
    "tracestate",
    "x-forwarded-client-cert",
    "x-http-code",
    "x-http-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];
const OF_THE_CONNECTION_PREFIXES: [&str; 3] = ["proxy-", "sec-", ":"];
const OF_THE_MESH_PREFIXES: [&str; 7] = [
    "access-control-",
    "connect-",
    "grpc-",
    "x-envoy-",
    "x-forwarded-",
    "x-jwt-claim-",
    "x-mesh-",
];

/// A header that stands for a field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderField {
    /// Its name, in lower case.
    pub header: String,
    /// The way to the field, in the names of the .proto file.
    pub field: String,
    /// Any of these; empty: every method whose message has the field.
    pub methods: Vec<MethodMatch>,
}

/// Which messages are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

impl HeaderField {
    /// Whether it is for every method whose message has the field.
    #[must_use]
    pub fn for_all(&self) -> bool {
        self.methods.is_empty() || self.methods.contains(&MethodMatch::Any)
    }

    /// Whether some method may be meant by both.
    fn meets(&self, other: &HeaderField) -> bool {
        let meet = |one: &MethodMatch, other: &MethodMatch| match (one, other) {
            (MethodMatch::Method(rpc), any) | (any, MethodMatch::Method(rpc)) => any.matches(Some(rpc)),
            (one, other) => one == other,
        };
        let mut own = self.methods.iter();
        self.for_all() || other.for_all() || own.any(|one| other.methods.iter().any(|other| meet(one, other)))
    }
}

/// Reads all of one side.
pub(super) fn read_all(side: Side, messages: Vec<v1::HeaderField>, check: &mut Check) -> Vec<HeaderField> {
    let place = match side {
        Side::Request => "requestHeaders",
        Side::Response => "responseHeaders",
    };
    if messages.len() > HEADER_FIELDS_MAX {
        let many = messages.len();
        check.fault(
            place,
            format!("names {many} headers; at most {HEADER_FIELDS_MAX} are allowed"),
        );
    }
    let mut all: Vec<HeaderField> = Vec::new();
    for (index, message) in messages.into_iter().take(HEADER_FIELDS_MAX).enumerate() {
        let place = format!("{place}[{index}]");
        let Some(one) = check.part(&place, read(message)) else {
            continue;
        };
        if all
            .iter()
            .any(|other| other.header == one.header && other.meets(&one))
        {
            check.fault(
                format!("{place}.header"),
                format!(
                    "{} stands for another field of the same methods already; name different methods",
                    quote(&one.header)
                ),
            );
        } else if side == Side::Request
            && let Some(other) = all
                .iter()
                .find(|other| other.field == one.field && other.meets(&one))
        {
            check.fault(
                format!("{place}.field"),
                format!(
                    "{} is filled by the header {} already; a field has one header",
                    quote(&one.field),
                    quote(&other.header)
                ),
            );
        } else {
            all.push(one);
        }
    }
    all
}

fn read(message: v1::HeaderField) -> Result<HeaderField, Faults> {
    let mut check = Check::default();
    let header = check.leaf("header", read_header(&message.header));
    check.leaf("field", check_field(&message.field));
    if message.methods.len() > METHODS_MAX {
        check.fault("methods", format!("at most {METHODS_MAX} are allowed"));
    }
    let methods = message.methods.iter().take(METHODS_MAX).enumerate();
    let methods = methods
        .filter_map(|(index, text)| check.leaf(&format!("methods[{index}]"), read_method(text)))
        .collect();
    check.finish(header.map(|header| HeaderField {
        header,
        field: message.field,
        methods,
    }))
}

fn read_header(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let name = text.to_ascii_lowercase();
    let is_one_of = |names: &[&str], starts: &[&str]| {
        names.contains(&&*name) || starts.iter().any(|s| name.starts_with(s))
    };
    if name.is_empty() {
        return Err("is missing; write the name of a header, such as x-tenant".into());
    }
    if is_one_of(&OF_THE_CONNECTION, &OF_THE_CONNECTION_PREFIXES) {
        return Err(format!(
            "{} is about the connection or the body and stands for no field; choose a name of your own",
            quote(text)
        ));
    }
    if is_one_of(&OF_THE_MESH, &OF_THE_MESH_PREFIXES) {
        return Err(format!(
            "{} is for the mesh or gRPC to say and read; choose a name of your own",
            quote(text)
        ));
    }
    if name.ends_with("-bin") {
        return Err(format!(
            "{} is binary metadata by its name; leave -bin off, bytes are read as base64 anyway",
            quote(text)
        ));
    }
    if name.len() > HEADER_BYTES_MAX || !name.bytes().all(is_token) {
        return Err(format!(
            "{} is no name of a header: letters, digits and hyphens, at most {HEADER_BYTES_MAX} bytes",
            quote(text)
        ));
    }
    Ok(name)
}

pub(super) fn check_field(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is missing; write the way to a field, such as item.etag".into());
    }
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if text.len() > FIELD_BYTES_MAX || !text.split('.').all(is_name) {
        return Err(format!(
            "{} is no way to a field; write names of the .proto file with dots between, such as item.etag",
            quote(text)
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Rest;
    use super::*;

    fn field(header: &str, field: &str, methods: &[&str]) -> v1::HeaderField {
        v1::HeaderField {
            header: header.into(),
            field: field.into(),
            methods: methods.iter().map(|&method| method.into()).collect(),
        }
    }

    fn told(request: Vec<v1::HeaderField>, response: Vec<v1::HeaderField>) -> String {
        let options = v1::RestOptions {
            request_headers: request,
            response_headers: response,
            ..Default::default()
        };
        Rest::try_from(options).map_or_else(|faults| faults.to_string(), |_| String::new())
    }

    #[test]
    fn headers_that_stand_for_no_field_are_refused_by_place() {
        for (header, why) in [
            ("", "is missing"),
            ("x tenant", "is no name of a header"),
            ("x-tenant\r\n", "is no name of a header"),
            ("Content-Length", "about the connection or the body"),
            (":path", "about the connection or the body"),
            ("TE", "about the connection or the body"),
            ("proxy-authorization", "about the connection or the body"),
            ("grpc-timeout", "for the mesh or gRPC"),
            ("X-Mesh-Caller", "for the mesh or gRPC"),
            ("authorization", "for the mesh or gRPC"),
            ("access-control-allow-origin", "for the mesh or gRPC"),
            ("trace-bin", "binary metadata"),
        ] {
            for (side, told) in [
                ("requestHeaders", told(vec![field(header, "a", &[])], vec![])),
                ("responseHeaders", told(vec![], vec![field(header, "a", &[])])),
            ] {
                assert!(told.starts_with(&format!("{side}[0].header: ")), "{told}");
                assert!(told.contains(why), "{told}");
            }
        }
    }

    #[test]
    fn ways_and_methods_that_are_none_are_refused_by_place() {
        for way in ["", ".", "a..b", "a.", "a[0]", "a b", &"a".repeat(300)] {
            let told = told(vec![field("x-a", way, &[])], vec![]);
            assert!(told.starts_with("requestHeaders[0].field: "), "{told}");
        }
        for method in ["", "Get", "a.B/", "a.B/C/D", "a.B/c*"] {
            let told = told(vec![], vec![field("x-a", "a", &["a.B/C", method])]);
            assert!(told.starts_with("responseHeaders[0].methods[1]: "), "{told}");
        }
    }

    #[test]
    fn a_header_twice_is_refused_where_a_method_could_mean_both() {
        for (one, other, twice) in [
            (&[][..], &["a.B/C"][..], true),
            (&["*"], &["a.B/C"], true),
            (&["a.B/*"], &["x.Y/Z", "a.B/C"], true),
            (&["a.B/C"], &["a.B/C"], true),
            (&["a.B/*"], &["a.B/*"], true),
            (&["a.B/C"], &["a.B/D"], false),
            (&["a.B/*"], &["a.BB/*", "a.BB/C"], false),
        ] {
            let both = vec![field("x-a", "a", one), field("X-A", "b", other)];
            for told in [told(both.clone(), vec![]), told(vec![], both)] {
                assert_eq!(
                    told.contains("[1].header: \"x-a\" stands for another"),
                    twice,
                    "{told}"
                );
            }
        }
    }

    #[test]
    fn one_field_is_filled_by_one_header_and_told_by_as_many_as_are_liked() {
        let both = vec![field("x-a", "a", &[]), field("x-b", "a", &["a.B/C"])];
        let told_first = told(both.clone(), vec![]);
        assert!(
            told_first.contains("requestHeaders[1].field: \"a\" is filled by"),
            "{told_first}"
        );
        assert_eq!(told(vec![], both), "");
    }

    #[test]
    fn there_is_a_most_of_headers() {
        let many = |count| {
            (0..count)
                .map(|n| field(&format!("x-{n}"), &format!("f{n}"), &[]))
                .collect()
        };
        assert_eq!(told(many(HEADER_FIELDS_MAX), many(HEADER_FIELDS_MAX)), "");
        let told = told(many(HEADER_FIELDS_MAX + 1), vec![]);
        assert!(told.contains("names 33 headers; at most 32"), "{told}");
    }
}
