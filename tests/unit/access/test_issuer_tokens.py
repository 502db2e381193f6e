"""JWTs of an issuer: what is accepted, what is refused, and what cannot be checked."""

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from promcompat.access.authenticator import RefusedTokenError
from promcompat.access.issuer_keys import IssuerError, IssuerKeys
from promcompat.access.issuer_tokens import IssuerOptions, IssuerTokens
from promcompat.core.access import Principal, Role
from promcompat.core.errors import ForbiddenError, StorageUnavailableError

ISSUER = "https://sso.example.org/realms/ops"
JWKS_URL = f"{ISSUER}/certs"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC_PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def jwk_of(key: Any, kid: str) -> dict[str, Any]:
    public = key.public_key()
    algorithm = (
        jwt.algorithms.RSAAlgorithm
        if hasattr(key, "key_size") and isinstance(key, rsa.RSAPrivateKey)
        else jwt.algorithms.ECAlgorithm
    )
    return {**json.loads(algorithm.to_jwk(public)), "kid": kid, "use": "sig"}


SYMMETRIC = {"kty": "oct", "kid": "shared", "k": base64.urlsafe_b64encode(b"x" * 32).decode()}
KEY_SET = {"keys": [jwk_of(RSA_KEY, "rsa"), jwk_of(EC_KEY, "ec"), SYMMETRIC]}
OPTIONS = IssuerOptions(
    issuer=ISSUER,
    audience="promcompat",
    algorithms=("RS256", "ES256"),
    role_claim="realm_access.roles",
    roles={
        "viewer": frozenset((Role.READ,)),
        "writer": frozenset((Role.WRITE,)),
        "chief": frozenset((Role.ADMIN,)),
    },
    tenant_claim="tenant",
)


class Issuer:
    """Answers for an issuer, as long as it is up; the clock stands still."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            JWKS_URL: KEY_SET,
            f"{ISSUER}/.well-known/openid-configuration": {
                "issuer": ISSUER,
                "jwks_uri": JWKS_URL,
            },
        }
        self.asked: list[str] = []
        self.is_up = True
        self.now = 1000.0

    async def fetch(self, url: str) -> Any:
        self.asked.append(url)
        if not self.is_up or url not in self.answers:
            raise IssuerError(f"{url} does not answer")
        return self.answers[url]

    def tokens(self, options: IssuerOptions = OPTIONS) -> IssuerTokens:
        return IssuerTokens(options, IssuerKeys(ISSUER, "", self.fetch, lambda: self.now))


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def claims(**changes: Any) -> dict[str, Any]:
    """Valid claims with changes; None removes one."""
    valid = {
        "iss": ISSUER,
        "aud": ["account", "promcompat"],
        "sub": "ana",
        "exp": int(time.time()) + 600,
        "iat": int(time.time()),
        "realm_access": {"roles": ["viewer", "someone else's"]},
        "tenant": "a",
    }
    return {name: value for name, value in (valid | changes).items() if value is not None}


def signed(
    key: Any = RSA_KEY,
    algorithm: str = "RS256",
    headers: Mapping[str, Any] | None = None,
    **changes: Any,
) -> str:
    return jwt.encode(claims(**changes), key, algorithm, headers=dict(headers or {"kid": "rsa"}))


def by_hand(header: Mapping[str, Any], signature: bytes = b"") -> str:
    """A token that no library would make."""
    parts = [json.dumps(header).encode(), json.dumps(claims()).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def hmac_with_the_public_key() -> str:
    import hashlib
    import hmac

    start = by_hand({"alg": "HS256", "kid": "rsa"}).rpartition(".")[0]
    mac = hmac.new(PUBLIC_PEM, start.encode(), hashlib.sha256).digest()
    return f"{start}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


async def test_a_valid_token_is_a_principal(issuer: Issuer) -> None:
    expected = Principal("oidc:ana", frozenset((Role.READ,)), frozenset(("a",)))
    tokens = issuer.tokens()
    assert await tokens.principal(signed()) == expected
    assert await tokens.principal(signed(EC_KEY, "ES256", {"kid": "ec"})) == expected
    # The keys are fetched once.
    assert len(issuer.asked) == 2


@pytest.mark.parametrize(
    ("claim", "tenants"),
    [("team a", {"team a"}), (["team a", "", 1, "b"], {"team a", "b"})],
)
async def test_the_name_of_a_tenant_is_taken_whole(
    claim: Any, tenants: set[str], issuer: Issuer
) -> None:
    found = await issuer.tokens().principal(
        signed(tenant=claim, realm_access={"roles": "writer viewer"})
    )
    assert found.tenants == tenants
    assert {Role.READ, Role.WRITE} <= found.roles


ATTACKS = {
    "alg none": by_hand({"alg": "none", "kid": "rsa"}),
    "alg None in capitals": by_hand({"alg": "NONE", "kid": "rsa"}),
    "HMAC with the public key": hmac_with_the_public_key(),
    "HMAC with a symmetric key of the set": jwt.encode(
        claims(), b"x" * 32, "HS256", headers={"kid": "shared"}
    ),
    "an algorithm that is not accepted": signed(algorithm="RS512"),
    "an algorithm of another key": signed(EC_KEY, "ES256", {"kid": "rsa"}),
    "no signature": signed().rpartition(".")[0] + ".",
    "another key": signed(OTHER_RSA_KEY),
    "another key in the header": signed(
        OTHER_RSA_KEY, headers={"kid": "own", "jwk": jwk_of(OTHER_RSA_KEY, "own")}
    ),
    "another key by an address": signed(
        OTHER_RSA_KEY, headers={"kid": "own", "jku": "https://evil.example.org/keys"}
    ),
    "no key id": signed(headers={"typ": "JWT"}),
    "unknown key id": signed(headers={"kid": "../../etc/passwd"}),
    "key id that is no text": by_hand({"alg": "RS256", "kid": 1}),
    "critical extension": signed(headers={"kid": "rsa", "crit": ["exp"]}),
    "another audience": signed(aud="grafana"),
    "no audience": signed(aud=None),
    "another issuer": signed(iss="https://evil.example.org"),
    "a part of the issuer": signed(iss="https://sso.example.org"),
    "no issuer": signed(iss=None),
    "expired": signed(exp=int(time.time()) - 31),
    "no end": signed(exp=None),
    "not valid yet": signed(nbf=int(time.time()) + 3600),
    "no subject": signed(sub=None),
    "not JSON": "eyJ4.e30.x",
    "not base64": "ä.b.c",
    "a list": base64.urlsafe_b64encode(b"[1]").decode() + ".W10.x",
}


@pytest.mark.parametrize("name", sorted(ATTACKS))
async def test_an_attack_is_refused(name: str, issuer: Issuer) -> None:
    with pytest.raises(RefusedTokenError):
        await issuer.tokens().principal(ATTACKS[name])


async def test_changed_claims_do_not_have_the_signature(issuer: Issuer) -> None:
    header, _, signature = signed().split(".")
    payload = json.dumps(claims(realm_access={"roles": ["chief"]})).encode()
    forged = f"{header}.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.{signature}"
    with pytest.raises(RefusedTokenError):
        await issuer.tokens().principal(forged)


@pytest.mark.parametrize(
    "changes",
    [
        {"realm_access": None},
        {"realm_access": {"roles": ["view", "viewer2", "VIEWER"]}},
        {"realm_access": {"roles": [{"viewer": 1}, 1]}},
        {"realm_access": "viewers"},
        {"tenant": None},
        {"tenant": 1},
        {"tenant": ""},
    ],
)
async def test_without_a_role_or_a_tenant_nobody_gets_in(
    changes: dict[str, Any], issuer: Issuer
) -> None:
    with pytest.raises(ForbiddenError):
        await issuer.tokens().principal(signed(**changes))


async def test_the_name_cannot_be_that_of_a_token(issuer: Issuer) -> None:
    found = await issuer.tokens().principal(signed(sub='root"\n' + "x" * 300))
    assert found.name == "oidc:root__" + "x" * 194


async def test_the_type_of_access_tokens_can_be_required(issuer: Issuer) -> None:
    from dataclasses import replace

    tokens = issuer.tokens(replace(OPTIONS, token_type="at+jwt"))
    for typ in ("at+jwt", "application/at+JWT"):
        await tokens.principal(signed(headers={"kid": "rsa", "typ": typ}))
    with pytest.raises(RefusedTokenError):
        await tokens.principal(signed())


async def test_keys_that_are_not_known_refuse_nobody(issuer: Issuer) -> None:
    issuer.is_up = False
    tokens = issuer.tokens()
    with pytest.raises(StorageUnavailableError):
        await tokens.principal(signed())
    # The issuer is not asked by every request.
    with pytest.raises(StorageUnavailableError):
        await tokens.principal(signed())
    assert len(issuer.asked) == 1
    issuer.is_up, issuer.now = True, issuer.now + 10
    await tokens.principal(signed())


async def test_the_last_good_keys_are_kept_and_new_ones_found(issuer: Issuer) -> None:
    tokens = issuer.tokens()
    await tokens.refresh_if_due()
    issuer.is_up, issuer.now = False, issuer.now + 100_000
    await tokens.refresh_if_due()
    await tokens.principal(signed())
    # An unknown key may be a new one, which only the issuer could tell.
    new = signed(OTHER_RSA_KEY, headers={"kid": "new"})
    with pytest.raises(StorageUnavailableError):
        await tokens.principal(new)
    issuer.answers[JWKS_URL] = {"keys": [jwk_of(OTHER_RSA_KEY, "new")]}
    issuer.is_up, issuer.now = True, issuer.now + 10
    await tokens.principal(new)
    # The issuer does not have the old key any more, and says so.
    with pytest.raises(RefusedTokenError):
        await tokens.principal(signed())


async def test_who_waits_for_an_issuer_shares_what_comes_of_it(issuer: Issuer) -> None:
    async def fetch_slowly(url: str) -> Any:
        issuer.asked.append(url)
        await asyncio.sleep(0)
        issuer.now += 20
        raise IssuerError("a black hole")

    keys = IssuerKeys(ISSUER, JWKS_URL, fetch_slowly, lambda: issuer.now)
    found = await asyncio.gather(*(keys.find("x") for _ in range(5)), return_exceptions=True)
    assert [type(one) for one in found] == [StorageUnavailableError] * 5
    assert len(issuer.asked) == 1


async def test_a_key_that_may_be_new_is_not_refused_before_the_issuer_is_asked(
    issuer: Issuer,
) -> None:
    tokens = issuer.tokens()
    await tokens.refresh_if_due()
    new = signed(OTHER_RSA_KEY, headers={"kid": "new"})
    issuer.now += 9
    with pytest.raises(StorageUnavailableError):
        await tokens.principal(new)
    issuer.now += 1
    with pytest.raises(RefusedTokenError):
        await tokens.principal(new)


async def test_an_https_issuer_has_its_keys_at_an_https_url(issuer: Issuer) -> None:
    url = f"{ISSUER}/.well-known/openid-configuration"
    plain = JWKS_URL.replace("https:", "http:")
    issuer.answers |= {url: {"issuer": ISSUER, "jwks_uri": plain}, plain: KEY_SET}
    with pytest.raises(StorageUnavailableError):
        await issuer.tokens().principal(signed())
    assert issuer.asked == [url]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        {"keys": []},
        {"keys": [SYMMETRIC]},
        {"keys": [{"kty": "RSA", "kid": "rsa"}, 1, {"kty": "EC", "kid": "x", "crv": "no"}]},
        {"keys": [{**jwk_of(RSA_KEY, "rsa"), "use": "enc"}]},
        {"keys": [{**jwk_of(RSA_KEY, "rsa"), "alg": ["RS256"]}]},
    ],
)
async def test_key_sets_without_a_key(answer: Any, issuer: Issuer) -> None:
    issuer.answers[JWKS_URL] = answer
    with pytest.raises(StorageUnavailableError):
        await issuer.tokens().principal(signed())


async def test_a_discovery_of_another_issuer_is_not_believed(issuer: Issuer) -> None:
    url = f"{ISSUER}/.well-known/openid-configuration"
    issuer.answers[url] = {"issuer": "https://evil.example.org", "jwks_uri": JWKS_URL}
    with pytest.raises(StorageUnavailableError):
        await issuer.tokens().principal(signed())
