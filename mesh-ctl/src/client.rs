//! Talking to xds-lite: credentials, servers tried in turn, and what each refusal means to the person who asked.

use std::path::Path;
use std::time::Duration;

use mesh_link::credentials::Credentials;
use mesh_link::{grpc, tls};
use mesh_proto::Kind;
use mesh_proto::name::{SpiffeId, TrustDomain};
use mesh_proto::v1::documents_client::DocumentsClient;
use mesh_proto::v1::identity_client::IdentityClient;
use mesh_proto::v1::status_client::StatusClient;
use mesh_proto::v1::{GetRequest, GetStatusRequest, GetStatusResponse, ListRequest, StoredDocument};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::cli::Global;
use crate::failure::{Exit, Failure};

/// Bounds one question and its answer.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest answer: all documents of a kind, schemas included.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Files of a credentials folder, as `ca init` writes them.
pub(crate) const CA_FILE: &str = "ca.pem";
pub(crate) const OPERATOR_FILE: &str = "operator.pem";
pub(crate) const OPERATOR_KEY_FILE: &str = "operator-key.pem";

/// One replica of xds-lite.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: String,
    channel: Channel,
}

impl Server {
    pub(crate) fn documents(&self) -> DocumentsClient<Channel> {
        DocumentsClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn status(&self) -> StatusClient<Channel> {
        StatusClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn identity(&self) -> IdentityClient<Channel> {
        IdentityClient::new(self.channel.clone())
    }
}

/// The servers named on the command line, none of them reached yet.
#[derive(Debug)]
pub(crate) struct Client {
    servers: Vec<Server>,
    dialer: Dialer,
}

impl Client {
    /// Reads the credentials and prepares a channel to each server.
    ///
    /// # Errors
    /// Credentials that are missing or damaged, or an address that is none.
    pub(crate) fn open(global: &Global) -> Result<Self, Failure> {
        let dialer = Dialer::open(global.credentials.as_deref())?;
        let servers: Result<Vec<Server>, Failure> = global
            .server
            .iter()
            .map(|address| dialer.server(address.trim()).map_err(Failure::usage))
            .collect();
        let servers = servers.map_err(|failure| {
            failure.hint("name it with --server HOST:PORT or MESH_SERVER; several with commas between")
        })?;
        Ok(Self { servers, dialer })
    }

    /// A server that is not on the command line: another replica.
    ///
    /// # Errors
    /// The address is none.
    pub(crate) fn replica(&self, address: &str) -> Result<Server, String> {
        self.dialer.server(address)
    }

    /// Asks the first server that answers. A server that cannot be reached, or is not ready, never did anything: the next
    /// one is asked. Any other answer is the answer.
    ///
    /// # Errors
    /// The refusal, or that no server can be reached.
    pub(crate) async fn ask<T>(
        &self,
        question: impl AsyncFn(Server) -> Result<tonic::Response<T>, Status>,
    ) -> Result<(Server, T), Failure> {
        let mut unreachable: Vec<String> = Vec::new();
        for server in &self.servers {
            match bounded(question(server.clone())).await {
                Ok(answer) => return Ok((server.clone(), answer)),
                Err(status) if nothing_was_done(&status) => {
                    unreachable.push(grpc::explain(&server.address, &status));
                }
                Err(status) => return Err(refusal(&server.address, &status)),
            }
        }
        let mut told = unreachable.into_iter();
        let first = told.next().unwrap_or_else(|| "no server is named".into());
        Err(unreachable_hints(
            Failure::new(Exit::Unreachable, first).lines(told),
        ))
    }

    /// Every document of a kind.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(crate) async fn list(&self, kind: Kind) -> Result<Vec<StoredDocument>, Failure> {
        let request = ListRequest {
            kind: kind.as_str().into(),
        };
        let (_, answer) = self
            .ask(async |server| server.documents().list(request.clone()).await)
            .await?;
        Ok(answer.documents)
    }

    /// One document; `None` if there is none.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(crate) async fn get(&self, kind: Kind, name: &str) -> Result<Option<StoredDocument>, Failure> {
        let request = GetRequest {
            kind: kind.as_str().into(),
            name: name.into(),
        };
        let question = async |server: Server| match server.documents().get(request.clone()).await {
            Ok(found) => Ok(found.map(Some)),
            Err(status) if status.code() == Code::NotFound => Ok(tonic::Response::new(None)),
            Err(status) => Err(status),
        };
        Ok(self.ask(question).await?.1)
    }

    /// The state of the first replica that answers.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(crate) async fn state(
        &self,
        filter: &GetStatusRequest,
    ) -> Result<(Server, GetStatusResponse), Failure> {
        self.ask(async |server| server.status().get_status(filter.clone()).await)
            .await
    }

    /// Says that there is no such document, with names that are close.
    pub(crate) async fn not_found(&self, kind: Kind, name: &str) -> Failure {
        let failure = Failure::refused(format!("there is no {kind} named {name:?}"));
        let names: Vec<String> = match self.list(kind).await {
            Ok(stored) => stored
                .iter()
                .map(|s| crate::commands::name_of(s).to_owned())
                .collect(),
            Err(_) => Vec::new(),
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let close = similar::get_close_matches(name, &names, 3, 0.6);
        let list = format!(
            "`mesh-ctl get {}` lists what there is",
            kind.as_str().to_ascii_lowercase()
        );
        if close.is_empty() {
            failure.hint(list)
        } else {
            failure.hint(format!("did you mean {}? {list}", close.join(" or ")))
        }
    }
}

/// Waits for an answer no longer than [`CALL_TIMEOUT`].
pub(crate) async fn bounded<T>(
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(CALL_TIMEOUT, answer).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer within {}s",
            CALL_TIMEOUT.as_secs()
        ))),
    }
}

/// Who we are, and whom to expect at the other end.
#[derive(Debug)]
struct Dialer {
    credentials: Credentials,
    expected: SpiffeId,
}

impl Dialer {
    fn open(dir: Option<&Path>) -> Result<Self, Failure> {
        let hint = |failure: Failure, dir: &str| {
            failure.hint(format!(
                "make them with `mesh-ctl ca init --dir {dir} --trust-domain mesh.local`, then name the folder with \
                 --credentials or MESH_CREDENTIALS"
            ))
        };
        let Some(dir) = dir else {
            let told = "no credentials are named, and xds-lite answers operators only";
            return Err(hint(Failure::usage(told), "DIR"));
        };
        let read = Credentials::from_files(
            &dir.join(OPERATOR_FILE),
            &dir.join(OPERATOR_KEY_FILE),
            &dir.join(CA_FILE),
        );
        let credentials = read.map_err(|faults| {
            let failure = Failure::faults("the credentials cannot be used", &faults);
            hint(
                Failure {
                    exit: Exit::Usage,
                    ..failure
                },
                &dir.display().to_string(),
            )
        })?;
        let expected = TrustDomain::parse(credentials.id.trust_domain())
            .map(|domain| SpiffeId::control(&domain))
            .map_err(|why| Failure::usage(format!("the trust domain of {} {why}", credentials.id)))?;
        Ok(Self {
            credentials,
            expected,
        })
    }

    fn server(&self, address: &str) -> Result<Server, String> {
        let plain = address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !plain {
            return Err(format!("{address:?} is not an address; write host:port"));
        }
        let tls = tls::client_config(
            Some(&self.credentials),
            &self.credentials.authorities,
            self.expected.clone(),
        )?;
        Ok(Server {
            address: address.to_owned(),
            channel: grpc::channel(address, tls)?,
        })
    }
}

/// Whether a server surely did nothing: it was never reached, or said itself that it is not ready.
fn nothing_was_done(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    if cause.is_none() {
        return status.code() == Code::Unavailable;
    }
    while let Some(error) = cause {
        // The time to connect is told as an I/O error around the clock's; all else on the way there as a connect error.
        let out_of_time = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .is_some_and(<dyn std::error::Error + Send + Sync>::is::<tokio::time::error::Elapsed>);
        if out_of_time || error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn unreachable_hints(failure: Failure) -> Failure {
    failure.hint(
        "start one with `xds-lite --registry file:DIR --ca DIR`, or say where it listens with --server or MESH_SERVER",
    )
}

/// What a refusal means to the person who asked.
pub(crate) fn refusal(server: &str, status: &Status) -> Failure {
    let told = if status.message().is_empty() {
        format!("{server} answers {:?}", status.code())
    } else {
        status.message().to_owned()
    };
    // What has a cause of its own came from the connection, not from the server, whatever its code.
    let connection_broke = std::error::Error::source(status).is_some();
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => lost(server, status, told),
        _ if connection_broke => lost(server, status, told),
        Code::InvalidArgument => Failure { lines: violations(status, &told), ..Failure::refused("") }
            .hint("nothing was changed; mend what is named and try again"),
        Code::Unauthenticated => Failure::refused(told)
            .hint("--credentials or MESH_CREDENTIALS names the folder with operator.pem that `mesh-ctl ca init` made"),
        Code::PermissionDenied => {
            Failure::refused(told).hint("this needs an operator's certificate, signed by the authority of that mesh")
        }
        Code::Aborted => Failure::refused(told).hint(
            "somebody else wrote in between: look with `mesh-ctl get KIND NAME`, then apply again with the revision \
             it shows",
        ),
        Code::FailedPrecondition if told.contains("refer") => {
            Failure::refused(told).hint("remove or change what refers to it first")
        }
        Code::Unimplemented => Failure::refused(format!("{server} does not know this call: {told}"))
            .hint("is that the gRPC port of an xds-lite of the same version?"),
        Code::OutOfRange | Code::ResourceExhausted => {
            Failure::refused(told).hint("send fewer or smaller documents at once")
        }
        _ => Failure::refused(told).hint("`mesh-ctl status` tells how xds-lite and its registry are"),
    }
}

fn lost(server: &str, status: &Status, told: String) -> Failure {
    let explained = Some(grpc::explain(server, status)).filter(|text| !text.is_empty());
    let failure = Failure::new(Exit::Unreachable, explained.unwrap_or(told));
    // The system and the library write it differently.
    let said = failure.lines[0].to_ascii_lowercase();
    if ["connection closed", "reset by peer", "broken pipe"]
        .iter()
        .any(|end| said.contains(end))
    {
        // In TLS 1.3 a server judges our certificate after we think we are through, and its verdict may be lost.
        return failure
            .hint("it may not believe us: was operator.pem signed by the authority of that xds-lite?");
    }
    unreachable_hints(failure)
}

/// What is wrong with a request, one line each.
fn violations(status: &Status, told: &str) -> Vec<String> {
    let listed = status
        .get_details_bad_request()
        .map(|bad| bad.field_violations)
        .unwrap_or_default();
    let mut lines: Vec<String> = listed
        .iter()
        .map(|violation| match violation.field.trim_end_matches(':') {
            "" => violation.description.clone(),
            place => format!("{place}: {}", violation.description),
        })
        .collect();
    match lines.len() {
        0 => vec![told.to_owned()],
        1 => lines,
        many => {
            lines.insert(0, format!("{many} faults; nothing was stored"));
            lines
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn every_violation_of_a_refused_request_is_listed() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("Service/a: spec.timeout", "is over 1h");
        details.add_bad_request_violation("Service/b:", "is blank");
        let status = Status::with_error_details(Code::InvalidArgument, "two faults", details);
        let failure = refusal("h:1", &status);
        assert_eq!(
            failure.lines,
            [
                "2 faults; nothing was stored",
                "Service/a: spec.timeout: is over 1h",
                "Service/b: is blank"
            ]
        );
        assert_eq!(failure.exit, Exit::Refused);
        let bare = refusal("h:1", &Status::invalid_argument("bad"));
        assert_eq!(bare.lines, ["bad"]);
    }

    #[test]
    fn only_what_surely_did_nothing_is_asked_elsewhere() {
        assert!(nothing_was_done(&Status::unavailable("not ready")));
        assert!(!nothing_was_done(&Status::aborted("lost")));
        let broken = Status::from_error(Box::new(std::io::Error::other("reset")));
        assert!(!nothing_was_done(&broken));
    }

    #[test]
    fn every_refusal_comes_with_a_hint_and_a_line() {
        for code in 1..17 {
            let failure = refusal("h:1", &Status::new(Code::from(code), ""));
            assert!(
                !failure.lines.is_empty() && !failure.lines[0].is_empty(),
                "{code}"
            );
            assert_eq!(failure.hints.len(), 1, "{code}");
        }
    }
}
