"""Tokens of an identity provider: which are accepted, and what happens while it is down."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import assume, given
from hypothesis import strategies as st
from serving.access import jwks
from serving.access.jwks import KeySet
from serving.errors import KeysUnavailable

from tests.helpers.access.identity import AUDIENCE, DISCOVERY, KEYS, Provider, encode, provider
from tests.helpers.access.keys import API_KEYS
from tests.helpers.access.keys import KEYS as API
from tests.helpers.example import ROW, assert_problem, post
from tests.helpers.platforms import PLATFORMS, Platform, Reply, direct
from tests.helpers.servers import serving, wait_for


@pytest.fixture(name="idp")
def _idp() -> Iterator[Provider]:
    """Run an identity provider."""
    with provider() as one:
        yield one


@pytest.fixture
def send(idp: Provider, credit: Path) -> Iterator[Platform]:
    """Run the functions in this process, configured for the provider's tokens only."""
    with direct(credit, **trusting(idp)) as send:
        yield send


def trusting(idp: Provider, **more: str) -> dict[str, str]:
    """Return the settings that accept its tokens."""
    return {"JWT_ISSUER": idp.issuer, "JWT_AUDIENCE": AUDIENCE, **more}


def ask(send: Platform, token: str) -> Reply:
    """Ask for an endpoint that requires the scope info."""
    return send("model_info", "GET", None, Authorization=f"Bearer {token}")


def reason(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the reason that the log gives for the last 401."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return str([line for line in lines if line.get("error")][-1]["reason"])


@pytest.mark.parametrize("name", PLATFORMS)
def test_a_valid_token_is_accepted(name: str, idp: Provider, credit: Path) -> None:
    """RSA, EC and EdDSA tokens are accepted; a missing scope gives 403, a missing token 401."""
    with PLATFORMS[name](credit, **trusting(idp)) as send:
        for kid in ("rsa", "ec", "ed"):
            sent = {"Authorization": f"Bearer {idp.token(kid, scope='predict')}"}
            assert post(send, ROW, **sent).status == 200
            problem = assert_problem(send("model_info", "GET", None, **sent), 403, "forbidden")
            assert problem["detail"] == "This request needs the scope info."
            assert_problem(ask(send, idp.token(kid) + "x"), 401, "unauthorized")
        assert_problem(post(send, ROW), 401, "unauthorized")
        assert send("health", "GET").json() == {"status": "ok"}
        seen = send("health", "GET", None, Authorization=f"Bearer {idp.token()}").json()
        assert seen.keys() == {"status", "model"}


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": timedelta(seconds=-30)},
        {"nbf": timedelta(seconds=30), "iat": timedelta(seconds=30)},
        {"iat": None},
        {"aud": ["another", AUDIENCE]},
        {"scope": None, "scp": "info"},
        {"scope": None, "scp": ["info", 7]},
        {"scope": "openid", "permissions": ["info", "delete:all"]},
        {"scope": ["info"]},
        {"sub": "m\xfcller"},
        {"sub": "x" * 255},
    ],
)
def test_other_valid_tokens_are_accepted(
    send: Platform, idp: Provider, claims: dict[str, Any]
) -> None:
    """A clock 30 seconds off, several audiences and each provider's scope claim are accepted."""
    assert ask(send, idp.token(**claims)).status == 200


@pytest.mark.parametrize(
    "claims",
    [{"scope": None}, {"scope": ""}, {"scope": "openid infos"}, {"scope": {"info": 1}}],
)
def test_a_token_without_scopes_is_403(
    send: Platform, idp: Provider, claims: dict[str, Any]
) -> None:
    """A token without a scope claim grants no scope, so it gets 403."""
    assert_problem(ask(send, idp.token(**claims)), 403, "forbidden")


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": timedelta(seconds=-3600)}, "expired"),
        ({"exp": timedelta(seconds=-90)}, "expired"),
        ({"exp": -1}, "expired"),
        ({"exp": None}, "no exp"),
        ({"exp": "soon"}, "malformed"),
        ({"exp": 1e400}, "malformed"),
        ({"exp": [2**40]}, "malformed"),
        ({"nbf": timedelta(seconds=3600)}, "not valid yet"),
        ({"iat": timedelta(seconds=3600)}, "not valid yet"),
        ({"aud": "https://another.example"}, "wrong audience"),
        ({"aud": AUDIENCE + "/"}, "wrong audience"),
        ({"aud": {"a": AUDIENCE}}, "wrong audience"),
        ({"aud": None}, "no aud"),
        ({"aud": []}, "no aud"),
        ({"iss": "https://another.example"}, "wrong issuer"),
        ({"iss": None}, "no iss"),
        ({"sub": None}, "no sub"),
        ({"sub": ""}, "wrong subject"),
        ({"sub": 7}, "wrong subject"),
        ({"sub": "a\nb"}, "wrong subject"),
        ({"sub": "\ud800"}, "wrong subject"),
        ({"sub": "x" * 256}, "wrong subject"),
    ],
)
def test_a_wrong_claim_is_rejected(
    send: Platform,
    idp: Provider,
    capsys: pytest.CaptureFixture[str],
    claims: dict[str, Any],
    why: str,
) -> None:
    """The client only learns that the token is not valid; the log has the reason."""
    problem = assert_problem(ask(send, idp.token(**claims)), 401, "unauthorized")

    assert problem["detail"] == "The key or token that was sent is not valid."
    assert reason(capsys) == why


def unsigned(idp: Provider, **header: Any) -> str:
    """Make a token without a signature."""
    return f"{encode({'alg': 'none', **header})}.{idp.token().split('.')[1]}."


def by_hmac(idp: Provider, secret: bytes, **header: Any) -> str:
    """Sign by HMAC with a public key as the secret, which works if the algorithm is not checked."""
    import hashlib
    import hmac

    signed = f"{encode({'alg': 'HS256', 'kid': 'rsa', **header})}.{idp.token().split('.')[1]}"
    return f"{signed}.{encode(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def public(idp: Provider, kid: str, encoding: Encoding) -> bytes:
    """Encode a public key."""
    key = idp.keys[kid].public_key()
    return bytes(key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo))


def tampered(idp: Provider, **claims: Any) -> str:
    """Change the claims and keep the valid signature."""
    head, _, signature = idp.token().split(".")
    return f"{head}.{idp.token(**claims).split('.')[1]}.{signature}"


def with_header(idp: Provider, header: Any) -> str:
    """Replace the header of a valid token."""
    return f"{encode(header)}.{idp.token().partition('.')[2]}"


def signed_by_another_key(idp: Provider, **header: Any) -> str:
    """Sign with a key that is not the provider's, and add header fields that point to it."""
    return idp.token(key=idp.strangers["rsa"], headers=header)


FORGED: dict[str, tuple[Callable[[Provider], str], str]] = {
    "alg none": (unsigned, "wrong algorithm"),
    "alg none, with a kid": (lambda idp: unsigned(idp, kid="rsa"), "wrong algorithm"),
    "alg None": (lambda idp: unsigned(idp, alg="None"), "wrong algorithm"),
    "alg missing": (lambda idp: with_header(idp, {"kid": "rsa"}), "wrong algorithm"),
    "alg a list": (lambda idp: with_header(idp, {"alg": ["RS256"]}), "malformed"),
    "HS256, PEM for a secret": (
        lambda idp: by_hmac(idp, public(idp, "rsa", Encoding.PEM)),
        "wrong algorithm",
    ),
    "HS256, DER for a secret": (
        lambda idp: by_hmac(idp, public(idp, "rsa", Encoding.DER)),
        "wrong algorithm",
    ),
    "HS256 in RS256's name": (
        lambda idp: by_hmac(idp, public(idp, "rsa", Encoding.PEM), alg="RS256"),
        "wrong signature",
    ),
    "RS512": (lambda idp: with_header(idp, {"alg": "RS512", "kid": "rsa"}), "wrong algorithm"),
    "ES256 for an RSA key": (
        lambda idp: with_header(idp, {"alg": "ES256", "kid": "rsa"}),
        "wrong algorithm",
    ),
    "another's key": (signed_by_another_key, "wrong signature"),
    "another key of the provider's": (
        lambda idp: idp.token("ec", headers={"kid": "ed"}),
        "wrong algorithm",
    ),
    "jku": (
        lambda idp: signed_by_another_key(idp, jku=f"{idp.issuer}/stranger"),
        "wrong signature",
    ),
    "x5u": (
        lambda idp: signed_by_another_key(idp, x5u=f"{idp.issuer}/stranger"),
        "wrong signature",
    ),
    "jwk": (
        lambda idp: signed_by_another_key(idp, jwk={"kty": "oct", "k": "AA"}),
        "wrong signature",
    ),
    "kid of nobody": (lambda idp: idp.token(headers={"kid": "none"}), "unknown key"),
    "kid a path": (lambda idp: idp.token(headers={"kid": "../../dev/null"}), "unknown key"),
    "kid of SQL": (lambda idp: idp.token(headers={"kid": "' OR 1=1 --"}), "unknown key"),
    "kid missing": (lambda idp: with_header(idp, {"alg": "RS256"}), "unknown key"),
    "kid a number": (lambda idp: with_header(idp, {"alg": "RS256", "kid": 7}), "malformed"),
    "crit": (
        lambda idp: with_header(idp, {"alg": "RS256", "kid": "rsa", "crit": ["exp"]}),
        "malformed",
    ),
    "claims changed": (
        lambda idp: tampered(idp, sub="root"),
        "wrong signature",
    ),
    "signature cut": (lambda idp: idp.token()[:-6], "wrong signature"),
    "signature missing": (lambda idp: idp.token().rpartition(".")[0] + ".", "wrong signature"),
    "no base64": (lambda _: "!.!.!", "malformed"),
    "nothing but dots": (lambda _: "..", "malformed"),
    "header no JSON": (lambda idp: with_header(idp, b"{"), "malformed"),
    "header a list": (lambda idp: with_header(idp, []), "malformed"),
    "header nested": (lambda _: f"{encode(b'[' * 5000)}.e30.AA", "malformed"),
    "too long": (lambda idp: idp.token(more="x" * 8192), "malformed"),
    "odd bytes": (lambda idp: idp.token() + "\xe9", "malformed"),
    "five parts": (lambda idp: idp.token() + ".a.b", "not a token"),
    "one part": (lambda _: "opaque", "not a token"),
}


@pytest.mark.parametrize(("forge", "why"), FORGED.values(), ids=FORGED)
def test_a_forged_token_is_rejected(
    send: Platform,
    idp: Provider,
    capsys: pytest.CaptureFixture[str],
    forge: Callable[[Provider], str],
    why: str,
) -> None:
    """A forged token gets 401, and no URL in it is fetched."""
    assert ask(send, idp.token()).status == 200

    assert_problem(ask(send, forge(idp)), 401, "unauthorized")

    assert reason(capsys) == why
    assert set(idp.asked) == {DISCOVERY, KEYS}


def test_no_token_gives_a_500(credit: Path, idp: Provider) -> None:
    """A valid token with one character changed, or any three random parts, gets 401."""
    with direct(credit, **trusting(idp)) as send:
        good = idp.token("ed")
        odd = st.binary(max_size=30) | st.text(max_size=30).map(
            lambda text: json.dumps(text).encode()
        )
        parts = st.lists(odd.map(encode) | st.sampled_from(good.split(".")), min_size=3, max_size=3)

        @given(parts.map(".".join).filter(lambda made: made != good))
        def of_parts(token: str) -> None:
            assert ask(send, token).status == 401

        @given(st.integers(0, len(good) - 1), st.characters(codec="latin-1"))
        def changed(place: int, to: str) -> None:
            assume(good[place] != to and to not in "\r\n")
            assert ask(send, good[:place] + to + good[place + 1 :]).status == 401

        of_parts()
        changed()


def test_unusable_keys_are_dropped(
    credit: Path, idp: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    """Symmetric, private, encryption, RSA-OAEP, nameless and malformed keys verify no token."""
    secret = encode(b"s" * 32)
    rsa_key = {"kty": "RSA", "n": encode(b"\xff" * 256), "e": "AQAB"}
    idp.listed = [
        {"kty": "oct", "k": secret, "kid": "symmetric", "alg": "HS256"},
        {**rsa_key, "kid": "encrypts", "use": "enc"},
        {**rsa_key, "kid": "other", "alg": "RS512"},
        {**rsa_key, "kid": "strange", "alg": "RSA-OAEP"},
        {**rsa_key, "kid": "private", "d": "AQAB"},
        rsa_key,
        {"kty": "RSA", "kid": "half"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "no point"},
        {"kid": "no kind"},
        {"kid": 7, "kty": []},
        {},
    ]
    idp.keys["weak"] = idp.strangers["weak"]

    with direct(credit, **trusting(idp)) as send:
        assert ask(send, idp.token()).status == 200
        for kid in ("symmetric", "encrypts", "other", "strange", "private", "half", "no point"):
            assert ask(send, idp.token(headers={"kid": kid})).status == 401
            assert reason(capsys) == "unknown key"
        with pytest.warns(UserWarning, match="1024"):
            weak = idp.token("weak")
        assert ask(send, weak).status == 401
        assert reason(capsys) == "weak key"


def test_the_keys_are_fetched_once(send: Platform, idp: Provider) -> None:
    """The keys are fetched at the start, and not again for 64 tokens."""
    assert idp.asked == [DISCOVERY, KEYS]
    token = idp.token()
    with ThreadPoolExecutor(16) as pool:
        statuses = {reply.status for reply in pool.map(lambda _: ask(send, token), range(64))}

    assert statuses == {200}
    assert idp.asked == [DISCOVERY, KEYS]


def test_a_new_key_is_fetched_when_a_token_names_it(
    send: Platform, idp: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token with a new key gets 503 until the keys are fetched; then the old key is rejected."""
    old = idp.token("rsa")
    idp.keys = {"new": idp.strangers["rsa"]}
    new = idp.token("new")
    monkeypatch.setattr(jwks, "PAUSE_SECONDS", 0.0)
    idp.hold.clear()

    reply = ask(send, new)
    assert_problem(reply, 503, "keys-unavailable")
    assert reply.headers["Retry-After"] == "1"
    monkeypatch.setattr(jwks, "PAUSE_SECONDS", 10.0)
    assert ask(send, old).status == 200
    idp.hold.set()
    wait_for(lambda: ask(send, new).status == 200)
    assert ask(send, old).status == 401
    assert idp.asked == [DISCOVERY, KEYS] * 2


def test_unknown_keys_cause_one_fetch(
    send: Platform, idp: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred unknown keys cause one fetch: they get 503 while it runs, and 401 afterwards."""
    tokens = [idp.token("ed", headers={"kid": f"k{number}"}) for number in range(100)]
    assert {ask(send, token).status for token in tokens} == {401}  # The keys were fetched just now.
    assert idp.asked == [DISCOVERY, KEYS]
    monkeypatch.setattr(jwks, "PAUSE_SECONDS", 0.0)
    idp.hold.clear()
    assert {ask(send, token).status for token in tokens} == {503}
    monkeypatch.setattr(jwks, "PAUSE_SECONDS", 10.0)
    idp.hold.set()
    wait_for(lambda: ask(send, tokens[0]).status == 401)
    assert {ask(send, token).status for token in tokens} == {401}
    assert idp.asked == [DISCOVERY, KEYS] * 2


def test_no_request_waits_for_the_provider(
    credit: Path, idp: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the provider hangs, unknown keys get 503 at once, and known callers are served."""
    with direct(credit, **trusting(idp, API_KEYS=API_KEYS)) as send:
        good, unknown = idp.token(), idp.token(headers={"kid": "none"})
        for name in ("FRESH_SECONDS", "PAUSE_SECONDS"):
            monkeypatch.setattr(jwks, name, 0.0)
        idp.hold.clear()
        started = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            replies = list(pool.map(lambda sent: ask(send, sent), [unknown, good, API["all"]] * 30))
        seconds = time.monotonic() - started

    assert [reply.status for reply in replies] == [503, 200, 200] * 30
    assert seconds < jwks.TIMEOUT_SECONDS
    assert idp.asked == [DISCOVERY, KEYS, DISCOVERY]


def test_unknown_keys_count_against_the_rate_limit(credit: Path, idp: Provider) -> None:
    """Tokens that name unknown keys count against the limit of their address."""
    limits = {"RATE_LIMIT": "3/hour", "WEB_CONCURRENCY": "1"}
    with serving(credit, **trusting(idp, **limits)) as server:
        statuses = [
            requests.get(
                f"{server}/v0/model_info",
                headers={"Authorization": f"Bearer {idp.token(headers={'kid': f'k{number}'})}"},
                timeout=10,
            ).status_code
            for number in range(5)
        ]

    assert statuses == [401, 401, 401, 429, 429]


def test_known_keys_work_while_the_provider_is_down(
    send: Platform,
    idp: Provider,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Keys fetched before still work; the failure is logged once, and the keys renewed later."""
    token = idp.token()
    for name in ("FRESH_SECONDS", "PAUSE_SECONDS"):
        monkeypatch.setattr(jwks, name, 0.0)
    idp.fault = 500
    for _ in range(20):
        asked = len(idp.asked)
        while len(idp.asked) == asked:  # A thread fetches, not the request.
            assert ask(send, token).status == 200
    assert capsys.readouterr().out.count("keys could not be fetched") == 1
    assert_problem(ask(send, idp.token(headers={"kid": "none"})), 503, "keys-unavailable")

    idp.fault = None
    idp.keys = {"new": idp.strangers["rsa"]}
    wait_for(lambda: ask(send, idp.token("new")).status == 200)


def test_on_lambda_an_event_waits_for_a_new_key(
    idp: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Lambda no thread runs between events, so the event itself fetches a new or stale key."""
    keys = KeySet(idp.issuer, None, waits=True)
    keys.fetch()
    assert keys.find("new") is None  # The keys were fetched just now.
    monkeypatch.setattr(jwks, "PAUSE_SECONDS", 0.0)
    idp.keys["new"] = idp.strangers["rsa"]
    assert keys.find("new") is not None
    del idp.keys["rsa"]
    assert keys.find("rsa") is not None  # The removal is not known yet.
    for name in ("FRESH_SECONDS", "STALE_SECONDS"):
        monkeypatch.setattr(jwks, name, 0.0)
    assert keys.find("rsa") is None
    idp.fault = 500
    assert keys.find("new") is not None


def test_on_lambda_no_event_waits_longer_than_the_timeout(
    idp: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the provider hangs, one event waits for the timeout, and the next does not wait."""
    keys = KeySet(idp.issuer, None, waits=True)
    idp.hold.clear()
    monkeypatch.setattr(jwks, "TIMEOUT_SECONDS", 0.5)
    for least, most in ((0.4, 2.0), (0.0, 0.3)):
        started = time.monotonic()
        with pytest.raises(KeysUnavailable):
            keys.find("rsa")
        assert least <= time.monotonic() - started <= most

    assert idp.asked == [DISCOVERY]


@pytest.mark.timeout(20)
def test_a_hanging_provider_does_not_block_the_start(credit: Path, idp: Provider) -> None:
    """The server starts after three seconds; tokens get 503, and API keys are accepted."""
    idp.hold.clear()
    started = time.monotonic()
    with direct(credit, **trusting(idp, API_KEYS=API_KEYS)) as send:
        assert time.monotonic() - started < 5
        reply = ask(send, idp.token())
        assert_problem(reply, 503, "keys-unavailable")
        assert int(reply.headers["Retry-After"]) >= 1
        assert ask(send, API["all"]).status == 200


WRONG: dict[str, Any] = {
    "500": {"fault": 500},
    "a redirect": {"fault": 302},
    "no JSON": {"fault": b"<html>"},
    "odd JSON": {"fault": b'{"keys": 7, "issuer": null}'},
    "too much": {"fault": b'{"keys": [' + b" " * jwks.LARGEST_ANSWER + b"]}"},
    "nested": {"fault": b"[" * 100_000},
    "another's name": {"documents": {DISCOVERY: {"issuer": "https://x", "jwks_uri": "https://x"}}},
    "keys that are not encrypted": {"unsafe": "http://login.example.com/keys"},
    "keys in a file": {"unsafe": "file:///etc/passwd"},
    "no keys": {"documents": {KEYS: {"keys": []}}},
    "no keys for us": {"documents": {KEYS: {"keys": [{"kty": "oct", "k": "AA", "kid": "rsa"}]}}},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_answer_of_the_provider_gives_503(
    credit: Path,
    idp: Provider,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: dict[str, Any],
) -> None:
    """Tokens get 503, and the log has the reason; later they are accepted without a restart."""
    unsafe = {DISCOVERY: {"issuer": idp.issuer, "jwks_uri": wrong.get("unsafe")}}
    idp.fault = wrong.get("fault")
    idp.documents = wrong.get("documents", unsafe if "unsafe" in wrong else {})

    with direct(credit, **trusting(idp)) as send:
        assert_problem(ask(send, idp.token()), 503, "keys-unavailable")
        message = "the identity provider's keys could not be fetched"
        assert f'"message":"{message}","reason":' in capsys.readouterr().out
        assert "/elsewhere" not in idp.asked

        idp.fault, idp.documents = None, {}
        monkeypatch.setattr(jwks, "PAUSE_SECONDS", 0.0)
        wait_for(lambda: ask(send, idp.token()).status == 200)


def test_a_malformed_entry_does_not_hide_other_keys(credit: Path, idp: Provider) -> None:
    """The valid keys of a list are used, whatever the other entries are."""
    values: list[Any] = [None, 7, [], {}, "", "é"]
    odd = {"kid": "odd", "use": "sig", "kty": "RSA", "n": "AQAB", "e": "AQAB"}
    idp.listed = [
        *(None, 7, "key", [], {}, odd),
        *({**odd, name: value} for name in odd for value in values),
        {**odd, "alg": ["RS256"]},
        {**odd, "kty": "OKP", "crv": "Ed448", "x": "AQAB"},
    ]
    with direct(credit, **trusting(idp)) as send:
        assert ask(send, idp.token()).status == 200


def test_an_unreachable_provider_gives_503(credit: Path, idp: Provider) -> None:
    """Tokens get 503 at once, requests without credentials 401, and /health answers."""
    away = {"JWT_ISSUER": "http://127.0.0.1:9", "JWT_AUDIENCE": AUDIENCE}
    with direct(credit, **away) as send:
        assert_problem(ask(send, idp.token()), 503, "keys-unavailable")
        assert_problem(send("model_info", "GET"), 401, "unauthorized")
        assert send("health", "GET").json() == {"status": "ok"}


def test_jwt_jwks_url_replaces_discovery(credit: Path, idp: Provider) -> None:
    """With JWT_JWKS_URL the discovery document is not fetched."""
    with direct(credit, **trusting(idp, JWT_JWKS_URL=f"{idp.issuer}{KEYS}")) as send:
        assert ask(send, idp.token()).status == 200

    assert idp.asked == [KEYS]


def test_the_issuer_must_match_exactly(credit: Path, idp: Provider) -> None:
    """An issuer may end in a slash, as Auth0's does; a token without the slash gets 401."""
    idp.documents[DISCOVERY] = {"issuer": f"{idp.issuer}/", "jwks_uri": f"{idp.issuer}{KEYS}"}
    with direct(credit, JWT_ISSUER=f"{idp.issuer}/", JWT_AUDIENCE=AUDIENCE) as send:
        assert ask(send, idp.token(iss=f"{idp.issuer}/")).status == 200
        assert ask(send, idp.token()).status == 401


def test_keys_and_tokens_side_by_side(credit: Path, idp: Provider) -> None:
    """API keys and tokens are both accepted, and told apart by their form."""
    with direct(credit, **trusting(idp, API_KEYS=API_KEYS)) as send:
        assert ask(send, idp.token()).status == 200
        assert ask(send, API["all"]).status == 200
        assert send("model_info", "GET", None, X_API_Key=API["reads"]).status == 200
        for wrong in (API["all"] + "x", API["all"] + ".a.b", "a.b.c", "opaque"):
            assert ask(send, wrong).status == 401


def test_one_valid_credential_is_enough(
    credit: Path, idp: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    """One valid credential is enough beside a wrong one; X-API-Key comes first."""
    with direct(credit, **trusting(idp, API_KEYS=API_KEYS)) as send:
        ask(send, API["reads"])
        capsys.readouterr()
        for key, bearer, caller in (
            ("wrong", API["reads"], "reads"),
            ("wrong", idp.token(), "auth0|ada"),
            (idp.token(headers={"kid": "none"}), API["reads"], "reads"),
            (API["reads"], "wrong", "reads"),
            (API["reads"], idp.token(headers={"kid": "none"}), "reads"),
            (API["reads"], API["all"], "reads"),
            (API["reads"], "", "reads"),
            ("", API["reads"], "reads"),
        ):
            sent = {"X_API_Key": key, "Authorization": f"Bearer {bearer}"}
            assert send("model_info", "GET", None, **sent).status == 200
            [line] = capsys.readouterr().out.splitlines()
            assert json.loads(line)["caller"] == caller
        for key, bearer in (("wrong", "wrong"), ("wrong", ""), (API["all"] + "x", "a.b.c")):
            sent = {"X_API_Key": key, "Authorization": f"Bearer {bearer}"}
            assert_problem(send("model_info", "GET", None, **sent), 401, "unauthorized")
        basic = {"X_API_Key": API["reads"], "Authorization": "Basic YTpi"}
        assert send("model_info", "GET", None, **basic).status == 200


def test_a_dyno_accepts_tokens(credit: Path, idp: Provider) -> None:
    """The keys are fetched once for all workers; the log has the subject, never the token."""
    with serving(credit, WEB_CONCURRENCY="2", DYNO="web.1", **trusting(idp)) as server:
        token = idp.token()
        sent = {"Authorization": f"Bearer {token}"}
        for _ in range(30):
            answer = requests.post(f"{server}/v0/predict", json=ROW, headers=sent, timeout=10)
            assert answer.status_code == 200
        logged = server.logged()

    assert idp.asked == [DISCOVERY, KEYS]
    assert '"caller":"auth0|ada"' in logged
    assert "closed" not in logged
    assert not any(part in logged for part in token.split("."))
