"""The way of a new version: the comparison with the live one, the gate, the store."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from serving.bundle.reader import Bundle
from serving.bundle.trust import Trust
from serving.model.model import Model
from serving.stores.folder import FolderStore

from training.errors import on_interrupt
from training.fit.split import HeldOut
from training.registry.location import find_live, open_location
from training.registry.promote import how_to_promote, make_live
from training.registry.publish import upload
from training.registry.summary import show_bundle
from training.registry.verdict.compare import Comparison, compare
from training.registry.verdict.conditions import Condition
from training.registry.verdict.gate import judge
from training.report import say

__all__ = ["Release", "Wish"]


class Wish(NamedTuple):
    """Where a new version is to go, and what it must meet to go live there."""

    #: All must be met.
    conditions: Sequence[Condition] = ()
    #: The location of all models in a store; None for the folder alone.
    to: str | None = None
    #: Whether it goes live in spite of warnings.
    despite_warnings: bool = False
    #: Which signatures are required there, and whether the live model's pickle may be opened.
    trust: Trust = Trust()


class Release:
    """The way of one new version to its location."""

    def __init__(self, folder: Path, wish: Wish) -> None:
        """
        Open the version's location, so that a store that is missing is reported before the work.

        Args:
            folder: The model's folder, such as models/credit.
            wish: Where the version is to go, and what it must meet.

        Raises:
            BundleError: The store fails.
        """
        self._folder = FolderStore(folder)
        self._wish = wish
        to = wish.to
        self._model = self._folder if to is None else open_location(to).at(folder.name)
        self._seen = find_live(self._model)
        self._found: Comparison | None = None

    def compare(self, model: Model, held: HeldOut) -> dict[str, dict[str, Any]]:
        """
        Compare the new *model* with the live one on the rows *held* out.

        Returns:
            For the manifest's metrics: each figure's difference from the live model's, and the ends
            of its 95 % interval. Empty if no model is live, or if the two cannot be compared.

        Raises:
            BundleError: The store fails.
        """
        self._seen = find_live(self._model)
        if self._seen is None and not self._wish.conditions:
            return {}
        live = self._model.at(self._seen.version) if self._seen else None
        self._found = compare(model, live, held, self._wish.trust)
        beside = self._found.beside
        if self._seen is None or beside is None:
            return {}
        both = beside.our_draws.keys() & beside.theirs.keys() & beside.ours.keys()
        found = {name: beside.difference(name) for name in sorted(both)}
        against = {
            name: [value, *(ends or ())] for name, (value, ends) in found.items() if isfinite(value)
        }
        return {"against": {"version": self._seen.version, "rows": beside.rows, **against}}

    def finish(self, path: Path, warnings: Sequence[str]) -> bool:
        """
        Show the version at *path*, bring it to its store, and let it go live if it may.

        Args:
            path: The version's folder; it is not live yet.
            warnings: What is suspicious: with any, it goes live only if the user says so.

        Returns:
            Whether it is live.

        Raises:
            BundleError: The store fails, or someone else moved `latest` since the comparison.
        """
        with on_interrupt(f"{path} is written, and not live"):
            return self._finish(path, warnings)

    def _finish(self, path: Path, warnings: Sequence[str]) -> bool:
        wish, model, seen = self._wish, self._model, self._seen
        bundle = Bundle(FolderStore(path), trust=wish.trust if wish.to else Trust())
        version = bundle.manifest.version
        met = True
        show_bundle(path, self._found)
        if wish.conditions and self._found is not None:
            met, lines = judge(wish.conditions, self._found)
            say(*filter(None, (self._found.problem, *lines)))
        say(*(f"Warning: {warning}" for warning in warnings))
        if wish.to is not None:
            upload(bundle, model)
        if met and (wish.despite_warnings or not warnings):
            make_live(model, version, seen)
            if wish.to is not None:
                make_live(self._folder, version, find_live(self._folder))
            say(f"{version} is live{f'; it was {seen.version}' if seen else ''}.")
            return True
        stays = f"{seen.version} stays live" if seen else "none is live"
        why = " because of the warnings" if met else ""
        say(
            f"{version} was not promoted{why}; {stays} in {model}. To promote it anyway:",
            f"  {how_to_promote(version, model)}",
        )
        return False
