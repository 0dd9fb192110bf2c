"""Reads off a fitted pipeline what each of its columns is to it: the contract with clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # allows the next import
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.impute import IterativeImputer, KNNImputer, MissingIndicator, SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, TargetEncoder

from training.export.converters.compose import resolve_columns
from training.export.walk import best_of, walk
from training.fit.sample import MISSING

__all__ = [
    "VECTORIZERS",
    "Use",
    "categories_of_text",
    "coded_columns",
    "own_columns",
    "read_columns",
    "read_uses",
    "takes_texts",
]

VECTORIZERS = (CountVectorizer, HashingVectorizer, TfidfVectorizer)
#: To the steps of these packages, a text of digits is its number.
_LIBRARIES = {"sklearn", "imblearn", "xgboost", "lightgbm", "catboost", "numpy", "pandas"}


class Use:
    """What the pipeline does with one column."""

    def __init__(self) -> None:
        #: What its encoders know, in their order; None if none reads it.
        self.categories: list[Any] | None = None
        #: Whether a step reads it as text.
        self.text = False
        #: Whether an imputer fills its gaps.
        self.imputed = False
        #: Whether any other step reads it.
        self.read = False
        #: Whether an encoder knows texts that steps such as a function made of it.
        self.coded = False
        #: Whether a step of another package than `_LIBRARIES` reads it.
        self.own = False

    @property
    def ignored(self) -> bool:
        """Whether no step reads it."""
        return self.categories is None and not (self.text or self.imputed or self.read)

    def encode(self, categories: Any) -> None:
        """Add the categories that an encoder knows."""
        known = self.categories or []
        plain = [value.item() if isinstance(value, np.generic) else value for value in categories]
        self.categories = list(dict.fromkeys([*known, *(v for v in plain if not _is_gap(v))]))


def read_uses(pipeline: Any, columns: int) -> list[Use]:
    """Return what *pipeline* does with each of its *columns*, by index."""
    uses = [Use() for _ in range(columns)]
    _step(best_of(pipeline), list(range(columns)), uses)
    return uses


def read_columns(model: Any, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of *frame* that a step of the fitted *model* reads."""
    uses = read_uses(model, frame.shape[1])
    return frame.iloc[:, [i for i, use in enumerate(uses) if not use.ignored]]


def takes_texts(model: Any) -> bool:
    """Whether *model* was fitted on texts themselves: a Series or a list of strings."""
    model = best_of(model)
    if isinstance(model, Pipeline):
        return takes_texts(model.steps[0][1])
    if isinstance(model, FeatureUnion):
        return all(takes_texts(step) for _, step in model.transformer_list)
    if isinstance(model, TransformedTargetRegressor):
        return takes_texts(model.regressor_)
    return isinstance(model, VECTORIZERS)


def _is_gap(value: Any) -> bool:
    return value is None or value != value  # noqa: PLR0124  # NaN differs from itself


_Places = list[int | None]


def _step(step: Any, places: _Places, uses: list[Use]) -> _Places:
    """Read one step; return the feature that each output still is, None if it is computed."""
    step = best_of(step)
    for kinds, reader in _READERS:
        if isinstance(step, kinds):
            found: _Places = reader(step, places, uses)
            return found
    return _computed(step, places, uses)


def _computed(step: Any, places: _Places, uses: list[Use]) -> _Places:
    for use in _used(places, uses):
        use.read = True
        use.own |= _is_own(step)
    return []


def _is_own(step: Any) -> bool:
    """Whether *step* is, holds or calls code of another package than `_LIBRARIES`."""
    inside = [step, *(inner for _, inner in walk(step))]
    called = [getattr(inner, "func", None) or type(inner) for inner in inside]
    made = {str(getattr(code, "__module__", None) or "numpy") for code in called}
    return not {name.partition(".")[0] for name in made} <= _LIBRARIES


def _used(places: _Places, uses: list[Use]) -> list[Use]:
    return [uses[i] for i in places if i is not None]


def _word(step: Any, places: _Places, uses: list[Use]) -> _Places:
    if step == "drop":
        return []
    for use in _used(places, uses):
        use.read = True
    return places


def _pipeline(step: Any, places: _Places, uses: list[Use]) -> _Places:
    # imbalanced-learn's samplers draw training rows, and do nothing afterwards.
    steps = [
        inner
        for _, inner in step.steps
        if not (inner is None or isinstance(inner, str) or hasattr(inner, "fit_resample"))
    ]
    for i, inner in enumerate(steps):
        before, places = places, _step(inner, places, uses)
        rest = steps[i + 1 :]
        if not places and rest and getattr(rest[0], "n_features_in_", None) == len(before):
            # What it computed is unknown; the columns are taken for those that went in.
            made = [Use() for _ in before]
            _step(rest[0], list(range(len(made))), made)
            for place, use in zip(before, made, strict=True):
                if place is not None and any(isinstance(v, str) for v in use.categories or ()):
                    uses[place].coded = True
    return places


def _union(step: Any, places: _Places, uses: list[Use]) -> _Places:
    return [p for _, inner in step.transformer_list for p in _step(inner, places, uses)]


def _around(step: Any, places: _Places, uses: list[Use]) -> _Places:
    return _step(step.regressor_, places, uses)


def _vectorizer(_: Any, places: _Places, uses: list[Use]) -> _Places:
    for use in _used(places, uses):
        use.text = True
    return []


def _encoder(step: Any, places: _Places, uses: list[Use]) -> _Places:
    for i, known in zip(places, step.categories_, strict=False):
        if i is not None:
            uses[i].encode(known)
    return []


def _imputer(step: Any, places: _Places, uses: list[Use]) -> _Places:
    for use in _used(places, uses):
        use.imputed = True
    return places if len(getattr(step, "statistics_", ())) == len(places) else []


def _function(step: Any, places: _Places, uses: list[Use]) -> _Places:
    return places if step.func is None else _computed(step, places, uses)


def _column_transformer(step: Any, places: _Places, uses: list[Use]) -> _Places:
    names = getattr(step, "feature_names_in_", None)
    made: _Places = []
    for _, inner, columns in step.transformers_:
        chosen = resolve_columns(columns, names, step.n_features_in_)
        made += _step(inner, [places[i] if i < len(places) else None for i in chosen], uses)
    return made


def _histograms(model: Any, places: _Places, uses: list[Use]) -> _Places:
    chosen: _Places = []
    if model._preprocessor is not None:
        chosen = [i for i, c in zip(places, model.is_categorical_, strict=False) if c]
        _encoder(model._preprocessor.named_transformers_["encoder"], chosen, uses)
    for use in _used([i for i in places if i not in chosen], uses):
        use.read = True
    return []


_READERS: list[tuple[Any, Any]] = [
    (str | None, _word),
    (Pipeline, _pipeline),
    (ColumnTransformer, _column_transformer),
    (FeatureUnion, _union),
    (TransformedTargetRegressor, _around),
    (VECTORIZERS, _vectorizer),
    ((OneHotEncoder, OrdinalEncoder, TargetEncoder), _encoder),
    ((HistGradientBoostingClassifier, HistGradientBoostingRegressor), _histograms),
    ((IterativeImputer, KNNImputer, MissingIndicator, SimpleImputer), _imputer),
    (FunctionTransformer, _function),
]


def coded_columns(model: Any) -> list[str]:
    """Name the columns of which a step, such as a function, makes texts that an encoder knows."""
    names = list(getattr(model, "feature_names_in_", ()))
    return [n for n, use in zip(names, read_uses(model, len(names)), strict=True) if use.coded]


def own_columns(model: Any, names: Sequence[str]) -> list[str]:
    """Name those of the columns *names* that code of the user's own reads."""
    return [n for n, use in zip(names, read_uses(model, len(names)), strict=True) if use.own]


def categories_of_text(model: Any, columns: Sequence[str] = ()) -> dict[str, set[str]]:
    """
    Find the columns that *model* was fitted on as text, and the categories known of each.

    Args:
        model: Fitted.
        columns: The sample's, for a model that takes texts themselves and knows no names.
    """
    if takes_texts(model):
        return {name: set(MISSING) for name in columns}
    names = list(getattr(model, "feature_names_in_", ()))
    found = {}
    for name, use in zip(names, read_uses(model, len(names)), strict=True):
        known = {value for value in use.categories or () if isinstance(value, str)}
        if use.text:
            found[name] = set(MISSING)  # to a text, none of these means missing
        elif known:
            found[name] = known
    return found
