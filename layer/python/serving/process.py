"""What the functions of one process share: its settings, who may call, and the live model."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping

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
        self.model = LiveModel(
            self.settings.model_uri,
            trust=Trust.from_settings(self.settings, deployed_folder(environment)),
            limits=Limits(self.settings.max_instances, self.settings.max_answer_bytes),
            store_timeout_seconds=self.settings.store_timeout_seconds,
            refresh_seconds=self.settings.model_refresh_seconds,
        )


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
    Start anew with the settings in *environment*.

    Raises:
        SystemExit: A value cannot be read.
    """
    global _process
    with stopping():
        _process = Process(environment)
        _process.gate.announce()
        _process.gate.fetch_keys()
    return _process


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """
    End the process with one sentence where an error makes a start impossible.

    Raises:
        SystemExit: In place of a CanoaError.
    """
    try:
        yield
    except CanoaError as error:
        raise SystemExit(f"canoa: {error}") from None
