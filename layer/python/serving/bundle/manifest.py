"""The manifest: everything about a model but its weights, as data shapes."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec

from serving.bundle.plots import Plots

__all__ = [
    "BACKGROUND_FILE",
    "BUNDLE_FORMAT",
    "FLOAT32_MAX",
    "GRAPH_FILE",
    "MANIFEST_FILE",
    "NAME",
    "PIPELINE_FILE",
    "EngineRecord",
    "Estimator",
    "Example",
    "Feature",
    "File",
    "HoldOut",
    "Importances",
    "Label",
    "Lineage",
    "Manifest",
    "Name",
    "Output",
    "Parity",
    "Task",
    "TextRule",
    "describe_file",
]

#: The manifest's format. Raise it when a reader of the old number would misread the new manifest;
#: a field added with a default needs no new number.
BUNDLE_FORMAT = 2
#: Formats that `decode_manifest` reads. In format 1 graphs take float32 and answer with classes.
READABLE_FORMATS = (1, BUNDLE_FORMAT)

#: The largest finite float32.
FLOAT32_MAX = 3.4028234663852886e38

MANIFEST_FILE = "manifest.json"
GRAPH_FILE = "model.onnx"
PIPELINE_FILE = "model.joblib"
#: Rows of the training data against which answers are explained. It is never served.
BACKGROUND_FILE = "background.json"

#: One part of a path, never `..`: names come from outside, and become paths.
NAME = r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z"
Name = Annotated[str, msgspec.Meta(pattern=NAME)]

Label = bool | int | str
Task = Literal["classification", "regression", "outputs", "outliers", "clustering"]
EngineName = Literal["onnx", "sklearn"]


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One input of the pipeline, as clients write it and as training saw it."""

    name: str
    kind: Literal["number", "boolean", "category", "text"]
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
    #: The largest magnitude that the feature's steps can hold; None if that is float64's.
    magnitude: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether its categories are integers, which clients write as such."""
        return self.kind == "category" and type((self.categories or [""])[0]) is int

    @property
    def is_text(self) -> bool:
        """Whether clients write strings."""
        return self.kind in ("category", "text") and not self.is_whole


class TextRule(msgspec.Struct, frozen=True, kw_only=True):
    """How a text is split into the terms that the graph counts; scikit-learn's names."""

    analyzer: Literal["word", "char", "char_wb"]
    lowercase: bool
    strip_accents: Literal["ascii", "unicode"] | None
    #: Of a word; empty for characters.
    pattern: str
    #: The fewest and the most words, or characters, of a term.
    ngrams: tuple[Annotated[int, msgspec.Meta(ge=1)], Annotated[int, msgspec.Meta(le=100)]]
    stop_words: list[str] = []
    #: How many columns the terms are hashed to; 0 where the graph knows the terms themselves.
    hashes: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0
    #: Whether half of the terms count by -1.
    alternate_sign: bool = False


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """One of several targets that a model predicts at once."""

    name: str
    #: None for a value.
    classes: list[Label] | None = None
    has_probabilities: bool = False


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """The proof that the graph answers as the pipeline does, and what "as" means."""

    rows: int
    perturbed_rows: int
    #: Largest accepted difference: of a probability, or of a value relative to max(1, |value|).
    tolerance: float
    #: None where an answer was not finite, and so the graph was rejected.
    max_difference: float | None
    label_mismatches: int
    #: Rows whose two best probabilities are equal within the tolerance: either label is right.
    ties: int
    #: Rows with numbers a million times beyond training's that the graph answers with 422.
    refused_rows: int = 0


class EngineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What serving runs, and why."""

    name: EngineName
    #: One plain sentence when the pipeline could not be served from a graph.
    reason: str | None = None
    parity: Parity | None = None
    #: "argmax": the label is the class of the highest probability, the first of those within the
    #: tie tolerance. "model": the label is what the model itself says (a support vector machine).
    label_rule: Literal["argmax", "model"] = "argmax"
    tie_tolerance: float = 0.0
    #: Steps that the graph computes in float32 where scikit-learn computes in float64.
    inexact: list[str] = []
    #: By the place of one of the graph's inputs: how the text of its feature is split for it.
    texts: dict[int, TextRule] = {}
    #: How many rows are scored at once, where each takes much memory.
    rows_at_once: Annotated[int, msgspec.Meta(ge=1)] | None = None
    #: The features in each of the graph's inputs, by place. None: one in each, or all in one.
    inputs: list[list[int]] | None = None
    #: Milliseconds from one decoded row to its answer, where the bundle was made.
    row_milliseconds: float | None = None
    #: Modules of the user's own that opening the pickle imports; the server must have them.
    modules: list[str] = []


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
    """A row of usual values, and the answer to it. Both are empty if the pipeline takes none."""

    instance: dict[str, Any]
    prediction: dict[str, Any]


class File(msgspec.Struct, frozen=True, kw_only=True):
    """What a file must be, to the byte."""

    sha256: str
    size: int


def describe_file(content: bytes) -> File:
    """Describe a file by its content."""
    return File(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


class HoldOut(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that kept rows out of training, and which rows it kept out."""

    #: What the SHA-256 is of: the model's name and the row's id, or its name and the row's values.
    #: "project": the project's hold_out() decides instead.
    by: Literal["id", "values", "project"]
    #: The columns that were hashed.
    columns: list[str] = []
    #: A row is held out if the hash's first 8 bytes, as a fraction of 2**64, are below this.
    share: float | None = None
    #: The SHA-256 of hold_out()'s source and of the constants that it uses.
    source_sha256: str | None = None
    #: How many rows were held out, and the SHA-256 of them all: equal for equal rows.
    rows: int
    rows_sha256: str


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where the model came from."""

    rows: int
    data_sha256: str
    seed: int | None
    versions: dict[str, str]
    git_commit: str | None
    #: The scikit-learn that a packed pipeline was fitted with, where it is not this one.
    fitted_with: str | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about the model but its weights."""

    format: int
    name: Name
    version: Name
    created_at: str
    task: Task
    #: In the order of the model's probabilities; the numbers of the clusters; None for values.
    classes: list[Label] | None
    has_probabilities: bool
    #: Where the task is "outputs": what is predicted at once.
    outputs: list[Output] = []
    #: Whether training's columns had names (a DataFrame) or only places (an array).
    named_columns: bool
    #: Whether it was fitted on texts themselves, and not on a table with a column of them.
    takes_texts: bool = False
    features: list[Feature]
    #: Columns of the training data that no step of the pipeline reads; clients may send them.
    ignored: list[str] = []
    estimator: Estimator
    importances: Importances
    #: By part: "held_out", "baseline", "cross_validation"; "sample" for a packed pipeline;
    #: "intervals": by figure, its 95 % interval; and "against": the "version" that
    #: was live at the time, on how many "rows" both were measured, and by figure the difference and
    #: the ends of its interval.
    metrics: dict[str, dict[str, Any]]
    #: None for a packed pipeline, and for bundles older than this field.
    hold_out: HoldOut | None = None
    #: What it is for, in the words of its project.
    purpose: str = ""
    #: What the page draws; None for bundles older than this field.
    plots: Plots | None = None
    example: Example
    engine: EngineRecord
    files: dict[Name, File]
    lineage: Lineage

    @property
    def label_is_likeliest(self) -> bool:
        """Whether the label follows from the probabilities, so the graph need not return it."""
        return self.has_probabilities and self.engine.label_rule == "argmax"

    @property
    def parts(self) -> list[Output]:
        """The predicted outputs, or the single one, which has no name."""
        one = Output(name="", classes=self.classes, has_probabilities=self.has_probabilities)
        return self.outputs or [one]
