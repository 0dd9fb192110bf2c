"""`load_model()`: the cached model that every function of this process shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from serving.model.model import Model
from serving.process import process

if TYPE_CHECKING:
    from serving.model.explain import Explainer

__all__ = ["is_outdated", "load_explainer", "load_model"]


def load_model() -> Model:
    """
    Return this process's model; the first call loads it.

    Raises:
        ModelUnavailable: It cannot be loaded now. The log says why, and the client may retry.
    """
    return process().model.get()


def load_explainer(model: Model) -> Explainer:
    """
    Return what explains the answers of *model*; the first call reads the background rows.

    Raises:
        NotFound: The bundle has no background rows.
        ModelUnavailable: They cannot be read now. The log says why, and the client may retry.
    """
    if model.explainer is None:
        from serving.model.explain import Explainer  # predict does not need it

        model.explainer = Explainer(model, process().model.background(model.manifest))
    return cast("Explainer", model.explainer)


def is_outdated() -> bool:
    """Whether another version than the one served is live, and was rejected."""
    return process().model.outdated
