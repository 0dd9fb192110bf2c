"""A model that answers: a manifest, the schema compiled from it, and the engine it names."""

from __future__ import annotations

from typing import Any

from serving.bundle import Bundle
from serving.engines import Columns, Engine, open_engine
from serving.errors import InvalidInstances
from serving.logs import log
from serving.manifest import Manifest
from serving.predictions import to_predictions
from serving.schema import Schema

__all__ = ["Model", "open_model"]


class Model:
    """One version, whole: whoever holds it gets every part of an answer from it."""

    def __init__(self, manifest: Manifest, engine: Engine) -> None:
        self.manifest = manifest
        self.schema = Schema(manifest)
        self._engine = engine

    def predict(self, columns: Columns) -> list[dict[str, Any]]:
        """
        Score n rows.

        Raises:
            InvalidInstances: The pipeline has no finite answer for them.
        """
        import numpy as np

        try:
            scores = self._engine.score(columns)
        except (ValueError, ArithmeticError) as error:
            # scikit-learn's word for values that its arithmetic cannot take.
            log("warning", "the pipeline refused values", error=type(error).__name__)
            raise InvalidInstances("The model cannot score these values.") from None
        answer = scores.values if scores.probabilities is None else scores.probabilities
        if not np.isfinite(answer).all():
            raise InvalidInstances("The model has no finite answer for these values.")
        return to_predictions(self.manifest, scores)


def open_model(bundle: Bundle, *, allow_pickle: bool) -> Model:
    """
    Open the model of *bundle*.

    Raises:
        BundleError: What it runs is missing, damaged or not allowed.
    """
    engine = open_engine(bundle.manifest, bundle.read, allow_pickle=allow_pickle)
    return Model(bundle.manifest, engine)
