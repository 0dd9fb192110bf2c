"""Modules that are read when something in them is asked for, and not when they are imported."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

__all__ = ["deferred"]

_lock = threading.Lock()


@contextlib.contextmanager
def deferred(*names: str) -> Iterator[None]:
    """
    Meanwhile, let modules of these *names* be imported at no cost, where they were not yet.

    Who imports one meanwhile holds a stand-in, which passes on what it is asked; who imports it
    afterwards gets the module itself. importlib.util.LazyLoader is for that, but on Python 3.11 to
    3.13 the statement that imports a module asks it for something, and so reads it.
    """
    stand_ins = [_StandIn(name) for name in names if name not in sys.modules]
    sys.modules.update({module.__name__: module for module in stand_ins})
    try:
        yield
    finally:
        for module in stand_ins:
            _remove(module)


class _StandIn(ModuleType):
    def __getattr__(self, attribute: str) -> Any:
        _remove(self)
        module = importlib.import_module(self.__name__)
        if attribute == "__all__" and not hasattr(module, attribute):  # for `from … import *`
            return [name for name in vars(module) if not name.startswith("_")]
        return getattr(module, attribute)


def _remove(stand_in: ModuleType) -> None:
    with _lock:
        if sys.modules.get(stand_in.__name__) is stand_in:
            del sys.modules[stand_in.__name__]
