"""Modules that are read when something in them is asked for, and not when they are imported."""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType
from typing import Any

__all__ = ["defer"]

_lock = threading.Lock()


def defer(*names: str) -> None:
    """
    Let modules of these *names* be imported at no cost, where they were not yet.

    importlib.util.LazyLoader is for that, but up to Python 3.11 the second import of a module asks
    it for something, and so reads it.
    """
    for name in names:
        if name not in sys.modules:
            sys.modules[name] = _stand_in(name)


def _stand_in(name: str) -> ModuleType:
    module = ModuleType(name)

    def find(attribute: str) -> Any:
        with _lock:
            if sys.modules.get(name) is module:
                del sys.modules[name]
        found = importlib.import_module(name)
        vars(module).update(vars(found))  # for who holds it, or takes all that is in it
        return getattr(found, attribute)

    vars(module)["__getattr__"] = find  # PEP 562: called for what is not there
    return module
