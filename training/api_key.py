"""`key`: make an API key, and print where to put it. Nothing is written to a file."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from serving.access.api_keys import KEY_PREFIX, NAME, digest

from training.errors import TrainingError
from training.report import say

__all__ = ["make_api_key"]


def make_api_key(name: str, scopes: Sequence[str], known: Sequence[str]) -> None:
    """
    Print a new key, and its entry for API_KEYS.

    Args:
        name: The caller's name, which the log shows.
        scopes: What it may do; none means everything.
        known: The scopes that the functions ask for.

    Raises:
        TrainingError: The name cannot be used in API_KEYS, or no function asks for a scope.
    """
    if not NAME.fullmatch(name):
        raise TrainingError(
            f"a key cannot be called {name!r}: at most 40 letters, digits, '.', '_' and '-' can."
        )
    if unknown := [scope for scope in scopes if scope not in known]:
        raise TrainingError(
            f"no function asks for the scope {unknown[0]}; there are {', '.join(known)}."
        )
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    granted = sorted(set(scopes))
    entry = f"{name}{':' * bool(granted)}{'+'.join(granted)}={digest(key)}"

    say(
        f"{key}\n",
        f"The key of {name}, for {' and '.join(granted) or 'everything'}. It is shown this once. "
        "The caller sends\n",
        f"  curl -H 'Authorization: Bearer {key}' …\n",
        "The server gets the digest, which does not reveal the key, beside other entries:\n",
        f'  export API_KEYS="$API_KEYS {entry}"\n',
        *(f"  {where:14}{command}" for where, command in _COMMANDS.items()),
    )


#: The commands that set API_KEYS on each platform.
_COMMANDS = {
    "this machine": "make run",
    "Heroku": 'heroku config:set API_KEYS="$API_KEYS"',
    "AWS": "make deploy-aws STAGE=prod",
    "Google Cloud": 'gcloud run services update predict --update-env-vars "API_KEYS=$API_KEYS"',
}
