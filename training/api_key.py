"""`key`: make an API key, and say what goes where. Nothing of it is written to a file."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from rich.console import Console
from serving.access.api_keys import KEY_PREFIX, NAME, SCOPES, digest

from training.errors import TrainingError

__all__ = ["make_api_key"]


def make_api_key(name: str, scopes: Sequence[str]) -> None:
    """
    Print a new key, and the entry of API_KEYS that lets it in.

    Args:
        name: Of whom it is for; logs say it.
        scopes: What it may do; none means all.

    Raises:
        TrainingError: The name cannot stand in API_KEYS.
    """
    if not NAME.fullmatch(name):
        raise TrainingError(
            f"a key cannot be called {name!r}: at most 40 letters, digits, '.', '_' and '-' can."
        )
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    granted = [scope for scope in SCOPES if scope in scopes]
    entry = f"{name}{':' * bool(granted)}{'+'.join(granted)}={digest(key)}"

    # A line that was broken to fit the screen could not be copied.
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"[bold]{key}[/]\n\n"
        f"The key of {name}, for {' and '.join(granted or SCOPES)}. It is shown this once. "
        "The caller sends\n\n"
        f"  curl -H 'Authorization: Bearer {key}' …\n\n"
        "The server gets its digest, which makes no key, beside those of others:\n\n"
        f'  export API_KEYS="$API_KEYS {entry}"\n'
    )
    for where, command in _COMMANDS.items():
        console.print(f"  {where:14}{command}")


#: How API_KEYS gets from a shell to where it counts.
_COMMANDS = {
    "this machine": "make run",
    "Heroku": 'heroku config:set API_KEYS="$API_KEYS"',
    "AWS": "make deploy-aws STAGE=prod",
    "Google Cloud": 'gcloud run services update predict --update-env-vars "API_KEYS=$API_KEYS"',
}
