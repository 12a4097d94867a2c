"""Makes keys and tokens with PyJWT and cryptography: {"jwks": "...", "tokens": {name: token}} on stdout.

Every bad token is the good one but for what its name says. `jwt.encode` refuses to make some of them, so those are put
together by hand.
"""

import base64
import hashlib
import hmac
import json
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ISSUER, AUDIENCE = "https://login.example.com", "market"
now = int(time.time())

rs, es = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
stranger = ec.generate_private_key(ec.SECP256R1())


def public_jwk(key, algorithm, kid):
    maker = jwt.algorithms.RSAAlgorithm if algorithm == "RS256" else jwt.algorithms.ECAlgorithm
    return json.loads(maker.to_jwk(key.public_key())) | {"kid": kid, "alg": algorithm, "use": "sig"}


def claims(**change):
    base = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "scope": "quotes.read quotes.list", "iat": now, "exp": now + 3600}
    return {key: value for key, value in (base | change).items() if value is not None}


def token(key=es, algorithm="ES256", kid="es", typ="JWT", **change):
    return jwt.encode(claims(**change), key, algorithm=algorithm, headers={"kid": kid, "typ": typ})


def raw(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header, payload, sign=lambda data: b""):
    signed = f"{raw(header)}.{raw(payload)}"
    return f"{signed}.{raw(sign(signed.encode()))}"


rs_public_pem = rs.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
good = token()
head, payload, signature = good.split(".")

tokens = {
    "good": good,
    "good_rs256": token(rs, "RS256", "rs"),
    "for_acme": token(symbols=["ACME", "BORK"]),
    "for_nothing": token(symbols=[]),
    "without_scope": token(scope=None),
    "other_scope": token(scope="orders.write"),
    "scope_as_list": token(scope=["quotes.read"]),
    "expired": token(exp=now - 3600, iat=now - 7200),
    "without_exp": token(exp=None),
    "not_yet_valid": token(nbf=now + 3600),
    "lives_too_long": token(exp=now + 30 * 24 * 3600),
    "wrong_key": token(stranger),
    "unknown_kid": token(kid="nobody"),
    "wrong_audience": token(aud="billing"),
    "audience_prefix": token(aud="market.evil"),
    "without_audience": token(aud=None),
    "wrong_issuer": token(iss="https://login.example.org"),
    "issuer_list": by_hand(
        {"alg": "HS256", "kid": "es", "typ": "JWT"}, claims(iss=["https://evil.example", ISSUER])
    ),
    "without_issuer": token(iss=None),
    "wrong_typ": token(typ="dpop+jwt"),
    "key_of_other_alg": token(rs, "RS256", "es"),
    "alg_none": by_hand({"alg": "none", "kid": "es", "typ": "JWT"}, claims()),
    "alg_none_odd_case": by_hand({"alg": "nOnE", "kid": "es", "typ": "JWT"}, claims()),
    "hs256_with_public_key": by_hand(
        {"alg": "HS256", "kid": "rs", "typ": "JWT"},
        claims(),
        lambda data: hmac.new(rs_public_pem, data, hashlib.sha256).digest(),
    ),
    "crit": jwt.encode(claims(), es, algorithm="ES256", headers={"kid": "es", "crit": ["exp"], "exp": 1}),
    "without_signature": f"{head}.{payload}.",
    "two_parts": f"{head}.{payload}",
    "changed_payload": f"{head}.{raw(claims(sub='mallory'))}.{signature}",
    "zero_signature": f"{head}.{payload}.{raw(bytes(64))}",
    "garbage": "not-a-token",
    "too_long": "a" * 9000,
}
jwks = {"keys": [public_jwk(rs, "RS256", "rs"), public_jwk(es, "ES256", "es")]}
print(json.dumps({"jwks": json.dumps(jwks), "tokens": tokens}))
