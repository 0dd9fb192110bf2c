"""The rows that `compare` scores two versions on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from serving.bundle.manifest import Manifest

from training.errors import TrainingError
from training.export.features import as_frame
from training.fit import project as projects
from training.fit.files import check_csv
from training.fit.sample import read_sample
from training.fit.split import Chosen, key_frame
from training.fit.tasks.target import read_target

__all__ = ["Rows", "Source", "read_rows"]


class Source(NamedTuple):
    """The rows that two versions are compared on: a file, a project's data, or none."""

    file: Path | None = None
    #: The file's target columns, one for each output, in order; none if the truth is not known.
    targets: Sequence[str] = ()
    project: str | None = None
    #: Whether neither model was fitted to any of the rows, whatever their rules say.
    unseen: bool = False


class Rows(NamedTuple):
    """n rows."""

    #: The features of both versions.
    frame: pd.DataFrame
    #: All columns, the id among them.
    keys: pd.DataFrame
    #: Shape (n,), or (n, outputs); None if it is not known.
    truth: Any
    #: The answer of the project's hold_out(), if it has one.
    chosen: Chosen | None


def read_rows(source: Source, first: Manifest, second: Manifest) -> Rows:
    """
    Read the rows for two versions.

    Raises:
        TrainingError: The file or the project is not right, or a feature of either is missing.
    """
    features = (*first.features, *second.features)
    if source.project is not None:
        module = projects.import_project(source.project)
        data, target = projects.load_data(module)
        frame, _ = as_frame(data)
        truth: Any = None if target is None else read_target(target, len(frame))
        found = Rows(frame, key_frame(data), truth, projects.hold_out(module, data))
    else:
        file = Path(str(source.file))
        check_csv(file)
        texts: dict[str, set[str]] = {}
        for feature in features:
            if feature.kind not in ("number", "boolean"):
                texts.setdefault(feature.name, set()).update(map(str, feature.categories or ()))
        targets = list(source.targets)
        if targets and len(targets) != len(first.parts):
            raise TrainingError(
                f"the versions predict {len(first.parts)} at once, but {len(targets)} columns are "
                "given by --target; name one for each output, in their order."
            )
        for part, target in zip(first.parts, targets, strict=False):
            if any(isinstance(label, str) for label in part.classes or ()):
                texts[target] = set(map(str, part.classes or ()))
        frame, truth = read_sample(file, strings=texts), None
        if lost := [target for target in targets if target not in frame]:
            raise TrainingError(
                f"{file} has no column {lost[0]}; it has {', '.join(map(str, frame.columns))}."
            )
        if targets:
            truth = read_target(frame[targets], len(frame))
            frame = frame.drop(columns=targets)
        found = Rows(frame, key_frame(frame), truth, None)
    missing = sorted({feature.name for feature in features} - set(found.frame.columns))
    if missing:
        raise TrainingError(f"the rows lack the feature {missing[0]}.")
    return found
