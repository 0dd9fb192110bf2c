"""The API_KEYS setting: its syntax, the keys it accepts, and that no secret is repeated."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving.access.api_keys import ApiKey, digest, find_api_key, read_api_keys
from serving.access.gate import Gate
from serving.errors import SettingsError
from serving.settings import read_settings

from tests.helpers.access.keys import API_KEYS
from tests.helpers.servers import ROOT, clean_environment

ONE, TWO = digest("one"), digest("two")

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", fullmatch=True)
scopes = st.sets(st.sampled_from(["predict", "info", "x", "my.own-scope_2"]))
keys = st.lists(st.tuples(names, scopes, st.binary(max_size=20)), min_size=1, max_size=8)


@given(
    keys.filter(lambda made: len({secret for *_, secret in made}) == len(made)),
    st.sampled_from([",", " ", ", ", "\n", " ,\t"]),
    st.booleans(),
)
def test_api_keys_are_read_as_written(
    made: list[tuple[str, set[str], bytes]], between: str, upper: bool
) -> None:
    """Names, scopes and digests are read back, with any separator between the entries."""
    entries = []
    expected = []
    for name, granted, secret in made:
        hexadecimal = hashlib.sha256(secret).hexdigest()
        said = ":" + "+".join(granted) if granted else ""
        entries.append(f"{name}{said}={hexadecimal.upper() if upper else hexadecimal}")
        scopes = frozenset(granted) or None
        expected.append(ApiKey(name, scopes, bytes.fromhex(hexadecimal)))

    assert read_api_keys(f" {between.join(entries)}, ") == tuple(expected)


@given(st.text(alphabet="ab=:+, \n.-_0\xe9" + ONE[:4]) | st.text())
def test_invalid_text_is_rejected_with_a_sentence(text: str) -> None:
    """Invalid text raises a SettingsError that names the entry, and no other exception."""
    with pytest.raises(SettingsError, match=r"^API_KEYS: .*\bentry \d+ "):
        read_api_keys(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("canoa_" + "k" * 43, "entry 1 must be NAME=DIGEST"),
        (f"web={ONE}, canoa_{'k' * 43}={TWO}", "entry 2 must be NAME=DIGEST"),
        (ONE, "entry 1 must be"),
        (f"{ONE}={TWO}", "entry 1 must be"),
        (f"={ONE}", "entry 1 must be"),
        (f"my web={ONE}", "entry 1 must be"),
        (f"web=canoa_{'k' * 43}", "entry 1 (web) must be the SHA-256"),
        (f"web={ONE[:-1]}", "entry 1 (web) must be the SHA-256"),
        (f"web={ONE}0", "entry 1 (web) must be the SHA-256"),
        (f"web={ONE}={ONE}", "entry 1 (web) must be the SHA-256"),
        (f"a={ONE}, web:=" + TWO, "entry 2 (web) has a scope that is not a word"),
        (f"web:predict+FLY={ONE}", "entry 1 (web) has a scope that is not a word"),
        (f"web:predict++info={ONE}", "entry 1 (web) has a scope that is not a word"),
        (f"web:{ONE}={TWO}", "entry 1 (web) has a scope that is not a word"),
        (f"a={ONE}, b:info={ONE}", "entry 2 (b) repeats a digest"),
    ],
)
def test_the_error_names_the_entry(text: str, says: str) -> None:
    """The error names the entry, and repeats neither a key nor a digest."""
    with pytest.raises(SettingsError) as caught:
        read_api_keys(text)

    assert says in str(caught.value)
    for secret in (ONE[:8], TWO[:8], "kkkk", "FLY"):
        assert secret not in str(caught.value)


def test_an_unknown_scope_stops_the_start() -> None:
    """A scope that no function requires stops the start; the error lists the known scopes."""
    gate = Gate(read_settings({"API_KEYS": f"a={ONE} web:predcit={TWO}"}), None)
    gate.check_scopes(["info", "predcit"])

    with pytest.raises(SettingsError, match=r"web has the scope 'predcit', .* info, predict\.$"):
        gate.check_scopes(["predict", "info"])


def test_two_keys_may_have_one_name() -> None:
    """Two keys may share a name, so that the old and the new one work during a rotation."""
    old, new = read_api_keys(f"web={ONE} web={TWO}")

    assert find_api_key((old, new), "one") is old
    assert find_api_key((old, new), "two") is new
    assert find_api_key((old, new), "three") is None


@given(
    st.sampled_from(["Authorization", "X-API-Key"]),
    st.text()
    | st.sampled_from(["", "Bearer ", "bearer\t", "Basic "]).flatmap(
        lambda scheme: st.text().map(lambda text: scheme + text)
    ),
)
def test_no_header_raises(name: str, value: str) -> None:
    """Surrogates, control characters and huge headers give an anonymous caller and no exception."""
    gate = Gate(read_settings({"API_KEYS": API_KEYS}), None)
    caller = gate.identify({name: value})
    huge = gate.identify({name: "Bearer " + value * 10_000})

    for one in (caller, huge):
        assert one.name is None
        assert not one.scopes
        assert one.refusal


def test_any_string_may_be_a_key() -> None:
    """Any string of up to 256 characters is accepted as a key if its digest is listed."""
    for length in (1, 256):
        assert find_api_key(read_api_keys(f"a={digest('x' * length)}"), "x" * length)
    assert not find_api_key(read_api_keys(f"a={digest('x' * 257)}"), "x" * 257)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"API_KEYS": API_KEYS, "AUTH": "none"}, "AUTH=none opens the API, and API_KEYS"),
        (
            {"JWT_ISSUER": "https://x", "JWT_AUDIENCE": "a", "AUTH": "none"},
            "and JWT_ISSUER restricts",
        ),
        ({"JWT_ISSUER": "https://x"}, "JWT_AUDIENCE must be set too"),
        ({"JWT_AUDIENCE": "a"}, "JWT_ISSUER must be set too"),
        ({"JWT_JWKS_URL": "https://x"}, "JWT_ISSUER must be set too"),
        ({"JWT_ISSUER": "http://login.example.com", "JWT_AUDIENCE": "a"}, "must be a URL such as"),
        ({"JWT_ISSUER": "http://localhost@x.example", "JWT_AUDIENCE": "a"}, "must be a URL"),
        ({"JWT_ISSUER": "https://[x", "JWT_AUDIENCE": "a"}, "must be a URL"),
        ({"JWT_ISSUER": "login.example.com", "JWT_AUDIENCE": "a"}, "must be a URL"),
        ({"AUTH": "off"}, "must be none, or unset"),
        ({"RATE_LIMIT_STORAGE": "redis://localhost"}, "RATE_LIMIT must be set too"),
        ({"RATE_LIMIT": "1/day", "RATE_LIMIT_STORAGE": "http://:pw@x"}, "must be a URL such as"),
    ],
)
def test_settings_that_contradict_stop_the_start(environment: dict[str, str], says: str) -> None:
    """Settings that contradict each other stop the start; the error repeats no password."""
    with pytest.raises(SettingsError) as caught:
        read_settings(environment)

    assert says in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "auth"),
    [
        ({}, None),
        ({"AUTH": "none"}, "none"),
        ({"API_KEYS": API_KEYS}, "required"),
        ({"JWT_ISSUER": "http://[::1]:8080", "JWT_AUDIENCE": "a"}, "required"),
        ({"DYNO": "web.1"}, "required"),
        ({"K_SERVICE": "predict", "AUTH": ""}, "required"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "predict"}, "required"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "predict", "AUTH": "None"}, "none"),
    ],
)
def test_the_settings_decide_whether_keys_are_required(
    environment: dict[str, str], auth: str | None
) -> None:
    """The API is open on a laptop, closed on a cloud, and needs keys where any are configured."""
    assert read_settings(environment).auth == auth


def test_libraries_are_imported_only_when_needed() -> None:
    """With API keys configured, no token, rate limit or TLS library is imported."""
    script = """
import sys
from serving.routes import load_functions
class Request:
    method, path, args = "GET", "/", {}
    headers = {"Authorization": "Bearer a.b.c", "X-API-Key": "x"}
for function in load_functions("functions"):
    route = function.route
    assert route.method != "GET" or route.scope is None or function(Request())[1] == 401
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**clean_environment(), "API_KEYS": API_KEYS, "LOG_LEVEL": "error"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(run.stdout.split())

    assert {"hmac", "hashlib"} <= loaded
    assert not loaded & {"jwt", "cryptography", "ssl", "limits", "redis", "http", "email"}
