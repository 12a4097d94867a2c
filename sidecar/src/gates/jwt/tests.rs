//! Tokens that are let in, and the many that are not.

use std::sync::LazyLock;

use jsonwebtoken::{EncodingKey, crypto};
use mesh_proto::domain::KeySource;
use rcgen::PublicKeyData;
use serde_json::json;

use super::*;

const NOW: u64 = 1_700_000_000;

struct Signer {
    key: EncodingKey,
    jwk: Value,
}

static OURS: LazyLock<Signer> = LazyLock::new(|| Signer::new("k1"));
static THEIRS: LazyLock<Signer> = LazyLock::new(|| Signer::new("k1"));

impl Signer {
    fn new(kid: &str) -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = EncodingKey::from_ec_der(pair.serialized_der());
        let point = pair.der_bytes();
        let part = |range: std::ops::Range<usize>| BASE64_URL_SAFE_NO_PAD.encode(&point[range]);
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": part(1..33), "y": part(33..65)});
        Self { key, jwk }
    }

    fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = format!(
            "{}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(header),
            BASE64_URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = crypto::sign(signed.as_bytes(), &self.key, Algorithm::ES256).unwrap();
        format!("{signed}.{signature}")
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }
}

fn verifier() -> Verifier {
    let keys = KeySet::parse(json!({"keys": [OURS.jwk]}).to_string().as_bytes()).unwrap();
    let provider = JwtProvider {
        name: "login".into(),
        issuer: "https://login.example.com".into(),
        audiences: vec!["market".into()],
        keys: KeySource::Inline(keys.clone()),
        leeway: Duration::from_secs(30),
        max_lifetime: Duration::from_secs(24 * 3600),
        types: vec!["jwt".into(), "at+jwt".into()],
        forward: false,
    };
    Verifier::new([Arc::new(Provider::new(Arc::new(provider), Some(&keys)))])
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn head() -> Value {
    json!({"alg": "ES256", "typ": "JWT", "kid": "k1"})
}

fn claims() -> Value {
    json!({"iss": "https://login.example.com", "aud": "market", "sub": "alice", "exp": NOW + 600})
}

fn with(mut base: Value, name: &str, value: Value) -> Value {
    base[name] = value;
    base
}

fn without(mut base: Value, name: &str) -> Value {
    base.as_object_mut().unwrap().remove(name);
    base
}

fn judge(token: &str) -> Result<Verified, Reason> {
    let mut headers = HeaderMap::new();
    headers.insert(
        AUTHORIZATION,
        HeaderValue::from_str(&format!("Bearer {token}")).unwrap(),
    );
    verifier()
        .verify(&headers, now())
        .map_err(|refused| refused.rejection.reason)
}

#[test]
fn a_good_token_is_let_in_and_its_claims_are_known() {
    let verified = judge(&OURS.sign(&head(), &claims())).unwrap();
    assert_eq!(
        (&*verified.provider, &verified.claims["sub"]),
        ("login", &json!("alice"))
    );
    assert!(judge(&OURS.sign(&head(), &with(claims(), "aud", json!(["other", "market"])))).is_ok());
    assert!(judge(&OURS.sign(&without(head(), "typ"), &claims())).is_ok());
    assert!(judge(&OURS.sign(&with(head(), "typ", json!("at+JWT")), &claims())).is_ok());
}

#[test]
fn times_are_judged_with_the_leeway_and_not_beyond() {
    let exp = |at: u64| judge(&OURS.sign(&head(), &with(claims(), "exp", json!(at)))).err();
    assert_eq!(exp(NOW - 29), None);
    assert_eq!(exp(NOW - 30), Some(Reason::JwtExpired));
    assert_eq!(exp(NOW + 25 * 3600), Some(Reason::JwtLivesTooLong));
    for name in ["nbf", "iat"] {
        let at = |at: u64| judge(&OURS.sign(&head(), &with(claims(), name, json!(at)))).err();
        assert_eq!(at(NOW + 30), None);
        assert_eq!(at(NOW + 31), Some(Reason::JwtNotYetValid));
    }
}

#[test]
fn claims_of_the_wrong_type_are_refused() {
    for bad in [
        json!(null),
        json!("soon"),
        json!(-1),
        json!({}),
        json!(1e19),
        json!("1e400"),
    ] {
        assert_eq!(
            judge(&OURS.sign(&head(), &with(claims(), "exp", bad.clone()))).unwrap_err(),
            Reason::JwtMalformed,
            "{bad}"
        );
    }
    assert_eq!(
        judge(&OURS.sign(&head(), &without(claims(), "exp"))).unwrap_err(),
        Reason::JwtMalformed
    );
    for bad in [json!(null), json!(1), json!({}), json!([1]), json!(["market", 1])] {
        assert_eq!(
            judge(&OURS.sign(&head(), &with(claims(), "aud", bad.clone()))).unwrap_err(),
            Reason::JwtMalformed,
            "{bad}"
        );
    }
    for bad in [json!(null), json!(1), json!(["https://login.example.com"])] {
        assert_eq!(
            judge(&OURS.sign(&head(), &with(claims(), "iss", bad.clone()))).unwrap_err(),
            Reason::JwtMalformed,
            "{bad}"
        );
    }
}

#[test]
fn audiences_and_issuers_are_compared_exactly() {
    for bad in ["Market", "market.evil", "market/", "*", ""] {
        assert_eq!(
            judge(&OURS.sign(&head(), &with(claims(), "aud", json!(bad)))).unwrap_err(),
            Reason::JwtAudienceWrong,
            "{bad}"
        );
    }
    assert_eq!(
        judge(&OURS.sign(&head(), &with(claims(), "aud", json!([])))).unwrap_err(),
        Reason::JwtAudienceWrong
    );
    assert_eq!(
        judge(&OURS.sign(&head(), &with(claims(), "iss", json!("https://evil")))).unwrap_err(),
        Reason::JwtIssuerUnknown
    );
}

#[test]
fn signatures_that_are_not_the_issuers_are_refused() {
    assert_eq!(
        judge(&THEIRS.sign(&head(), &claims())).unwrap_err(),
        Reason::JwtSignatureWrong
    );
    let good = OURS.sign(&head(), &claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let zeros = BASE64_URL_SAFE_NO_PAD.encode([0u8; 64]);
    assert_eq!(
        judge(&format!("{signed}.{zeros}")).unwrap_err(),
        Reason::JwtSignatureWrong
    );
    assert_eq!(
        judge(&format!("{signed}.{}", &signature[..80])).unwrap_err(),
        Reason::JwtSignatureWrong
    );
    assert_eq!(judge(&format!("{signed}.")).unwrap_err(), Reason::JwtMalformed);
    let other = BASE64_URL_SAFE_NO_PAD.encode(with(claims(), "sub", json!("bob")).to_string());
    let header = good.split('.').next().unwrap();
    assert_eq!(
        judge(&format!("{header}.{other}.{signature}")).unwrap_err(),
        Reason::JwtSignatureWrong
    );
}

#[test]
fn the_algorithm_comes_from_the_key_not_from_the_token() {
    for alg in [
        "none", "None", "nOnE", "HS256", "RS256", "PS256", "EdDSA", "ES384", "",
    ] {
        let refused = judge(&OURS.sign(&with(head(), "alg", json!(alg)), &claims())).unwrap_err();
        assert_eq!(refused, Reason::JwtSignatureWrong, "{alg}");
    }
    assert_eq!(
        judge(&OURS.sign(&without(head(), "alg"), &claims())).unwrap_err(),
        Reason::JwtMalformed
    );
}

#[test]
fn keys_are_found_by_kid_and_nothing_else() {
    for kid in ["k2", "../../etc/passwd", "' or 1=1", "\0"] {
        assert_eq!(
            judge(&OURS.sign(&with(head(), "kid", json!(kid)), &claims())).unwrap_err(),
            Reason::JwtKeyUnknown,
            "{kid}"
        );
    }
    for kid in [json!(1), json!("k".repeat(300))] {
        assert_eq!(
            judge(&OURS.sign(&with(head(), "kid", kid), &claims())).unwrap_err(),
            Reason::JwtMalformed
        );
    }
    assert!(
        judge(&OURS.sign(&without(head(), "kid"), &claims())).is_ok(),
        "the provider has one key only"
    );
}

#[test]
fn headers_that_change_what_the_token_means_are_refused() {
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("cty", json!("JWT")),
        ("jku", json!("https://evil")),
        ("jwk", OURS.jwk.clone()),
        ("x5u", json!("https://evil")),
        ("zip", json!("DEF")),
    ] {
        assert_eq!(
            judge(&OURS.sign(&with(head(), name, value), &claims())).unwrap_err(),
            Reason::JwtMalformed,
            "{name}"
        );
    }
    for typ in ["dpop+jwt", "logout+jwt"] {
        assert_eq!(
            judge(&OURS.sign(&with(head(), "typ", json!(typ)), &claims())).unwrap_err(),
            Reason::JwtMalformed,
            "{typ}"
        );
    }
}

#[test]
fn names_given_twice_are_refused_at_every_depth() {
    let twice = claims()
        .to_string()
        .replace('{', r#"{"role":"user","role":"admin","#);
    assert_eq!(
        judge(&OURS.sign_text(&head().to_string(), &twice)).unwrap_err(),
        Reason::JwtMalformed
    );
    let deep = claims().to_string().replace('{', r#"{"a":{"b":1,"b":2},"#);
    assert_eq!(
        judge(&OURS.sign_text(&head().to_string(), &deep)).unwrap_err(),
        Reason::JwtMalformed
    );
    let header = r#"{"alg":"none","alg":"ES256","kid":"k1"}"#;
    assert_eq!(
        judge(&OURS.sign_text(header, &claims().to_string())).unwrap_err(),
        Reason::JwtMalformed
    );
}

#[test]
fn tokens_that_are_none_are_refused() {
    let good = OURS.sign(&head(), &claims());
    let nested = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let deep = OURS.sign_text(&head().to_string(), &format!(r#"{{"a":{nested}}}"#));
    let trailing = OURS.sign_text(&head().to_string(), &format!("{} {{}}", claims()));
    for bad in [
        "",
        "a",
        "a.b",
        "a.b.c.d.e",
        "....",
        &format!("{good}="),
        &format!("{good} "),
        &deep,
        &trailing,
        &"a".repeat(9000),
    ] {
        assert_eq!(
            judge(bad).unwrap_err(),
            Reason::JwtMalformed,
            "{}",
            &bad[..bad.len().min(40)]
        );
    }
}

#[test]
fn base64_with_spare_bits_set_is_refused() {
    let good = OURS.sign(&head(), &claims());
    let last = good.chars().last().unwrap();
    // 64 bytes leave four spare bits in the last letter; another letter spells the same bytes for a lax decoder.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    let other = format!("{}{next}", &good[..good.len() - 1]);
    assert_eq!(judge(&other).unwrap_err(), Reason::JwtMalformed);
}

#[test]
fn there_must_be_exactly_one_bearer_header() {
    let good = OURS.sign(&head(), &claims());
    let judge = |values: &[String]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        verifier()
            .verify(&headers, now())
            .map_err(|refused| refused.rejection.reason)
            .err()
    };
    assert_eq!(judge(&[]), Some(Reason::JwtMissing));
    assert_eq!(
        judge(&[format!("Bearer {good}"), format!("Bearer {good}")]),
        Some(Reason::JwtMalformed)
    );
    assert_eq!(
        judge(&[format!("Bearer {good}, Bearer {good}")]),
        Some(Reason::JwtMalformed)
    );
    assert_eq!(judge(&["Basic YTpi".into()]), Some(Reason::JwtMalformed));
    assert_eq!(judge(std::slice::from_ref(&good)), Some(Reason::JwtMalformed));
    assert_eq!(judge(&[format!("bearer {good}")]), None);
}

#[test]
fn a_provider_without_keys_yet_denies_and_asks_for_them() {
    let keys = verifier();
    let provider = Arc::new(Provider::new(
        keys.by_issuer["https://login.example.com"].provider.clone(),
        None,
    ));
    let verifier = Verifier::new([provider]);
    let refused = verifier
        .verify_token(&OURS.sign(&head(), &claims()), now())
        .unwrap_err();
    assert_eq!(
        (refused.rejection.reason, refused.stale.as_deref()),
        (Reason::JwtKeyUnknown, Some("login"))
    );
}

#[test]
fn a_remembered_token_still_expires() {
    let mut memory = Memory::default();
    let verifier = verifier();
    let mut headers = HeaderMap::new();
    let token = OURS.sign(&head(), &with(claims(), "exp", json!(NOW + 10)));
    headers.insert(
        AUTHORIZATION,
        HeaderValue::from_str(&format!("Bearer {token}")).unwrap(),
    );
    assert!(memory.verify(&verifier, &headers, now()).is_ok());
    let later = now() + Duration::from_secs(41);
    assert_eq!(
        memory
            .verify(&verifier, &headers, later)
            .unwrap_err()
            .rejection
            .reason,
        Reason::JwtExpired
    );
}

#[test]
fn what_is_told_never_holds_the_token() {
    let token = THEIRS.sign(&head(), &claims());
    let refused = verifier().verify_token(&token, now()).unwrap_err();
    let told = format!("{:?}", refused.rejection);
    assert!(token.split('.').all(|part| !told.contains(part)), "{told}");
}
