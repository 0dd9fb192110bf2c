"""The compiled pipeline on onnxruntime: one thread, no pickle, microseconds a row."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

# onnxruntime 1.32 reports to its maker unless told not to before it is imported. It would also
# write an id into the home folder, and start a thread that a forked worker waits for in vain.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

from serving.errors import BundleError
from serving.model.audit.graph import audit_graph
from serving.model.engines import Columns, Scores, as_arrays, bounded
from serving.model.engines.inputs import feed_of, read_inputs, rows_at_once

if TYPE_CHECKING:
    from serving.bundle.manifest import Manifest, Output

__all__ = ["OnnxEngine", "limit_memory"]

#: How long one row may take when it is tried.
TRIAL_SECONDS = 5.0


class OnnxEngine:
    """Scores rows through the graph."""

    def __init__(self, manifest: Manifest, graph: bytes, *, signed: bool = False) -> None:
        """
        Open *graph*.

        Args:
            manifest: The features and the task that the graph must fit.
            graph: An ONNX model.
            signed: Whether a trusted key's signature was verified. Other graphs are audited first.

        Raises:
            BundleError: The audit or onnxruntime rejects the graph, or its inputs are not the
                manifest's features.
        """
        if not signed:
            audit_graph(graph)
        options = ort.SessionOptions()
        # Otherwise onnxruntime would recognise its own format, which is not audited.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        options.add_session_config_entry("session.use_env_allocators", "1")
        # They make pipelines no faster and slower to open, and constant folding may never end.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        # A request has one core at most, and a process with no thread pool may fork.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Looking up the pattern for a number of rows takes longer than it saves.
        options.enable_mem_pattern = False
        options.log_severity_level = 4  # its exceptions are enough
        try:
            self._session = ort.InferenceSession(
                graph, sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own classes share no base but Exception
            raise BundleError(f"onnxruntime cannot open the graph: {_said(error)}") from error
        self._inputs = read_inputs(self._session.get_inputs(), manifest)
        self._label_is_likeliest = manifest.label_is_likeliest
        self._tie = manifest.engine.tie_tolerance
        self._rows_at_once = manifest.engine.rows_at_once
        self._parts = manifest.parts
        self._several = bool(manifest.outputs)
        self._regression = manifest.classes is None and not self._several
        self._places = [_places(part, manifest.format) for part in self._parts]
        names = [node.name for node in self._session.get_outputs()]
        wanted = sum(2 if part.has_probabilities else 1 for part in self._parts)
        wanted = 1 if self._label_is_likeliest else wanted
        if len(names) < wanted:
            raise BundleError(f"the graph has {len(names)} outputs, and {wanted} are needed.")
        kind = self._session.get_outputs()[0].type
        if self._regression and kind not in ("tensor(float)", "tensor(double)"):
            raise BundleError(f"the graph answers with {kind}, and the manifest says values.")
        self._outputs = names[-1:] if self._label_is_likeliest else names[:wanted]

    def score(self, columns: Columns) -> Scores:
        """
        Score n rows, n at least 1.

        Raises:
            ValueError: The graph cannot take these values.
        """
        return self._to_scores(self._run(columns))

    def score_arrays(self, columns: Columns) -> Scores:
        """
        Score n rows, n at least 1.

        Raises:
            ValueError: The graph cannot take these values.
        """
        outputs = self._run(columns)
        if self._label_is_likeliest:
            found = np.asarray(outputs[0], dtype=np.float64)
            if not (found.min() >= 0.0 and found.max() <= 1.0):
                found = np.array(bounded(found.tolist()))
            # The first of those within the tie, as `_first_best` finds it in one row.
            best = found >= found.max(axis=1, keepdims=True) - self._tie
            return Scores(np.argmax(best, axis=1), found)
        if self._regression:
            return Scores(np.asarray(outputs[0], dtype=np.float64).reshape(-1), None)
        return as_arrays(self._to_scores(outputs))

    def _run(self, columns: Columns) -> Any:
        rows = len(columns[0])
        most = min(self._rows_at_once or rows, rows_at_once(self._inputs, columns))
        try:
            if rows <= most:
                return self._session.run(self._outputs, feed_of(self._inputs, columns))
            parts = []
            for i in range(0, rows, most):
                chunk = [column[i : i + most] for column in columns]
                parts.append(self._session.run(self._outputs, feed_of(self._inputs, chunk)))
        except Exception as error:  # onnxruntime's own classes share no base but Exception
            raise ValueError(f"onnxruntime: {_said(error)}") from error
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def try_out(self, columns: Columns) -> Scores:
        """
        Score n rows as `score` does, with a time limit and with checks of the answer.

        Raises:
            BundleError: The graph fails, takes too long, or answers in another shape.
        """
        rows = len(columns[0])
        options = ort.RunOptions()
        timer = threading.Timer(TRIAL_SECONDS, setattr, (options, "terminate", True))
        timer.start()
        try:
            outputs = self._session.run(self._outputs, feed_of(self._inputs, columns), options)
            shapes = [output.shape for output in outputs]
            scores = self._to_scores(outputs) if self._fit(shapes, rows) else None
        except Exception as error:  # of onnxruntime, or of numpy about the outputs
            why = f"takes over {TRIAL_SECONDS:g} s" if options.terminate else _said(error)
            raise BundleError(f"the graph cannot score its own example: {why}") from error
        finally:
            timer.cancel()
            timer.join()  # no thread is left when a process forks
        if scores is None:
            raise BundleError(f"the graph answers {rows} rows with {shapes}.")
        return scores

    def _fit(self, shapes: list[tuple[int, ...]], rows: int) -> bool:
        """Whether each output has the expected size."""
        left = iter(shapes)
        return all(
            (self._label_is_likeliest or math.prod(next(left)) == rows)
            and (not part.has_probabilities or next(left) == (rows, len(part.classes or ())))
            for part in self._parts
        )

    def _to_scores(self, outputs: Any) -> Scores:
        if self._label_is_likeliest:
            probabilities = bounded(outputs[0].tolist())
            return Scores([_first_best(row, self._tie) for row in probabilities], probabilities)
        left = iter(outputs)
        parts = [
            _read(part, places, left)
            for part, places in zip(self._parts, self._places, strict=True)
        ]
        return Scores([], None, parts) if self._several else parts[0]


def _places(part: Output, bundle_format: int) -> dict[Any, int]:
    """Return the place of each class, by what the graph answers."""
    classes = part.classes or []
    if bundle_format == 1:  # the class: a string, or any number as an integer
        return {c if isinstance(c, str) else int(c): place for place, c in enumerate(classes)}
    return {place: place for place in range(len(classes))}


def _read(part: Output, places: dict[Any, int], outputs: Iterator[Any]) -> Scores:
    """Read the answers for one output of the model, and its probabilities if it has some."""
    answers = next(outputs).reshape(-1).tolist()
    if part.classes is not None:
        try:
            answers = [places[answer] for answer in answers]
        except KeyError:  # it marks rows that scikit-learn rejects by -1
            raise ValueError("the graph has no answer") from None
    return Scores(answers, bounded(next(outputs).tolist()) if part.has_probabilities else None)


def _first_best(probabilities: list[float], tie: float) -> int:
    """Return the index of the largest value, or of the first one within *tie* of it."""
    best = max(probabilities)
    place = probabilities.index(best)
    if not tie:
        return place
    return next((i for i in range(place) if probabilities[i] >= best - tie), place)


_memory_is_limited = False


def limit_memory(max_bytes: int) -> None:
    """Limit the memory of the tensors of all graphs in this process. Later calls have no effect."""
    global _memory_is_limited
    if _memory_is_limited:
        return
    _memory_is_limited = True
    info = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(info, ort.OrtArenaCfg({"max_mem": max_bytes}))


def _said(error: Exception) -> str:
    """Cut onnxruntime's message, which quotes the graph's names of any length."""
    return " ".join(str(error).split())[:300]
