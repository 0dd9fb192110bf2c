"""Clients that send requests without pause, and count the outcome of each."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from tests.helpers.example import ROW
from tests.helpers.servers import Server

__all__ = ["CLIENTS", "Clients"]

CLIENTS = 16


class Clients:
    """Clients that keep their connections, and the outcome of each request."""

    def __init__(self, server: Server, retry: Retry | None = None) -> None:
        self.outcomes: Counter[str] = Counter()
        #: Requests that were only answered after a retry.
        self.retried = 0
        self._url = f"{server}/v0/predict"
        self._retry = retry
        self._over = threading.Event()
        self._lock = threading.Lock()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Send from many threads; at the end every request has its outcome."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            try:
                threads = [pool.submit(self._ask, random.Random(n)) for n in range(CLIENTS)]
                yield
            finally:
                self._over.set()
        for thread in threads:
            thread.result()

    def _ask(self, chance: random.Random) -> None:
        with requests.Session() as session:
            if self._retry:
                session.mount("http://", HTTPAdapter(max_retries=self._retry))
            while not self._over.wait(chance.choice((0, 0, 0.001, 0.01, 0.3))):
                outcome, retries = self._once(session)
                with self._lock:
                    self.outcomes[outcome] += 1
                    self.retried += retries > 0

    def _once(self, session: requests.Session) -> tuple[str, int]:
        broken = 0
        while True:
            try:
                answer = session.post(self._url, json=ROW, timeout=30)
                break
            except requests.exceptions.ChunkedEncodingError as error:
                # The worker died between head and body; urllib3 does not retry that by itself.
                broken += 1
                if not self._retry or broken > 3:
                    return repr(error), 0
            except requests.RequestException as error:
                return repr(error), 0
        history = answer.raw.retries.history if answer.raw.retries else ()
        return str(answer.status_code), len(history) + broken
