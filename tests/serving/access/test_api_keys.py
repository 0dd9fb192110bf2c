"""API_KEYS: what may stand there, what may be sent, and that a secret is never repeated."""

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
def test_what_is_written_is_read(
    made: list[tuple[str, set[str], bytes]], between: str, upper: bool
) -> None:
    """Names, scopes and digests come back, whatever stands between the entries."""
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
def test_rubbish_is_refused_with_a_sentence(text: str) -> None:
    """Whatever it is; nothing else is raised."""
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
        (f"a={ONE}, b:info={ONE}", "entry 2 (b) has another's digest"),
    ],
)
def test_what_is_wrong_is_said_by_its_place(text: str, says: str) -> None:
    """The entry is named; neither a key nor a digest is repeated."""
    with pytest.raises(SettingsError) as caught:
        read_api_keys(text)

    assert says in str(caught.value)
    for secret in (ONE[:8], TWO[:8], "kkkk", "FLY"):
        assert secret not in str(caught.value)


def test_a_scope_that_no_function_asks_for_stops_the_start() -> None:
    """Such a key could do nothing; the sentence names the key and the scopes that there are."""
    gate = Gate(read_settings({"API_KEYS": f"a={ONE} web:predcit={TWO}"}), None)
    gate.check_scopes(["info", "predcit"])

    with pytest.raises(SettingsError, match=r"web has the scope 'predcit', .* info, predict\.$"):
        gate.check_scopes(["predict", "info"])


def test_two_keys_may_have_one_name() -> None:
    """The new one is let in while the old one still is."""
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
def test_no_header_is_a_fault_of_ours(name: str, value: str) -> None:
    """Surrogates, control characters, megabytes: a stranger, and no exception."""
    gate = Gate(read_settings({"API_KEYS": API_KEYS}), None)
    caller = gate.identify({name: value})
    huge = gate.identify({name: "Bearer " + value * 10_000})

    for one in (caller, huge):
        assert one.name is None
        assert not one.scopes
        assert one.refusal


def test_a_key_of_ones_own_is_taken() -> None:
    """Any string is, if its digest is there: up to 256 characters."""
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
    """One sentence says which, and repeats no password."""
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
def test_who_gets_in_follows_from_what_is_set(
    environment: dict[str, str], auth: str | None
) -> None:
    """Open on a laptop, closed on a cloud, and asked for wherever keys or tokens are set up."""
    assert read_settings(environment).auth == auth


def test_nothing_of_it_is_imported_before_it_is_needed() -> None:
    """Neither tokens' libraries nor the rate limit's, with keys on; and no TLS."""
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
