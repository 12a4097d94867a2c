//! How HTTP/JSON callers of a service are read and answered: every switch, with its default.

use std::collections::BTreeSet;
use std::time::Duration;

use super::duration;
use super::header_field::{HeaderField, Side, read_all};
use crate::fault::{Check, Faults};
use crate::name::quote;
use crate::v1::{self, rest_options};

/// Most query parameters that may be named as ignored.
const IGNORED_QUERY_MAX: usize = 100;
/// Longest name of one, in bytes.
const IGNORED_QUERY_BYTES_MAX: usize = 256;
/// Shorter heartbeats would be a load of their own, longer ones would come after the proxies on the way have given up.
const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
const HEARTBEAT_MAX: Duration = Duration::from_secs(300);

/// [`v1::RestOptions`]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// Query parameters that name no field.
    pub unknown_query: UnknownInput,
    /// Query parameters that are passed over in any case; sorted.
    pub ignored_query: Vec<String>,
    /// JSON body fields that name no field.
    pub unknown_fields: UnknownInput,
    /// Enum names in a body that the enum does not have.
    pub unknown_enums: UnknownInput,
    /// Of a key that stands twice in one object the last one counts; otherwise it is refused.
    pub duplicate_keys: bool,
    /// A body where the rule has none.
    pub excess_body: UnknownInput,
    /// `+` in a query is a plus and no space.
    pub literal_plus: bool,
    /// Variables of several segments are decoded but for `%2F`.
    pub decode_reserved: bool,
    /// Answers hold fields that have their default values.
    pub print_defaults: bool,
    /// Answers use the names of the .proto file.
    pub proto_names: bool,
    /// Answers hold enum numbers.
    pub enum_numbers: bool,
    /// `SIDE_BUY` of an enum `Side` is `BUY`, both ways.
    pub enum_strip_prefix: bool,
    /// Requests may write enum names in any case.
    pub enum_any_case: bool,
    /// What errors look like.
    pub errors: ErrorForm,
    /// Methods without annotation are called by `POST /package.Service/Method`.
    pub unannotated: bool,
    /// `Grpc-Metadata-Tenant` is the metadata `tenant`.
    pub strip_metadata_prefix: bool,
    /// Answers are compressed for those who ask.
    pub compress: bool,
    /// Server-Sent Events.
    pub sse: Sse,
    /// Headers of requests that fill a field of the request message.
    pub request_headers: Vec<HeaderField>,
    /// Fields of a unary answer that are headers of it too.
    pub response_headers: Vec<HeaderField>,
}

/// What to do with input that names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownInput {
    /// Answer 400.
    Reject,
    /// Go on without it.
    Ignore,
}

/// What errors look like to HTTP/JSON callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorForm {
    /// `google.rpc.Status`
    Status,
    /// A problem document (RFC 9457) for those who ask for one.
    Negotiate,
    /// A problem document.
    Problem,
}

/// How Server-Sent Events are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sse {
    /// A comment line whenever nothing else was sent for this long.
    pub heartbeat: Option<Duration>,
    /// Each event has its number in the stream as its id.
    pub ids: bool,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            unknown_query: UnknownInput::Reject,
            ignored_query: Vec::new(),
            unknown_fields: UnknownInput::Ignore,
            unknown_enums: UnknownInput::Reject,
            duplicate_keys: false,
            excess_body: UnknownInput::Reject,
            literal_plus: false,
            decode_reserved: false,
            print_defaults: false,
            proto_names: false,
            enum_numbers: false,
            enum_strip_prefix: false,
            enum_any_case: false,
            errors: ErrorForm::Status,
            unannotated: false,
            strip_metadata_prefix: false,
            compress: true,
            sse: Sse::default(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
        }
    }
}

impl Rest {
    /// The headers that stand for fields, by their place in a document.
    #[must_use]
    pub fn header_fields(&self) -> [(&'static str, &[HeaderField]); 2] {
        [
            ("requestHeaders", &self.request_headers),
            ("responseHeaders", &self.response_headers),
        ]
    }
}

impl TryFrom<v1::RestOptions> for Rest {
    type Error = Faults;

    fn try_from(message: v1::RestOptions) -> Result<Self, Faults> {
        use UnknownInput::{Ignore, Reject};
        use rest_options::{
            Compression, DuplicateKeys, EnumCase, EnumPrefix, Errors, MetadataPrefix, PlusInQuery,
            ReservedExpansion,
        };
        let mut faults = Check::default();
        let check = &mut faults;
        let rest = Self {
            unknown_query: unknown("unknownQuery", message.unknown_query, Reject, check),
            ignored_query: ignored(message.ignored_query, check),
            unknown_fields: unknown("unknownFields", message.unknown_fields, Ignore, check),
            unknown_enums: unknown("unknownEnums", message.unknown_enums, Reject, check),
            duplicate_keys: is(
                "duplicateKeys",
                message.duplicate_keys,
                DuplicateKeys::Last,
                "reject or last",
                check,
            ),
            excess_body: unknown("excessBody", message.excess_body, Reject, check),
            literal_plus: is(
                "plusInQuery",
                message.plus_in_query,
                PlusInQuery::Literal,
                "space or literal",
                check,
            ),
            decode_reserved: is(
                "reservedExpansion",
                message.reserved_expansion,
                ReservedExpansion::Decode,
                "keep or decode",
                check,
            ),
            print_defaults: message.print_defaults,
            proto_names: message.proto_names,
            enum_numbers: message.enums_as_numbers,
            enum_strip_prefix: is(
                "enumPrefix",
                message.enum_prefix,
                EnumPrefix::Strip,
                "keep or strip",
                check,
            ),
            enum_any_case: is(
                "enumCase",
                message.enum_case,
                EnumCase::Any,
                "exact or any",
                check,
            ),
            errors: match read("errors", message.errors, "status, negotiate or problem", check) {
                Errors::Unspecified | Errors::Status => ErrorForm::Status,
                Errors::Negotiate => ErrorForm::Negotiate,
                Errors::Problem => ErrorForm::Problem,
            },
            unannotated: message.unannotated,
            strip_metadata_prefix: is(
                "metadataPrefix",
                message.metadata_prefix,
                MetadataPrefix::Strip,
                "keep or strip",
                check,
            ),
            compress: !is(
                "compression",
                message.compression,
                Compression::Never,
                "negotiate or never",
                check,
            ),
            sse: sse(message.sse.unwrap_or_default(), check),
            request_headers: read_all(Side::Request, message.request_headers, check),
            response_headers: read_all(Side::Response, message.response_headers, check),
        };
        if rest.enum_numbers && rest.enum_strip_prefix {
            check.fault(
                "enumPrefix",
                "strip says nothing where enumsAsNumbers is true; leave one of them out",
            );
        }
        faults.finish(Some(rest))
    }
}

/// Reads an enum; a number that is none is told with the words there are.
fn read<E: TryFrom<i32> + Default>(place: &str, value: i32, words: &str, check: &mut Check) -> E {
    E::try_from(value).unwrap_or_else(|_| {
        check.fault(place, format!("{value} is not known; write {words}"));
        E::default()
    })
}

/// Whether an enum says this one word.
fn is<E: TryFrom<i32> + Default + PartialEq + Copy>(
    place: &str,
    value: i32,
    word: E,
    words: &str,
    check: &mut Check,
) -> bool {
    read::<E>(place, value, words, check) == word
}

fn unknown(place: &str, value: i32, default: UnknownInput, check: &mut Check) -> UnknownInput {
    match read(place, value, "reject or ignore", check) {
        v1::Unknown::Unspecified => default,
        v1::Unknown::Reject => UnknownInput::Reject,
        v1::Unknown::Ignore => UnknownInput::Ignore,
    }
}

fn ignored(names: Vec<String>, check: &mut Check) -> Vec<String> {
    if names.len() > IGNORED_QUERY_MAX {
        check.fault(
            "ignoredQuery",
            format!(
                "names {} parameters; at most {IGNORED_QUERY_MAX} are allowed",
                names.len()
            ),
        );
    }
    let mut all = BTreeSet::new();
    for (index, name) in names.into_iter().enumerate() {
        let place = format!("ignoredQuery[{index}]");
        if name.is_empty() || name.len() > IGNORED_QUERY_BYTES_MAX {
            check.fault(place, format!("names are 1 to {IGNORED_QUERY_BYTES_MAX} bytes"));
        } else if all.contains(&name) {
            check.fault(place, format!("{} stands here twice", quote(&name)));
        } else {
            all.insert(name);
        }
    }
    all.into_iter().collect()
}

fn sse(message: v1::SseOptions, check: &mut Check) -> Sse {
    Sse {
        heartbeat: duration(
            "sse.heartbeat",
            message.heartbeat,
            HEARTBEAT_MIN,
            HEARTBEAT_MAX,
            check,
        ),
        ids: message.ids,
    }
}
