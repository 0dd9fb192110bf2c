"""A limit on memory, as a dyno or Lambda sets it: through Linux control groups, as root."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Limited", "memory_limit"]

_ROOT = Path("/sys/fs/cgroup")


class Limited:
    """A control group, with whatever is started in it."""

    def __init__(self, group: Path, *, old: bool) -> None:
        self._group = group
        self._old = old
        #: What starts a command in the group.
        self.prefix = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]

    def kills(self) -> int:
        """How many processes the kernel has killed for want of memory."""
        name = "memory.oom_control" if self._old else "memory.events"
        return self._figure(name, "oom_kill")

    def used(self) -> int:
        """Bytes that the processes hold, without files that the kernel may drop."""
        return self._figure("memory.stat", "rss" if self._old else "anon")

    def _figure(self, file: str, name: str) -> int:
        lines = (self._group / file).read_text("utf-8").splitlines()
        [value] = [line.split()[1] for line in lines if line.split()[0] == name]
        return int(value)


@contextlib.contextmanager
def memory_limit(size: int) -> Iterator[Limited]:
    """
    Make a control group that may hold *size* bytes, the kernel's copies of files included.

    Raises:
        OSError: This machine has no control groups that we may make.
    """
    old = (_ROOT / "memory").is_dir()  # version 1; version 2 has all controllers in one tree
    group = _ROOT / ("memory" if old else "") / f"canoa-memory-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(size))
        yield Limited(group, old=old)
    finally:
        for _ in range(100):  # a process that was killed is in it for a moment still
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.05)
