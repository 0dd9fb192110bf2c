"""What the functions of one process share: its settings, who may call, and the live model."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from serving.access.gate import Gate
from serving.bundle.trust import Trust
from serving.errors import CanoaError
from serving.model.live import LiveModel
from serving.model.model import Limits
from serving.settings import Settings, deployed_folder, platform, read_settings
from serving.stores.location import check_location
from serving.telemetry.logs import set_level
from serving.telemetry.tracing import configure_telemetry

__all__ = ["Process", "process", "start", "stopping"]


class Process:
    """One process that serves functions."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """
        Read *environment*. Nothing is loaded or connected yet.

        Raises:
            CanoaError: A value cannot be read. The sentence names its variable.
        """
        self.settings: Settings = read_settings(environment)
        #: The name of the cloud that runs this process; None on a laptop.
        self.platform = platform(environment)
        check_location(self.settings.model_uri, "MODEL_URI")
        set_level(self.settings.log_level)
        configure_telemetry(self.settings.otel_exporter_otlp_endpoint)
        self.gate = Gate(self.settings, self.platform)
        self._trust = Trust.from_settings(self.settings, deployed_folder(environment))
        self.model = LiveModel(
            self.settings.model_uri,
            trust=self._trust,
            limits=Limits(self.settings.max_instances, self.settings.max_answer_bytes),
            store_timeout_seconds=self.settings.store_timeout_seconds,
            refresh_seconds=self.settings.model_refresh_seconds,
        )

    def listen(self, addresses: Iterable[Any]) -> None:
        """
        Note where the server listens. If nothing but loopback reaches it, it is at home.

        At home, a server opens its user's own pickles. A server that never calls this is not.
        Elsewhere, an API that is open because no setting closes it is logged.

        Args:
            addresses: What `socket.getsockname` returns of every socket that takes requests.
        """
        # A Unix socket's address is a path; a proxy may stand before it.
        hosts = [address[0] if isinstance(address, tuple) else "" for address in addresses]
        # With --reuse-port each worker opens its own sockets, and none are known here.
        on_loopback = bool(hosts) and all(map(_is_loopback, hosts))
        if not on_loopback:
            self.gate.announce_reachable()
        at_home = (
            self.platform is None
            and self.settings.allow_pickle is None
            and _is_loopback(self.settings.host or "127.0.0.1")
            and on_loopback
        )
        self.model.trust = self._trust._replace(at_home=at_home)

    def listen_by_command(self) -> None:
        """Log that the API is open, if functions-framework's command makes it reachable."""
        import click  # the command is made with it

        context = click.get_current_context(silent=True)
        if context and not _is_loopback(context.params.get("host", "")):
            self.gate.announce_reachable()


def _is_loopback(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_lock = threading.Lock()
_process: Process | None = None


def process() -> Process:
    """
    Return this process's `Process`; the first call reads the environment.

    Raises:
        SystemExit: A value cannot be read. It ends the start, with a sentence and no traceback.
    """
    if _process is not None:
        return _process
    with _lock:
        return _process or start(os.environ)


def start(environment: Mapping[str, str]) -> Process:
    """
    Start again with the settings in *environment*.

    Raises:
        SystemExit: A value cannot be read.
    """
    global _process
    with stopping():
        _process = Process(environment)
        _process.gate.announce()
        if "functions_framework" in sys.modules:
            _process.listen_by_command()
        _process.gate.fetch_keys()
    return _process


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """
    End the process with one sentence if an error makes a start impossible.

    Raises:
        SystemExit: In place of a CanoaError.
    """
    try:
        yield
    except CanoaError as error:
        raise SystemExit(f"canoa: {error}") from None
