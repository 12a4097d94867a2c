//! Who may call what, and who is who: by certificate, by policy, by token.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use mesh_examples::market::quotes_client::QuotesClient;
use mesh_examples::market::{GetQuoteRequest, ListQuotesRequest};
use mesh_link::ca::CertificateAuthority;
use mesh_link::{Credentials, tls};
use mesh_proto::name::{ServiceName, SpiffeId, TrustDomain};
use mesh_tests::documents::{instance, policy};
use mesh_tests::{App, Curl, Folder, Mesh, Sidecar, call, eventually, mesh::create_authority, tokens};
use tonic::{Code, Status};

fn list_quotes(caller: &Sidecar) -> Result<usize, Status> {
    call::block_on(async {
        let listed = caller.client().list_quotes(ListQuotesRequest::default()).await?;
        Ok(listed.into_inner().quotes.len())
    })
}

#[track_caller]
fn is_denied<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
}

#[test]
fn everybody_may_call_until_a_policy_names_the_service_and_then_only_those_it_allows() {
    let mesh = Mesh::start();
    let quotes = mesh.quotes("a");
    let (portfolio, other) = (mesh.caller("web.portfolio"), mesh.caller("web.other"));
    portfolio.reaches(&["a"]);
    other.reaches(&["a"]);

    // Right after `apply --wait` has come back, the very next call is judged anew.
    mesh.apply(&policy("nobody", "[]"));
    let before = quotes.app.calls();
    is_denied(portfolio.quote());
    is_denied(other.quote());

    mesh.apply(&policy(
        "one-method",
        "[{methods: [market.v1.Quotes/GetQuote], callers: [service: web.portfolio]}]",
    ));
    portfolio.quote().unwrap();
    is_denied(list_quotes(&portfolio));
    is_denied(other.quote());

    mesh.apply(&policy(
        "one-method",
        "[{methods: [market.v1.Quotes/*], callers: [identity: 'spiffe://mesh.local/service/web.other']}]",
    ));
    is_denied(portfolio.quote());
    other.quote().unwrap();
    assert_eq!(list_quotes(&other).unwrap(), 6);
    assert_eq!(quotes.app.calls(), before + 3);

    for name in ["one-method", "nobody"] {
        let _ = mesh.ctl(&["delete", "access-policy", name]).ok();
    }
    eventually("without a policy everybody may call again", || {
        portfolio.quote().ok()
    });
}

#[test]
fn a_policy_for_one_service_says_nothing_of_another() {
    let mesh = Mesh::start();
    let _quotes = mesh.quotes("a");
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a"]);
    mesh.apply(&policy("nobody", "[]").replace("service: market.quotes", "service: market.orders"));
    caller.quote().unwrap();
}

#[test]
fn a_rule_about_tokens_holds_between_services_too() {
    let mesh = Mesh::start();
    mesh.apply_file("login.yaml");
    let quotes = mesh.quotes("a");
    let caller = mesh.caller("web.portfolio");
    caller.reaches(&["a"]);
    mesh.apply(&policy(
        "readers",
        "[{jwt: {provider: login, claims: {scope: quotes.read}}}]",
    ));
    let before = quotes.app.calls();
    let with = |name: Option<&str>| {
        call::block_on(async {
            let mut request = tonic::Request::new(GetQuoteRequest {
                symbol: "ACME".into(),
            });
            if let Some(name) = name {
                let value = format!("Bearer {}", tokens().get(name));
                request
                    .metadata_mut()
                    .insert("authorization", value.parse().unwrap());
            }
            caller.client().get_quote(request).await
        })
    };
    assert_eq!(with(None).unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(with(Some("expired")).unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(
        with(Some("wrong_audience")).unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(
        with(Some("without_scope")).unwrap_err().code(),
        Code::PermissionDenied
    );
    assert_eq!(quotes.app.calls(), before);
    with(Some("good")).unwrap();
}

/// Whoever calls the inbound port of a sidecar directly, with these credentials.
fn call_directly(inbound: &str, own: Option<&Credentials>, authorities: &Path) -> Result<String, Status> {
    let pem = std::fs::read_to_string(authorities).unwrap();
    let authorities = mesh_link::credentials::read_authorities(&pem).unwrap();
    let expected = identity("market.quotes");
    let config = tls::client_config(own, &authorities, expected).unwrap();
    call::block_on(async {
        let channel = mesh_link::grpc::channel(inbound, config).unwrap();
        let mut client = QuotesClient::new(channel);
        let answer = client
            .get_quote(GetQuoteRequest {
                symbol: "ACME".into(),
            })
            .await?;
        Ok(answer.into_inner().asked_by)
    })
}

fn identity(service: &str) -> SpiffeId {
    let domain = TrustDomain::parse("mesh.local").unwrap();
    SpiffeId::service(&domain, &ServiceName::parse(service).unwrap())
}

fn issue(ca: &Path, service: &str, lifetime: Duration) -> Credentials {
    let authority = CertificateAuthority::load(ca).unwrap();
    let issued = authority.issue(&identity(service), lifetime).unwrap();
    Credentials::from_pem(&issued.chain_pem, &issued.key_pem, authority.bundle_pem()).unwrap()
}

#[test]
fn the_inbound_port_talks_to_nobody_without_a_certificate_of_this_mesh() {
    let mesh = Mesh::start();
    let quotes = mesh.quotes("a");
    let ca = mesh.folder.join("ca");
    let strangers = Folder::new();
    create_authority(&strangers.join("ca"));
    let inbound = &quotes.sidecar.inbound;
    let bundle = ca.join("ca.pem");
    let hour = Duration::from_secs(3600);

    let good = issue(&ca, "web.portfolio", hour);
    assert_eq!(
        call_directly(inbound, Some(&good), &bundle).unwrap(),
        "spiffe://mesh.local/service/web.portfolio"
    );
    let before = quotes.app.calls();

    assert!(call_directly(inbound, None, &bundle).is_err(), "no certificate");
    let foreign = issue(&strangers.join("ca"), "web.portfolio", hour);
    assert!(
        call_directly(inbound, Some(&foreign), &bundle).is_err(),
        "another authority, same names"
    );
    let short = issue(&ca, "web.portfolio", Duration::from_secs(1));
    std::thread::sleep(Duration::from_secs(3));
    assert!(call_directly(inbound, Some(&short), &bundle).is_err(), "expired");
    // And the other way: a caller that believes another authority does not talk to this one.
    assert!(call_directly(inbound, Some(&good), &strangers.join("ca/ca.pem")).is_err());

    let plaintext = Curl::get(format!("http://{inbound}/v1/quotes/ACME")).call();
    assert_eq!(plaintext.status, 0, "{plaintext:?}");
    let web_tls = Curl::get(format!("https://{inbound}/v1/quotes/ACME"))
        .with(&["--insecure"])
        .call();
    assert_eq!(web_tls.status, 0, "{web_tls:?}");
    let old_tls = Curl::get(format!("https://{inbound}/"))
        .with(&["--insecure", "--tls-max", "1.2"])
        .call();
    assert_eq!(old_tls.status, 0, "{old_tls:?}");
    assert_eq!(quotes.app.calls(), before);
}

#[test]
fn an_endpoint_that_is_not_who_it_should_be_is_not_talked_to() {
    let mesh = Mesh::start();
    let wrong_app = App::quotes("wrong");
    let wrong = mesh.sidecar("web.portfolio", "w").app(&wrong_app.address).start();
    // Somebody writes that market.quotes is where web.portfolio is.
    mesh.apply(&instance("market.quotes/spoofed", &wrong.inbound, "mtls"));
    let caller = mesh.caller("web.caller");
    let status = eventually("the call is refused for the connection", || {
        caller
            .quote()
            .err()
            .filter(|status| status.message().contains("connect") || status.code() == Code::Unavailable)
    });
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(wrong_app.calls(), 0);
    // The true one beside it takes all calls.
    let _quotes = mesh.quotes("a");
    eventually("the true instance answers", || caller.quote().ok());
    for _ in 0..30 {
        assert_eq!(caller.quote().unwrap().served_by, "a");
    }
    assert_eq!(wrong_app.calls(), 0);
}

#[test]
fn nobody_but_an_operator_writes_documents_and_nobody_registers_for_others() {
    use mesh_proto::v1::documents_client::DocumentsClient;
    use mesh_proto::v1::registration_client::RegistrationClient;
    use mesh_proto::v1::{Instance, InstanceSpec, ListRequest, Metadata, RegisterRequest};

    let mesh = Mesh::start();
    let ca = mesh.folder.join("ca");
    let pem = std::fs::read_to_string(ca.join("ca.pem")).unwrap();
    let authorities = mesh_link::credentials::read_authorities(&pem).unwrap();
    let expected = SpiffeId::parse("spiffe://mesh.local/xds-lite").unwrap();
    let own = issue(&ca, "market.quotes", Duration::from_secs(600));
    let channel = |own: Option<&Credentials>| {
        let config = tls::client_config(own, &authorities, expected.clone()).unwrap();
        mesh_link::grpc::channel(&mesh.replicas[0].grpc, config).unwrap()
    };
    let instance = |name: &str| RegisterRequest {
        instance: Some(Instance {
            metadata: Some(Metadata {
                name: name.into(),
                ..Metadata::default()
            }),
            spec: Some(InstanceSpec {
                address: "127.0.0.1".into(),
                port: 1,
                ..InstanceSpec::default()
            }),
        }),
        leave: false,
    };
    let register = async |own: Option<&Credentials>, name: &str| {
        let mut client = RegistrationClient::new(channel(own));
        let mut answers = client
            .register(tokio_stream::iter([instance(name)]))
            .await?
            .into_inner();
        answers.message().await
    };
    call::block_on(async {
        let nobody = DocumentsClient::new(channel(None))
            .list(ListRequest::default())
            .await;
        assert_eq!(nobody.unwrap_err().code(), Code::Unauthenticated);
        let sidecar = DocumentsClient::new(channel(Some(&own)))
            .list(ListRequest::default())
            .await;
        assert_eq!(sidecar.unwrap_err().code(), Code::PermissionDenied);
        assert_eq!(
            register(None, "market.quotes/x").await.unwrap_err().code(),
            Code::Unauthenticated
        );
        let other = register(Some(&own), "web.portfolio/x").await.unwrap_err();
        assert_eq!(other.code(), Code::PermissionDenied, "{other:?}");
    });
    assert_eq!(mesh.instances(), Vec::<String>::new());
}
