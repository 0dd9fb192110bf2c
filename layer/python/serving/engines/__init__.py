"""What runs a model. An engine knows one library, and nothing of HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from serving.errors import BundleError
from serving.manifest import GRAPH_FILE, PIPELINE_FILE, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = ["Columns", "Engine", "Scores", "open_engine"]

#: One sequence of values per feature, in the manifest's order: float, bool, str or None each.
Columns = Sequence[Sequence[Any]]


class Scores(NamedTuple):
    """What an engine answers for n rows."""

    #: Regression: shape (n,). Classification: indices into the manifest's classes, shape (n,).
    values: npt.NDArray[Any]
    #: Shape (n, classes); None for regression, or where the classifier has none.
    probabilities: npt.NDArray[Any] | None


class Engine(Protocol):
    """Scores rows. Safe to call from several threads at once."""

    def score(self, columns: Columns) -> Scores:
        """Score n rows, n at least 1."""


def open_engine(manifest: Manifest, read: Callable[[str], bytes], *, allow_pickle: bool) -> Engine:
    """
    Open the engine that the manifest names, on files that *read* has verified.

    Raises:
        BundleError: The file is not usable, or it is a pickle and those are not allowed.
    """
    if manifest.engine.name == "onnx":
        from serving.engines.onnx import OnnxEngine

        return OnnxEngine(manifest, read(GRAPH_FILE))
    if not allow_pickle:
        raise BundleError(
            f"model {manifest.name} {manifest.version} runs on scikit-learn, and opening "
            f"{PIPELINE_FILE} can run any code that is in it. If you trust the bundle, "
            "set ALLOW_PICKLE=1."
        )
    from serving.engines.sklearn import SklearnEngine

    return SklearnEngine.from_bytes(manifest, read(PIPELINE_FILE))
