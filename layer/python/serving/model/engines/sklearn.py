"""The fitted pipeline, if it has no graph. Opening it runs the code in the pickle."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd

from serving.errors import BundleError
from serving.model.engines import Columns, Scores, as_arrays, bounded

if TYPE_CHECKING:
    import numpy.typing as npt

    from serving.bundle.manifest import Feature, Manifest, Output

__all__ = ["SklearnEngine", "frame"]


class SklearnEngine:
    """Scores rows through scikit-learn, on data shaped like training's."""

    def __init__(self, manifest: Manifest, pipeline: Any) -> None:
        self._manifest = manifest
        self._pipeline = pipeline
        # Not every estimator's predict is thread-safe, and there is only one core anyway.
        self._lock = threading.Lock()

    @classmethod
    def from_bytes(cls, manifest: Manifest, pickled: bytes) -> SklearnEngine:
        """
        Unpickle. The caller has verified the bytes and may trust them (`serving.bundle.trust`).

        Raises:
            BundleError: Another scikit-learn trained it, or it will not load.
        """
        import sklearn

        # Checked first: another version may open the pickle and answer differently.
        trained = manifest.lineage.versions.get("scikit-learn")
        if trained != sklearn.__version__:
            raise BundleError(
                f"the pipeline was trained with scikit-learn {trained or 'of no known version'}, "
                f"and {sklearn.__version__} is installed; install the same version, or train again."
            )
        try:
            pipeline = joblib.load(io.BytesIO(pickled))
        except ModuleNotFoundError as error:
            raise BundleError(
                f"the pipeline needs the module {error.name}, which is not installed here."
            ) from error
        except Exception as error:  # a pickle may raise anything
            raise BundleError(f"the pipeline cannot be unpickled: {error!r}") from error
        if not hasattr(pipeline, "predict"):
            kind = type(pipeline).__name__
            raise BundleError(f"the pickle holds no model: a {kind} has no predict.")
        return cls(manifest, pipeline)

    def score(self, columns: Columns) -> Scores:
        """Score n rows, n at least 1."""
        groups = _alike(self._manifest.features, columns)
        parts = [self.score_together(group) for _, group in groups]
        if len(parts) == 1:
            return parts[0]
        return _joined(np.argsort(np.concatenate([rows for rows, _ in groups])), parts)

    def score_arrays(self, columns: Columns) -> Scores:
        """Score n rows, n at least 1."""
        return as_arrays(self.score(columns))

    def score_together(self, columns: Columns) -> Scores:
        """
        Score n rows as one table, which is fast.

        One fraction makes a column of integers float64 for every row, which can change answers.
        """
        with self._lock, np.errstate(all="ignore"):  # an answer that is not finite is rejected
            data: Any = frame(self._manifest.features, columns)
            if self._manifest.takes_texts:
                data = data.iloc[:, 0]
            elif not self._manifest.named_columns:
                data = data.to_numpy()
            try:
                return self._score(data)
            except LookupError as error:  # as CategoricalNB raises of a number that it never saw
                raise ValueError(f"no answer for such values: {error!r}") from error

    def _score(self, data: Any) -> Scores:
        manifest = self._manifest
        if manifest.task == "outliers":
            found = np.asarray(self._pipeline.decision_function(data)).reshape(-1)
            return Scores(found.tolist(), None)
        parts = manifest.parts
        chances: Any = None
        if any(part.has_probabilities for part in parts):
            chances = self._pipeline.predict_proba(data)
        if manifest.label_is_likeliest:
            # As predict does for such a model, without a second call.
            found = np.asarray(chances)
            return Scores(np.argmax(found, axis=1).tolist(), bounded(found.tolist()))
        predicted = np.asarray(self._pipeline.predict(data)).reshape(-1, len(parts))
        if not manifest.outputs:
            return _part_scores(parts[0], predicted[:, 0], chances)
        # Some give a table for each output, and some a column for each, of its second class.
        tables = chances if isinstance(chances, list) or chances is None else list(chances.T)
        scores = [
            _part_scores(part, predicted[:, i], None if tables is None else tables[i])
            for i, part in enumerate(parts)
        ]
        return Scores([], None, scores)


def _part_scores(part: Output, predicted: npt.NDArray[Any], chances: Any) -> Scores:
    if part.classes is None:
        if predicted.dtype == object:  # numbers as objects
            predicted = predicted.astype(np.float64)
        return Scores(predicted.tolist(), None)
    probabilities = None
    if part.has_probabilities:
        found = np.asarray(chances)
        found = np.column_stack([1 - found, found]) if found.ndim == 1 else found
        probabilities = bounded(found.tolist())
    places = {label: place for place, label in enumerate(part.classes)}
    return Scores([places[label] for label in predicted.tolist()], probabilities)


def _alike(features: list[Feature], columns: Columns) -> list[tuple[Any, Columns]]:
    """
    Split rows into groups whose columns have the same dtypes, so that no row changes another.

    Returns:
        For each group the places of its rows, and its columns.
    """
    rows = len(columns[0])
    exact = [
        _is_exact(np.array(values, dtype=np.float64), feature.dtype)
        for feature, values in zip(features, columns, strict=True)
        if _is_whole(feature.dtype)
    ]
    if rows == 1 or all(column.all() for column in exact):
        return [(np.arange(rows), columns)]
    _, group_of = np.unique(np.column_stack(exact), axis=0, return_inverse=True)
    groups = [np.flatnonzero(group_of == group) for group in range(group_of.max() + 1)]
    return [(places, [_take(values, places) for values in columns]) for places in groups]


def _take(values: Any, places: Any) -> Any:
    return values[places] if isinstance(values, np.ndarray) else [values[i] for i in places]


def _joined(order: Any, parts: list[Scores]) -> Scores:
    """Join the answers for groups of rows; *order* is where each row stands among them."""

    def joined(found: list[Any]) -> Any:
        if any(answers is None for answers in found):
            return None
        every = [answer for answers in found for answer in answers]
        return [every[i] for i in order] if every else []

    outputs = [part.outputs for part in parts if part.outputs is not None]
    return Scores(
        joined([part.values for part in parts]),
        joined([part.probabilities for part in parts]),
        [_joined(order, list(output)) for output in zip(*outputs, strict=True)] or None,
    )


def frame(features: list[Feature], columns: Columns) -> pd.DataFrame:
    """
    Build the DataFrame that training would have had: same names, same dtypes.

    An integer column that gets a fraction becomes float64, as in pandas itself.
    """
    return pd.DataFrame(
        {f.name: _series(f, values) for f, values in zip(features, columns, strict=True)}
    )


def _series(feature: Feature, values: Any) -> pd.Series[Any]:
    dtype = feature.dtype
    if dtype == "category":
        known = list(feature.categories or ())
        # pandas would turn an unseen category into a missing one.
        unseen = [value for value in dict.fromkeys(values) if value not in (None, *known)]
        return pd.Series(pd.Categorical(values, categories=[*known, *unseen]))
    if feature.kind == "number":
        numbers = _numbers(np.array(values, dtype=np.float64), dtype)
        none = dtype == "object" and feature.missing == "None"
        return numbers.where(numbers.notna(), None) if none else numbers
    if _is_whole(dtype):  # a code that the dtype cannot hold is one never seen
        limits = np.iinfo(dtype.lower())
        held = limits.min <= min(values) and max(values) <= limits.max
        return pd.Series(list(values), dtype=dtype if held else "int64")
    if dtype == "object" and feature.missing == "NaN":
        values = [np.nan if value is None else value for value in values]
    return pd.Series(list(values), dtype=dtype)


def _numbers(values: npt.NDArray[np.float64], dtype: str) -> pd.Series[Any]:
    exact = not _is_whole(dtype) or _is_exact(values, dtype).all()
    return pd.Series(values, dtype=dtype if exact else "float64")


def _is_whole(dtype: str) -> bool:
    return dtype.lower().startswith(("int", "uint"))


def _is_exact(values: npt.NDArray[np.float64], dtype: str) -> npt.NDArray[np.bool_]:
    """Return for each value whether *dtype*, an integer type, holds it exactly."""
    limits = np.iinfo(dtype.lower())
    low, high = float(limits.min), float(int(limits.max) + 1)  # 2**63 - 1 itself is no float64
    exact: npt.NDArray[np.bool_] = (values == np.floor(values)) & (values >= low) & (values < high)
    # Only pandas' own types such as "Int64" hold a missing value beside integers.
    return exact | np.isnan(values) if dtype[0].isupper() else exact
