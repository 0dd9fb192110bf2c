"""A share of a core, as Lambda gives it by memory: through Linux control groups, as root."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cpu_share"]

_ROOT = Path("/sys/fs/cgroup")
#: Microseconds; the quota is a share of it. Lambda's own is said to be as short.
_PERIOD = 20_000


@contextlib.contextmanager
def cpu_share(share: float) -> Iterator[list[str]]:
    """
    Make a control group that has *share* of one core; yield what starts a command in it.

    Raises:
        OSError: This machine has no control groups that we may make.
    """
    old = (_ROOT / "cpu").is_dir()  # version 1; version 2 has all controllers in one tree
    group = _ROOT / ("cpu" if old else "") / f"canoa-{os.getpid()}"
    group.mkdir()
    try:
        quota = int(_PERIOD * share)
        if old:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {_PERIOD}")
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]
    finally:
        group.rmdir()
