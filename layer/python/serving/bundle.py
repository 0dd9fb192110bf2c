"""The artifact: `<model>/<version>/`, a folder that is immutable once written.

Writer and reader stand side by side, so that neither can learn something the other does not know.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from serving.errors import BundleError

__all__ = [
    "BUNDLE_FORMAT",
    "GRAPH_FILE",
    "MANIFEST_FILE",
    "PIPELINE_FILE",
    "Feature",
    "Manifest",
    "read_file",
    "read_manifest",
    "resolve",
    "write_bundle",
]

#: The manifest's format. Raise it when a reader of the old number would misread the new manifest;
#: a field added with a default needs no new number.
BUNDLE_FORMAT = 1

MANIFEST_FILE = "manifest.json"
GRAPH_FILE = "model.onnx"
PIPELINE_FILE = "model.joblib"
POINTER_FILE = "latest"

Label = bool | int | str
Task = Literal["classification", "regression"]
EngineName = Literal["onnx", "sklearn"]


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One input of the pipeline, as clients write it and as training saw it."""

    name: str
    kind: Literal["number", "boolean", "category"]
    #: pandas' name for the training column's type, so that the sklearn engine can build it again.
    dtype: str
    #: Whether training saw a missing value; only then may a client send null.
    nullable: bool
    #: What stood for a missing value in a column of dtype object: scikit-learn tells them apart.
    missing: Literal["NaN", "None"] = "NaN"
    #: Categories in training's order; for a `category` dtype of numbers, numbers.
    categories: list[str | int | float] | None = None
    #: Whether the pipeline answers for a category never seen (only for kind "category").
    accepts_unseen: bool = False
    minimum: float | None = None
    maximum: float | None = None


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """The proof that the graph answers as the pipeline does, and what "as" means."""

    rows: int
    perturbed_rows: int
    #: Largest accepted difference: of a probability, or of a value relative to max(1, |value|).
    tolerance: float
    #: None where an answer was not finite, and so the graph was refused.
    max_difference: float | None
    label_mismatches: int
    #: Rows whose two best probabilities are equal within the tolerance: either label is right.
    ties: int
    #: Rows with numbers a million times beyond training's that overflow float32: answered 422.
    refused_rows: int = 0
    #: Numbers reach the graph rounded to this precision, so equality is claimed up to it.
    input_precision: Literal["float32"] = "float32"


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """What serving runs, and why."""

    name: EngineName
    #: One plain sentence when the pipeline could not be served from a graph.
    reason: str | None = None
    parity: Parity | None = None
    #: "argmax": the label is the class of the highest probability, the first of those within the
    #: tie tolerance. "model": the label is what the model itself says (a support vector machine).
    label_rule: Literal["argmax", "model"] = "argmax"
    tie_tolerance: float = 1e-6


class Estimator(msgspec.Struct, frozen=True, kw_only=True):
    """The last step of the pipeline, and the steps before it, by class name."""

    type: str
    steps: list[str]
    parameters: dict[str, Any]
    #: Only for ensembles of trees.
    num_trees: int | None = None


class Importances(msgspec.Struct, frozen=True, kw_only=True):
    """What the model relies on."""

    #: Mean fall of the score when one input feature is shuffled (Breiman 2001, permutation).
    permutation: dict[str, float] | None = None
    #: The estimator's own importances, per encoded column.
    estimator: dict[str, float] | None = None


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One real row, and the answer that training got for it."""

    instance: dict[str, Any]
    prediction: dict[str, Any]


class File(msgspec.Struct, frozen=True, kw_only=True):
    """What a file must be, to the byte."""

    sha256: str
    size: int


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where the model came from."""

    rows: int
    data_sha256: str
    seed: int | None
    versions: dict[str, str]
    git_commit: str | None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about the model but its weights."""

    format: int
    name: str
    version: str
    created_at: str
    task: Task
    #: In the order of the model's probabilities; None for regression.
    classes: list[Label] | None
    has_probabilities: bool
    #: Whether training's columns had names (a DataFrame) or only places (an array).
    named_columns: bool
    features: list[Feature]
    estimator: Estimator
    importances: Importances
    #: By part: "held_out", "cross_validation", "baseline"; empty for a packed pipeline.
    metrics: dict[str, dict[str, Any]]
    example: Example
    engine: Engine
    files: dict[str, File]
    lineage: Lineage


def write_bundle(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """
    Write a bundle under *folder* (`models/credit`) and point `latest` at it.

    The version's folder appears in one step, whole or not at all; an interrupt leaves nothing.

    Args:
        folder: The model's; made if it is not there.
        manifest: Its `files` field is filled in here, from *files*.
        files: Name to content.

    Returns:
        The new folder, `<folder>/<version>`.

    Raises:
        BundleError: That version is there already, or the manifest could not be read again.
    """
    manifest = msgspec.structs.replace(
        manifest, files={name: _describe(content) for name, content in files.items()}
    )
    encoded = _encode(manifest)
    target = folder / manifest.version
    if target.exists():
        raise BundleError(f"{target} is there already, and a bundle is never changed.")
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    try:
        for name, content in files.items():
            _write(scratch / name, content)
        _write(scratch / MANIFEST_FILE, encoded)
        scratch.chmod(0o755)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _point(folder, manifest.version)
    return target


def resolve(folder: Path) -> Path:
    """
    Find the bundle that *folder* stands for: itself, or the version that its `latest` names.

    Raises:
        BundleError: There is neither a manifest nor a pointer.
    """
    if (folder / MANIFEST_FILE).is_file():
        return folder
    try:
        version = (folder / POINTER_FILE).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(
            f"no model in {folder}: neither {MANIFEST_FILE} nor a file '{POINTER_FILE}' is there."
        ) from error
    if not version or Path(version).name != version or version == "..":
        raise BundleError(f"{folder / POINTER_FILE} names no version but {version!r}.")
    return folder / version


def read_manifest(bundle: Path) -> Manifest:
    """
    Read and check a bundle's manifest.

    Raises:
        BundleError: It is missing, of another format, or not a manifest.
    """
    path = bundle / MANIFEST_FILE
    try:
        raw = path.read_bytes()
        found = msgspec.json.decode(raw, type=_Format).format
        if found != BUNDLE_FORMAT:
            raise BundleError(f"{path} has format {found}; this server reads {BUNDLE_FORMAT}.")
        return msgspec.json.decode(raw, type=Manifest)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is no manifest: {error}.") from error


def read_file(bundle: Path, manifest: Manifest, name: str) -> bytes:
    """
    Read a file of a bundle and prove that it is the one the manifest means.

    The bytes that were checked are the bytes returned: nothing is read twice.

    Raises:
        BundleError: The manifest does not name it, it is missing, or its size or digest differs.
    """
    expected = manifest.files.get(name)
    if expected is None:
        raise BundleError(f"the manifest of {bundle} names no {name}.")
    path = bundle / name
    try:
        # Size first: a file swapped for a huge one is refused without reading it.
        size = path.stat().st_size
        if size != expected.size:
            raise BundleError(f"{path} has {size} bytes; its manifest says {expected.size}.")
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
    if _describe(content) != expected:
        raise BundleError(f"{path} is not the file its manifest means: the sha256 differs.")
    return content


class _Format(msgspec.Struct):
    format: int


def _describe(content: bytes) -> File:
    return File(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def _encode(manifest: Manifest) -> bytes:
    """Write *manifest* as JSON, and see that it reads back: JSON has no NaN and no huge integer."""
    try:
        encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
        msgspec.json.decode(encoded, type=Manifest)
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise BundleError(f"the manifest cannot be written as JSON: {error}.") from error
    return encoded


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _point(folder: Path, version: str) -> None:
    """Move the pointer in one step: a reader sees the old version or the new one, never a part."""
    handle, scratch = tempfile.mkstemp(prefix=".pointer-", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(version + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(scratch, 0o644)
        os.replace(scratch, folder / POINTER_FILE)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
