"""Limits of memory and CPU by Linux control groups, as root, as on a dyno or on Lambda."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Limited", "cpu_share", "memory_limit"]

_ROOT = Path("/sys/fs/cgroup")
#: Microseconds. The quota is a share of this period, which is as short as Lambda's.
_PERIOD = 20_000


class Limited:
    """A control group, and the processes that are started in it."""

    def __init__(self, controller: str) -> None:
        # Version 1 has a tree for each controller; version 2 has one tree for all.
        self.old = (_ROOT / controller).is_dir()
        parent = _ROOT / controller if self.old else _ROOT
        self._group = parent / f"canoa-{controller}-{os.getpid()}"
        self._group.mkdir()
        #: A prefix that starts a command in the group.
        self.prefix = ["sh", "-c", f'echo $$ > {self._group}/cgroup.procs; exec "$@"', "sh"]

    def limit(self, file: str, value: str) -> None:
        """Set a limit."""
        (self._group / file).write_text(value)

    def kills(self) -> int:
        """Count the processes that the kernel killed because memory ran out."""
        return self._figure("memory.oom_control" if self.old else "memory.events", "oom_kill")

    def used(self) -> int:
        """Return the bytes that the processes use, without cached files."""
        return self._figure("memory.stat", "rss" if self.old else "anon")

    def remove(self) -> None:
        """Remove the group, once all its processes have ended."""
        for _ in range(100):  # a killed process stays in the group for a moment
            with contextlib.suppress(OSError):
                self._group.rmdir()
                break
            time.sleep(0.05)

    def _figure(self, file: str, name: str) -> int:
        lines = (self._group / file).read_text("utf-8").splitlines()
        [value] = [line.split()[1] for line in lines if line.split()[0] == name]
        return int(value)


@contextlib.contextmanager
def memory_limit(size: int) -> Iterator[Limited]:
    """
    Make a group that may use *size* bytes, including the kernel's cached files.

    Raises:
        OSError: Control groups cannot be made on this machine.
    """
    with _group("memory") as limited:
        limited.limit("memory.limit_in_bytes" if limited.old else "memory.max", str(size))
        yield limited


@contextlib.contextmanager
def cpu_share(share: float) -> Iterator[Limited]:
    """
    Make a group that has *share* of one core.

    Raises:
        OSError: Control groups cannot be made on this machine.
    """
    with _group("cpu") as limited:
        quota = int(_PERIOD * share)
        if limited.old:
            limited.limit("cpu.cfs_period_us", str(_PERIOD))
            limited.limit("cpu.cfs_quota_us", str(quota))
        else:
            limited.limit("cpu.max", f"{quota} {_PERIOD}")
        yield limited


@contextlib.contextmanager
def _group(controller: str) -> Iterator[Limited]:
    limited = Limited(controller)
    try:
        yield limited
    finally:
        limited.remove()
