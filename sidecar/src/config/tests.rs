//! What a configuration may say, and how it is refused.

use std::path::Path;
use std::time::Duration;

use super::{AccessLog, Config, Source};

const GOOD: &str = "
node: {service: market.quotes, id: a}
control: {servers: ['127.0.0.1:18000'], ca: ca.pem, joinToken: {file: token}, trustDomain: mesh.local}
inbound: {listen: '127.0.0.1:15006', app: '127.0.0.1:9000'}
outbound: {listen: '127.0.0.1:15001'}
edge: {listen: '0.0.0.0:8080', expose: [{service: market.quotes}, {service: web.portfolio, prefix: /portfolio}]}
admin: {listen: '127.0.0.1:15000'}
accessLog: off
";

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::parse(text, Path::new("/etc/mesh"), environment).map_err(|faults| faults.to_string())
}

/// The good configuration with one text in place of another.
fn told(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from} is not in the good one");
    read(&GOOD.replace(from, to), &[]).expect_err("accepted")
}

#[test]
fn a_good_file_means_what_it_says_with_paths_from_its_own_folder_and_defaults_filled_in() {
    let config = read(GOOD, &[]).unwrap();
    let Source::Control(control) = &config.source else {
        panic!("not control")
    };
    assert_eq!(control.ca, Path::new("/etc/mesh/ca.pem"));
    assert_eq!(control.join_token.as_deref(), Some(Path::new("/etc/mesh/token")));
    assert_eq!(&*config.node.address, "127.0.0.1");
    assert_eq!(config.access_log, AccessLog::Off);
    assert_eq!(config.drain.readiness_off, Duration::from_secs(5));
    assert_eq!(config.drain.deadline, Duration::from_secs(30));
    assert!(config.metrics.is_none());
    assert!((1..=4).contains(&config.threads));
    assert_eq!(
        config.edge.unwrap().expose[1].prefix.as_deref(),
        Some("/portfolio")
    );
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let told = read(
        "
node: {service: Market, colour: red}
control: {servers: [nowhere], trustDomain: MESH}
resources: {file: x}
inbound: {listen: here, app: 9000}
outbound: {listen: '0.0.0.0:15001'}
edge: {listen: '127.0.0.1:0', expose: []}
admin: {listen: '0.0.0.0:15000'}
threads: 0
accessLog: maybe
drain: {readinessOff: 40s}
speed: high
",
        &[],
    )
    .unwrap_err();
    for place in [
        "node.colour: is not a setting; known here: address, id, locality, service",
        "node.service: \"Market\" is not a service name",
        "resources: stands beside control",
        "inbound.listen: \"here\" is not an IP address and port",
        "inbound.app: \"9000\" is not an IP address and port",
        "outbound.listen: 0.0.0.0:15001 is not a loopback address",
        "admin.listen: 0.0.0.0:15000 is not a loopback address",
        "edge.expose: is missing",
        "threads: 0 is not between 1 and 64",
        "accessLog: \"maybe\" is not known; write stdout or off",
        "drain.readinessOff: 40s leaves no time",
        "speed: is not a setting; known here: accessLog, admin, control",
    ] {
        assert!(told.contains(place), "{place} is missing in\n{told}");
    }
}

#[test]
fn resources_come_from_exactly_one_place() {
    let without = told(
        "control: {servers: ['127.0.0.1:18000'], ca: ca.pem, joinToken: {file: token}, trustDomain: mesh.local}",
        "",
    );
    assert!(
        without.contains("control: is missing; write control (resources from xds-lite) or resources"),
        "{without}"
    );
}

#[test]
fn a_sidecar_without_a_certificate_is_not_let_in_by_xds_lite_and_cannot_serve_the_mesh() {
    let told = told("joinToken: {file: token}, ", "");
    assert!(told.contains("control.joinToken: is missing"), "{told}");
    let told = read(
        "
node: {service: a}
resources: {file: r.yaml}
inbound: {listen: '127.0.0.1:1', app: '127.0.0.1:2'}
",
        &[],
    )
    .unwrap_err();
    assert!(told.contains("inbound: has no certificate to show"), "{told}");
    let plain = "
node: {service: a}
resources: {file: r.yaml}
inbound: {listen: '127.0.0.1:1', app: '127.0.0.1:2', plaintext: true}
";
    assert!(read(plain, &[]).unwrap().node.id.ends_with("-1"));
}

#[test]
fn a_sidecar_that_does_nothing_is_refused() {
    let told = read("node: {service: a, id: a}\nresources: {file: r.yaml}\n", &[]).unwrap_err();
    assert!(
        told.contains("nothing to do; write at least one of inbound, outbound and edge"),
        "{told}"
    );
}

#[test]
fn an_address_nobody_can_connect_to_is_not_told_to_the_mesh() {
    let told = told("127.0.0.1:15006", "0.0.0.0:15006");
    assert!(
        told.contains("node.address: is missing; inbound.listen is 0.0.0.0:15006"),
        "{told}"
    );
    let text = GOOD.replace("127.0.0.1:15006", "0.0.0.0:15006");
    let config = read(&text, &[("MESH_SIDECAR_NODE__ADDRESS", "10.0.0.7")]).unwrap();
    assert_eq!(&*config.node.address, "10.0.0.7");
    let told = read(&text, &[("MESH_SIDECAR_NODE__ADDRESS", "not an address")]).unwrap_err();
    assert!(
        told.contains("MESH_SIDECAR_NODE__ADDRESS: \"not an address\" is neither"),
        "{told}"
    );
}

#[test]
fn an_id_cannot_be_made_up_from_a_port_that_is_not_known_yet() {
    let text = GOOD
        .replace(", id: a", "")
        .replace("127.0.0.1:15006", "127.0.0.1:0");
    let told = read(&text, &[]).unwrap_err();
    assert!(
        told.contains("node.id: is missing, and cannot be made up while the port is 0"),
        "{told}"
    );
}

#[test]
fn the_environment_overrides_the_file_down_to_its_lists() {
    let config = read(
        GOOD,
        &[
            ("MESH_SIDECAR_INBOUND__LISTEN", "127.0.0.1:16006"),
            ("MESH_SIDECAR_CONTROL__JOIN_TOKEN__FILE", "/run/token"),
            ("MESH_SIDECAR_CONTROL__SERVERS", "a:1, b:2"),
            ("MESH_SIDECAR_DEPENDENCIES", "market.orders,web.portfolio"),
            ("MESH_SIDECAR_EDGE__EXPOSE", "market.quotes,web.portfolio=/p"),
            ("MESH_SIDECAR_DRAIN__READINESS_OFF", "250ms"),
            ("MESH_SIDECAR_THREADS", "2"),
            ("MESH_SIDECAR_LOG", "json"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.inbound.unwrap().listen.port(), 16006);
    let Source::Control(control) = config.source else {
        panic!("not control")
    };
    assert_eq!(control.servers, ["a:1", "b:2"]);
    assert_eq!(control.join_token.as_deref(), Some(Path::new("/run/token")));
    assert_eq!(config.dependencies.len(), 2);
    assert_eq!(config.edge.unwrap().expose[1].prefix.as_deref(), Some("/p"));
    assert_eq!(config.drain.readiness_off, Duration::from_millis(250));
    assert_eq!(config.threads, 2);
}

#[test]
fn an_override_that_names_nothing_or_holds_the_wrong_thing_is_refused_by_its_own_name() {
    let told = read(GOOD, &[("MESH_SIDECAR_INBOUND__LISTENS", "x")]).unwrap_err();
    assert_eq!(
        told,
        "MESH_SIDECAR_INBOUND__LISTENS: overrides nothing; known are MESH_SIDECAR_INBOUND__LISTEN, \
         MESH_SIDECAR_INBOUND__APP, MESH_SIDECAR_INBOUND__PLAINTEXT"
    );
    let told = read(GOOD, &[("MESH_SIDECAR_THREADS", "many")]).unwrap_err();
    assert!(
        told.starts_with("MESH_SIDECAR_THREADS: \"many\" is not a whole number"),
        "{told}"
    );
}

#[test]
fn each_setting_of_the_wrong_type_is_refused_at_its_place_and_only_there() {
    for (from, to, place) in [
        (
            "service: market.quotes, id",
            "service: [a], id",
            "node.service: must be text",
        ),
        (
            "service: market.quotes, id",
            "service: , id",
            "node.service: is blank",
        ),
        ("['127.0.0.1:18000']", "12", "control.servers: must be a list"),
        (
            "['127.0.0.1:18000']",
            "[1]",
            "control.servers: must be a list of texts",
        ),
        ("ca: ca.pem", "ca: {}", "control.ca: must be text"),
        (
            "{file: token}",
            "token",
            "control.joinToken: must hold settings (file)",
        ),
        ("{file: token}", "{}", "control.joinToken.file: is missing"),
        (
            "app: '127.0.0.1:9000'",
            "app: '127.0.0.1:9000', plaintext: perhaps",
            "inbound.plaintext: must be true or false",
        ),
        (
            "app: '127.0.0.1:9000'",
            "app: '127.0.0.1:0'",
            "inbound.app: has port 0",
        ),
        (
            "prefix: /portfolio",
            "prefix: portfolio",
            "edge.expose[1].prefix: \"portfolio\" does not begin with '/'",
        ),
        (
            "prefix: /portfolio",
            "prefix: /",
            "edge.expose[1].prefix: \"/\" ends with '/'",
        ),
        (
            "prefix: /portfolio",
            "prefix: /a//b",
            "edge.expose[1].prefix: \"/a//b\" is not a plain path",
        ),
        ("prefix: /portfolio", "prefix: /a/../b", "edge.expose[1].prefix"),
        (
            "prefix: /portfolio",
            "path: /a",
            "edge.expose[1].path: is not a setting; known here: prefix, service",
        ),
        (
            "service: web.portfolio",
            "service: market.quotes",
            "edge.expose[1].service: market.quotes stands here twice",
        ),
        (
            "127.0.0.1:15000",
            "127.0.0.1:15001",
            "admin.listen: 127.0.0.1:15001 is used by another listener",
        ),
        (
            "trustDomain: mesh.local",
            "trustDomain: ''",
            "control.trustDomain: is missing",
        ),
    ] {
        let told = told(from, to);
        assert!(told.starts_with(place), "{place}\n{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

/// The good configuration with a CORS policy, or what is wrong with it.
fn with_cors(cors: &str) -> Result<Config, String> {
    let from = "edge: {listen: '0.0.0.0:8080',";
    assert!(GOOD.contains(from));
    read(&GOOD.replace(from, &format!("{from} cors: {cors},")), &[])
}

#[test]
fn a_cors_policy_names_origins_and_what_their_pages_may_send_and_read() {
    let config = with_cors(
        "{origins: ['https://app.example.com', 'https://*.example.org'], headers: [X-Tenant], expose: [x-total], \
         credentials: true, maxAge: 1h}",
    )
    .unwrap();
    let cors = config.edge.as_ref().and_then(|edge| edge.cors.clone()).unwrap();
    assert_eq!(cors.origins.len(), 2);
    assert_eq!(cors.headers.unwrap(), ["x-tenant"]);
    assert_eq!(cors.expose, ["x-total"]);
    assert!(cors.credentials);
    assert_eq!(cors.max_age, Duration::from_secs(3600));
    assert_eq!(
        config.to_json()["edge"]["cors"]["origins"][1],
        "https://*.example.org"
    );
    let all = with_cors("{origins: ['*'], headers: ['*']}").unwrap();
    assert!(all.edge.and_then(|edge| edge.cors).unwrap().headers.is_none());
}

#[test]
fn a_cors_policy_that_lets_nobody_or_too_many_in_is_refused() {
    for (cors, place) in [
        ("{}", "edge.cors.origins: is missing"),
        ("{origins: []}", "edge.cors.origins: is missing"),
        (
            "{origins: [app.example.com]}",
            "edge.cors.origins[0]: \"app.example.com\" has no scheme",
        ),
        (
            "{origins: ['https://a.b'], headers: ['x y']}",
            "edge.cors.headers[0]: \"x y\" is not a header name",
        ),
        (
            "{origins: ['https://a.b'], maxAge: 25h}",
            "edge.cors.maxAge: is over",
        ),
        (
            "{origins: ['*'], credentials: true}",
            "edge.cors.credentials: cannot go with the origin *",
        ),
        (
            "{origins: ['https://a.b'], methods: [GET]}",
            "edge.cors.methods: is not a setting",
        ),
    ] {
        let told = with_cors(cors).unwrap_err();
        assert!(told.contains(place), "{place}\n{told}");
    }
}

#[test]
fn durations_need_a_unit() {
    for bad in [
        "5",
        "s",
        "5 s",
        "-5s",
        "5d",
        "",
        "99999999999999999999s",
        "18446744073709551615h",
    ] {
        let told = read(&format!("{GOOD}drain: {{deadline: '{bad}'}}\n"), &[]).unwrap_err();
        assert!(
            told.contains("drain.deadline: ") && told.contains("is not a duration"),
            "{bad}: {told}"
        );
    }
}

#[test]
fn what_is_not_yaml_is_told_in_one_line() {
    for bad in ["node: [", "\t", "a: 1\na: 2", "- 1", "just text"] {
        let told = read(bad, &[]).unwrap_err();
        assert!(!told.is_empty(), "{bad:?}");
    }
}

#[test]
fn a_missing_file_is_told_with_its_name() {
    let told = Config::read(Path::new("/nonexistent/sidecar.yaml"), [])
        .unwrap_err()
        .to_string();
    assert!(
        told.starts_with("/nonexistent/sidecar.yaml: is not there"),
        "{told}"
    );
}

#[test]
fn the_configuration_in_force_is_shown_in_the_form_of_the_file() {
    let shown = read(GOOD, &[]).unwrap().to_json();
    assert_eq!(shown["inbound"]["listen"], "127.0.0.1:15006");
    assert_eq!(shown["accessLog"], "off");
    assert!(shown.get("metrics").is_none());
}
