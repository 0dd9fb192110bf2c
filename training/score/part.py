"""A worker scores the parts of one task, and writes each part whole."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from operator import itemgetter

import msgspec
import numpy as np
import pyarrow as pa
from serving.adapters.malloc import give_back_memory
from serving.bundle.manifest import Manifest
from serving.bundle.reader import Bundle
from serving.bundle.trust import Trust
from serving.errors import Conflict
from serving.model.engines import Scores
from serving.model.model import Model, open_model
from serving.model.predictions import to_columns as answer_columns
from serving.model.schema import UNSEEN
from serving.model.tables.columns import score_columns
from serving.stores.store import Store

from training.errors import TrainingError, describe
from training.registry.location import open_location
from training.score.cuts import open_span
from training.score.files import is_csv, open_input
from training.score.plan import Plan, Task
from training.score.tables import (
    encode_table,
    group_alike,
    read_csv,
    read_notes,
    read_parquet,
    to_columns,
    to_table,
)

__all__ = ["Part", "score_task"]

_LIMIT = 2**40


class Part(msgspec.Struct, frozen=True):
    """One output file."""

    name: str
    rows: int
    errors: int
    #: By feature: rows with a category that training never saw.
    unseen: dict[str, int]
    size: int
    sha256: str


def score_task(
    plan: Plan, task: Task, destination: str, done: frozenset[str], trust: Trust
) -> list[Part]:
    """
    Score what *task* names. It may run twice, and in two places at once: a part is written once.

    Args:
        plan: The run.
        task: What to score.
        destination: Where the parts go.
        done: The names of parts that are there.
        trust: Which bundles may be opened.

    Raises:
        TrainingError: The input cannot be read.
        BundleError: The bundle is not trusted, or a store fails.
    """
    model, types = _open(plan.location, plan.version, trust)
    store, csv = open_location(destination), is_csv(task.file.path)
    features = model.manifest.features

    def score(batch: pa.RecordBatch) -> pa.Table:
        alike, places = group_alike(features, batch)
        answers = score_columns(model, to_columns(features, alike, csv=csv))
        table = to_table(alike, plan.options.keep, answers, types)
        return table if alike is batch else table.take(places)

    found = []
    try:
        if task.part is not None and (name := task.name(plan, task.part)) in done:
            return [_describe(store, name, plan.format, model.manifest)]  # the file is not read
        for part, batches in _parts(plan, task, model.manifest):
            name = task.name(plan, part)
            if name in done:
                found.append(_describe(store, name, plan.format, model.manifest))
            else:
                table = pa.concat_tables(score(batch) for batch in batches)
                found.append(_write(store, name, plan.format, table, model.manifest))
    except (pa.ArrowException, OSError, TrainingError) as error:
        said = str(error) if isinstance(error, TrainingError) else f"{describe(error)}."
        raise TrainingError(f"{task.file.path} cannot be scored: {said}") from error
    return found


@functools.lru_cache(maxsize=1)
def _open(location: str, version: str, trust: Trust) -> tuple[Model, dict[str, pa.DataType]]:
    """Open the model, verified as a server does it; once in a process."""
    give_back_memory()
    model = open_model(Bundle(open_location(location), version, trust=trust))
    return model, _types(model.manifest)


def _types(manifest: Manifest) -> dict[str, pa.DataType]:
    """Return the type of each column of the answers."""
    parts = [
        Scores(
            np.zeros(1, dtype=float if part.classes is None else int),
            np.ones((1, len(part.classes or ()))) if part.has_probabilities else None,
        )
        for part in manifest.parts
    ]
    answers = answer_columns(manifest, Scores([], None, parts))
    return {name: pa.array(values.tolist()).type for name, values in answers.items()}


def _parts(
    plan: Plan, task: Task, manifest: Manifest
) -> Iterator[tuple[int, Iterator[pa.RecordBatch]]]:
    """Yield the parts of *task*, each with its batches: at least one part, perhaps without rows."""
    columns = list(dict.fromkeys([*(f.name for f in manifest.features), *plan.options.keep]))
    rows, part = plan.options.part_rows, task.part or 0
    first = part * rows
    with open_input(task.file) as stream:
        if task.part is None:
            found = read_csv(stream, columns, packed=task.file.path.endswith(".gz"))
        elif task.span is None:
            found = read_parquet(stream, columns, first, first + rows)
        else:
            found = read_csv(open_span(stream, *task.span), columns, first=first)
        nothing = pa.RecordBatch.from_pydict({name: pa.nulls(0) for name in columns})
        cut = _cut(chain([next(found, nothing)], found), rows, part)
        for number, pairs in groupby(cut, key=itemgetter(0)):
            yield number, (batch for _, batch in pairs)


def _cut(
    batches: Iterable[pa.RecordBatch], rows: int, part: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Cut *batches* after every so many *rows*; yield each piece with the number of its part."""
    room = rows
    for batch in batches:
        left = batch
        while left.num_rows > room:
            yield part, left.slice(0, room)
            part, left, room = part + 1, left.slice(room), rows
        if left.num_rows or not batch.num_rows:  # an empty file gets an empty part
            yield part, left
        room -= left.num_rows


def _write(store: Store, name: str, kind: str, table: pa.Table, manifest: Manifest) -> Part:
    data = encode_table(table, kind)
    folder, file = _place(store, name)
    try:
        folder.create(file, data)
    except Conflict:  # another worker, or this one before its answer was lost
        return _describe(store, name, kind, manifest)
    return _count(name, data, table, manifest)


def _describe(store: Store, name: str, kind: str, manifest: Manifest) -> Part:
    """Count what is in a part that is there."""
    folder, file = _place(store, name)
    data = folder.read(file, limit=_LIMIT).content
    try:
        table = read_notes(data, kind)
    except pa.ArrowException as error:
        raise TrainingError(f"{name} is there, and is no part of this run.") from error
    return _count(name, data, table, manifest)


def _count(name: str, data: bytes, table: pa.Table, manifest: Manifest) -> Part:
    warnings = table["warning"].value_counts().to_pylist()
    unseen = {}
    for feature in manifest.features:
        sentence = f"; {feature.name}: {UNSEEN};"
        rows = sum(w["counts"] for w in warnings if sentence in f"; {w['values']};")
        if rows:
            unseen[feature.name] = rows
    errors = table.num_rows - table["error"].null_count
    digest = hashlib.sha256(data).hexdigest()
    return Part(name, table.num_rows, errors, unseen, len(data), digest)


def _place(store: Store, name: str) -> tuple[Store, str]:
    folder, _, file = name.rpartition("/")
    for part in filter(None, folder.split("/")):
        store = store.at(part)
    return store, file
