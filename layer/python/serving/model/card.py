"""The manifest's public part, which everyone who may call the model may read."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec

from serving.bundle.manifest import Manifest

__all__ = ["ModelCard", "model_card"]

_PRIVATE = ("format", "files")
_HINTS = get_type_hints(Manifest, include_extras=True)

#: What `model_card` returns, for /openapi.json.
ModelCard = msgspec.defstruct(
    "ModelCard",
    [
        *((name, kind) for name, kind in _HINTS.items() if name not in (*_PRIVATE, "parts")),
        ("num_features", int),
        ("model_created_at", str),
        ("num_trees", int | msgspec.UnsetType, msgspec.UNSET),
        ("feature_importances", dict[str, float] | msgspec.UnsetType, msgspec.UNSET),
    ],
)


def model_card(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest without what only a loader needs, and the usual names for its figures."""
    card: dict[str, Any] = {
        name: getattr(manifest, name) for name in manifest.__struct_fields__ if name not in _PRIVATE
    }
    card["num_features"] = len(manifest.features)
    card["model_created_at"] = manifest.created_at
    if manifest.estimator.num_trees is not None:
        card["num_trees"] = manifest.estimator.num_trees
    if manifest.importances.estimator is not None:
        card["feature_importances"] = manifest.importances.estimator
    return msgspec.to_builtins(card)  # type: ignore[no-any-return]
