"""What `make test` runs of the contract on each platform."""

from __future__ import annotations

import pytest

#: The contract is tested whole on these; elsewhere `make test` runs what is marked `everywhere`.
WHOLE = {"direct", "lambda, HTTP API"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the rest to `make test-all`."""
    for item in items:
        if item.path.name == "test_conformance.py" and isinstance(item, pytest.Function):
            platform = item.callspec.params.get("send") if hasattr(item, "callspec") else None
            if platform not in {None, *WHOLE} and not item.get_closest_marker("everywhere"):
                item.add_marker("slow")
