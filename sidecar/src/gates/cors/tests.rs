//! Who may, who may not, and what the browser is told.

use super::*;

fn cors(origins: &[&str]) -> Cors {
    Cors {
        origins: origins
            .iter()
            .map(|text| OriginRule::parse(text).unwrap())
            .collect(),
        headers: Some(Vec::new()),
        expose: Vec::new(),
        credentials: false,
        max_age: MAX_AGE_DEFAULT,
    }
}

fn asked(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

fn marked(policy: &Policy, origin: &'static str) -> HeaderMap {
    let mut answer = HeaderMap::new();
    policy.mark(&policy.grant(&asked(&[("origin", origin)])), &mut answer);
    answer
}

#[test]
fn an_origin_is_told_exactly_or_by_its_domain_and_by_nothing_that_only_looks_like_it() {
    let policy = Policy::new(&cors(&[
        "https://app.example.com",
        "https://*.corp.example.org:8443",
    ]));
    for good in [
        "https://app.example.com",
        "https://a.corp.example.org:8443",
        "https://a.b.corp.example.org:8443",
    ] {
        assert!(policy.allows(good), "{good}");
    }
    for bad in [
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.net",
        "https://evil-app.example.com",
        "https://APP.example.com",
        "https://corp.example.org:8443",
        "https://.corp.example.org:8443",
        "https://evilcorp.example.org:8443",
        "https://a.corp.example.org",
        "https://evil.net/.corp.example.org:8443",
        "https://evil.net?.corp.example.org:8443",
        "https://user@a.corp.example.org:8443",
        "null",
        "",
        "*",
    ] {
        assert!(!policy.allows(bad), "{bad}");
    }
}

#[test]
fn an_origin_that_may_not_gets_no_header_but_the_word_that_it_mattered() {
    let policy = Policy::new(&cors(&["https://app.example.com"]));
    let refused = marked(&policy, "https://evil.net");
    assert_eq!(refused.keys().collect::<Vec<_>>(), ["vary"]);
    assert_eq!(refused[VARY], "origin");
    let mut preflight = HeaderMap::new();
    let evil = asked(&[("origin", "https://evil.net")]);
    policy.mark_preflight(&policy.grant(&evil), &evil, "GET", &mut preflight);
    assert!(preflight.keys().all(|name| *name == VARY), "{preflight:?}");
}

#[test]
fn two_origins_are_none() {
    let policy = Policy::new(&cors(&["*"]));
    let mut two = asked(&[("origin", "https://a.net")]);
    two.append(ORIGIN, HeaderValue::from_static("https://b.net"));
    assert_eq!(policy.grant(&two), Grant { origin: None });
}

#[test]
fn an_allowed_page_may_read_what_grpc_and_connect_clients_need() {
    let policy = Policy::new(&cors(&["https://app.example.com"]));
    let answer = marked(&policy, "https://app.example.com");
    assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example.com");
    let exposed = answer[ACCESS_CONTROL_EXPOSE_HEADERS].to_str().unwrap();
    for name in [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "x-mesh-reason",
    ] {
        assert!(exposed.split(", ").any(|told| told == name), "{name}");
    }
    assert!(!answer.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
}

#[test]
fn what_the_service_says_about_cors_does_not_get_out() {
    let policy = Policy::new(&cors(&["https://app.example.com"]));
    let mut answer = asked(&[
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("vary", "accept"),
    ]);
    policy.mark(&policy.grant(&HeaderMap::new()), &mut answer);
    assert_eq!(answer.keys().collect::<Vec<_>>(), ["vary"]);
    assert_eq!(answer.get_all(VARY).iter().count(), 2);
}

#[test]
fn everybody_is_a_star_and_credentials_never_go_with_it() {
    let open = Policy::new(&cors(&["*"]));
    let answer = marked(&open, "https://anything.net");
    assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert!(!answer.contains_key(VARY));
    let named = Policy::new(&Cors {
        credentials: true,
        ..cors(&["*"])
    });
    let answer = marked(&named, "https://anything.net");
    assert!(!answer.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
}

#[test]
fn a_preflight_is_told_methods_headers_and_how_long_to_remember() {
    let policy = Policy::new(&Cors {
        headers: Some(vec![HeaderName::from_static("x-tenant")]),
        credentials: true,
        max_age: Duration::from_secs(60),
        ..cors(&["https://app.example.com"])
    });
    let request = asked(&[("origin", "https://app.example.com")]);
    let mut answer = HeaderMap::new();
    policy.mark_preflight(&policy.grant(&request), &request, "GET, HEAD", &mut answer);
    assert_eq!(answer[ACCESS_CONTROL_ALLOW_METHODS], "GET, HEAD");
    assert_eq!(answer[ACCESS_CONTROL_MAX_AGE], "60");
    assert_eq!(answer[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
    let allowed = answer[ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap();
    for name in [
        "x-tenant",
        "content-type",
        "x-grpc-web",
        "connect-protocol-version",
    ] {
        assert!(allowed.split(", ").any(|told| told == name), "{name}");
    }
}

#[test]
fn where_all_headers_may_be_sent_those_asked_for_are_named_and_nothing_that_is_no_name() {
    let policy = Policy::new(&Cors {
        headers: None,
        ..cors(&["*"])
    });
    let told = |asked_for: &'static str| {
        let request = asked(&[
            ("origin", "https://a.net"),
            ("access-control-request-headers", asked_for),
        ]);
        let mut answer = HeaderMap::new();
        policy.mark_preflight(&policy.grant(&request), &request, "GET", &mut answer);
        answer.get(ACCESS_CONTROL_ALLOW_HEADERS).cloned()
    };
    assert_eq!(told("X-One,  x-two").unwrap(), "x-one, x-two");
    assert_eq!(told("x one"), None);
}

#[test]
fn rules_that_could_not_match_or_would_match_too_much_are_refused() {
    for bad in [
        "app.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://App.example.com",
        "ftp://app.example.com",
        "https://*",
        "https://*.com",
        "https://a.*.example.com",
        "https://app.example.com:443",
        "https://app.example.com:0",
        "https://app.example.com:99999",
        "null",
        "",
    ] {
        assert!(OriginRule::parse(bad).is_err(), "{bad}");
    }
    for good in [
        "*",
        "http://localhost:5173",
        "https://*.example.com",
        "https://a.b:8443",
    ] {
        assert_eq!(OriginRule::parse(good).unwrap().to_string(), good);
    }
}

#[test]
fn only_options_with_an_origin_and_a_method_is_a_preflight() {
    let of = |method: &str, names: &[&str]| {
        let mut request = http::Request::builder().method(method);
        for name in names {
            request = request.header(*name, "x");
        }
        is_preflight(&request.body(()).unwrap().into_parts().0)
    };
    assert!(of("OPTIONS", &["origin", "access-control-request-method"]));
    assert!(!of("OPTIONS", &["origin"]));
    assert!(!of("OPTIONS", &["access-control-request-method"]));
    assert!(!of("GET", &["origin", "access-control-request-method"]));
}
