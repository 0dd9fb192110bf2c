"""The plan of a run: made once, written to `_STARTED`, and read again when the run continues."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa
from serving.bundle.manifest import Feature, Manifest
from serving.errors import Conflict, ObjectMissing
from serving.model.predictions import answer_names
from serving.stores.store import Store

from training.errors import TrainingError, describe
from training.score.files import Input, is_csv, open_input
from training.score.tables import read_header

__all__ = ["PART_ROWS", "STARTED", "SUCCESS", "Options", "Plan", "Task", "begin", "tasks_of"]

STARTED, SUCCESS = "_STARTED", "_SUCCESS"
#: Rows in one output file, at most.
PART_ROWS = 1_000_000
_LIMIT = 256 * 1024 * 1024


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options, which another run to the same destination must repeat."""

    model: str
    source: str
    keep: list[str]
    #: "csv" or "parquet"; None: the format of the input.
    format: str | None = None
    part_rows: int = PART_ROWS


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A run."""

    options: Options
    #: The address of the version, and its name.
    location: str
    version: str
    #: Of the output.
    format: str
    inputs: list[Input]


class Task(msgspec.Struct, frozen=True):
    """One part of a Parquet file, or a whole CSV file, whose rows are counted by reading it."""

    file: Input
    #: The number of the part; None for all parts of a CSV file.
    part: int | None
    #: Bytes of input, for the time that is left.
    size: int

    def name(self, plan: Plan, part: int) -> str:
        """Return the name of an output file."""
        return f"{self.file.path}-{part:05}.{plan.format}"


def begin(destination: Store, plan: Plan) -> Plan:
    """
    Write *plan* to the destination; or return the one that an earlier run wrote there.

    Raises:
        TrainingError: A run with other options began there.
        BundleError: The store fails.
    """
    try:
        destination.create(STARTED, msgspec.json.format(msgspec.json.encode(plan), indent=2))
    except Conflict:
        found = find_plan(destination)
        if found is None:
            raise
        check_options(destination, found, plan.options)
        return found
    return plan


def find_plan(destination: Store) -> Plan | None:
    """
    Read the plan of an earlier run; None if there was none.

    Raises:
        TrainingError: It cannot be read.
    """
    try:
        raw = destination.read(STARTED, limit=_LIMIT).content
        return msgspec.json.decode(raw, type=Plan)
    except ObjectMissing:
        return None
    except msgspec.MsgspecError as error:
        raise TrainingError(f"{destination.at(STARTED)} is not a plan: {error}.") from error


def check_options(destination: Store, plan: Plan, options: Options) -> None:
    """
    Make sure that *options* are those of the run that began.

    Raises:
        TrainingError: They are not. The sentence names the first that differs.
    """
    for name in Options.__struct_fields__:
        ours, theirs = getattr(options, name), getattr(plan.options, name)
        if ours != theirs:
            raise TrainingError(
                f"{destination} was begun with {name} {theirs!r}, and now it is {ours!r}; repeat "
                "the options, or name another destination."
            )


def check_keep(manifest: Manifest, keep: Sequence[str]) -> None:
    """
    Make sure that kept columns do not have the name of an answer.

    Raises:
        TrainingError: One does, or is named twice.
    """
    taken = {*answer_names(manifest), "warning", "error"}
    for name in keep:
        if name in taken or keep.count(name) > 1:
            raise TrainingError(f"--keep {name}: the output would have two columns of this name.")


def tasks_of(plan: Plan, features: Sequence[Feature]) -> list[Task]:
    """
    Open every file, check its columns, and return what there is to do.

    Raises:
        TrainingError: A column is missing or of the wrong type, or a file cannot be read.
    """
    tasks = []
    for file in plan.inputs:
        try:
            with open_input(file) as stream:
                csv = is_csv(file.path)
                schema, rows = read_header(stream, csv=csv, packed=file.path.endswith(".gz"))
        except (pa.ArrowException, OSError, TrainingError) as error:
            said = str(error) if isinstance(error, TrainingError) else f"{describe(error)}."
            raise TrainingError(f"{file.path} cannot be read: {said}") from error
        _check_columns(file.path, schema, features, plan.options.keep, csv=csv)
        if rows is None:
            tasks.append(Task(file, None, file.size))
            continue
        parts = max(1, -(-rows // plan.options.part_rows))
        tasks += [Task(file, part, file.size // parts) for part in range(parts)]
    return tasks


def _check_columns(
    path: str, schema: pa.Schema, features: Sequence[Feature], keep: Sequence[str], *, csv: bool
) -> None:
    names = schema.names
    wanted = [feature.name for feature in features]
    for name in [*wanted, *keep]:
        if names.count(name) != 1:
            count = "no column" if name not in names else f"{names.count(name)} columns"
            raise TrainingError(f"{path} has {count} {name!r}.")
    for feature in features if not csv else ():
        kind = schema.field(feature.name).type
        if not _fits(feature, kind):
            what = "strings" if feature.is_text else "numbers"
            what = "booleans" if feature.kind == "boolean" else what
            raise TrainingError(
                f"{path}: the column {feature.name!r} is {kind}, and the model takes {what}."
            )


def _fits(feature: Feature, kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return True
    if feature.is_text:
        return kind in (pa.string(), pa.large_string(), pa.string_view())
    if feature.kind == "boolean":
        return bool(pa.types.is_boolean(kind))
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or (pa.types.is_decimal(kind) and not feature.is_whole)
    )
