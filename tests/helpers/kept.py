"""Keeps folders that are slow to make, for all workers and later runs, until sources change."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.helpers.servers import ROOT

__all__ = ["kept"]

#: Seconds. Younger folders stay, because another run may still use them.
_OLD_SECONDS = 3600
_SUFFIXES = {".css", ".csv", ".js", ".md", ".py", ".toml", ".txt"}


def kept(name: str, sources: list[str], make: Callable[[Path], None]) -> Path:
    """
    Return the folder that *make* filled. No test may change it.

    Args:
        name: The name of the folder.
        sources: The files and folders, from the repository's root, that it is made from.
        make: Fills an empty folder.
    """
    home = ROOT / ".pytest_cache" / "kept" / name
    home.mkdir(parents=True, exist_ok=True)
    folder = home / _digest(sources)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for old in home.glob("*/"):
                if old.name == "half" or time.time() - old.stat().st_mtime > _OLD_SECONDS:
                    shutil.rmtree(old)
            half = home / "half"
            half.mkdir()
            make(half)
            half.rename(folder)
    return folder


def _digest(sources: list[str]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    roots = [ROOT / source for source in sources]
    found = [path for root in roots for path in (root.rglob("*") if root.is_dir() else [root])]
    for path in sorted(found):
        if path.suffix in _SUFFIXES and path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
