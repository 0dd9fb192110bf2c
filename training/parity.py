"""Proves that the graph answers as the pipeline does, or says why it cannot be vouched for.

Equal means: every training row, as it was, gets the same label, and probabilities or values within
the tolerance. So do the perturbed rows. Where the pipeline's answer jumps between two neighbouring
float32 numbers, the graph may jump one neighbour earlier or later: an input is not known better.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from serving.engines import Columns, Engine, Scores
from serving.manifest import Manifest, Parity

from training.perturb import boundaries, perturbed

__all__ = ["PROBABILITY_TOLERANCE", "VALUE_TOLERANCE", "check_parity"]

PROBABILITY_TOLERANCE = 1e-5
#: Relative to the value itself, or to the largest of the training rows' if that is larger.
VALUE_TOLERANCE = 1e-5
SEED = 0


def check_parity(
    manifest: Manifest, pipeline: Engine, graph: Engine, columns: Columns
) -> tuple[Parity, str | None]:
    """
    Compare *graph* with *pipeline* on the training rows *columns*, and on rows around them.

    Returns:
        The figures, and None or a plain sentence saying why the graph is not to be trusted.
    """
    return _Comparison(manifest, pipeline, graph, columns).run()


class _Comparison:
    def __init__(
        self, manifest: Manifest, pipeline: Engine, graph: Engine, columns: Columns
    ) -> None:
        self.manifest, self.pipeline, self.graph, self.columns = manifest, pipeline, graph, columns
        self.regression = manifest.task == "regression"
        self.tolerance = VALUE_TOLERANCE if self.regression else PROBABILITY_TOLERANCE
        self.scale = 1.0
        self.worst = 0.0
        self.mismatches = 0
        self.ties = 0

    def run(self) -> tuple[Parity, str | None]:
        rows, random = len(self.columns[0]), np.random.default_rng(SEED)
        expected = self.pipeline.score(self.columns)
        if self.regression:
            self.scale = max(float(np.abs(expected.values).max()), 1e-30)
        reason = self._judge("training rows", expected, self._graph_scores(self.columns))
        around = perturbed(self.columns, self.manifest.features, min(rows, 2000), random)
        around = self._answerable(around)
        changed = len(around[0]) if around else 0
        if reason is None and changed:
            scores = self.pipeline.score(around)
            reason = self._judge("rows changed around them", scores, self._graph_scores(around))
        if reason is None:
            reason, probes = self._judge_boundaries(random)
            changed += probes
        parity = Parity(
            rows=rows,
            perturbed_rows=changed,
            tolerance=self.tolerance,
            max_difference=self.worst,
            label_mismatches=self.mismatches,
            ties=self.ties,
        )
        return parity, reason

    def _judge(self, what: str, expected: Scores, found: Scores | str) -> str | None:
        if isinstance(found, str):
            return f"the graph fails on {what}: {found}"
        difference = self._difference(expected, found)
        # The server refuses to send what is not finite, so such a row is never answered wrongly.
        refused = ~np.isfinite(difference)
        if what != "training rows":
            difference = difference[~refused]
        wrong = ~(difference <= self.tolerance)
        labels = self._label_mismatch(expected, found)[~refused if what != "training rows" else ...]
        self.worst = max(self.worst, float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0)))
        self.mismatches += int(labels.sum())
        failed = wrong | labels
        if not failed.any():
            return None
        return (
            f"the graph differs from the pipeline on {int(failed.sum())} of {len(failed)} {what}, "
            f"by up to {self.worst:.2g} (allowed: {self.tolerance:g})"
        )

    def _judge_boundaries(self, random: np.random.Generator) -> tuple[str | None, int]:
        def answer(columns: Columns) -> Any:
            return _matrix(self.pipeline.score(columns))

        try:
            low, high = boundaries(
                self.columns,
                self.manifest.features,
                answer,
                self.tolerance * self.scale if self.regression else self.tolerance,
                random,
            )
        except ValueError:  # the pipeline refuses rows between training's own
            return None, 0
        if not low:
            return None, 0
        below, above = self.pipeline.score(low), self.pipeline.score(high)
        failed = np.zeros(len(low[0]), dtype=bool)
        for side in (low, high):
            found = self._graph_scores(side)
            if isinstance(found, str):
                return f"the graph fails where the pipeline's answer jumps: {found}", 0
            near = self._equal(below, found) | self._equal(above, found)
            failed |= ~near
        if failed.any():
            return (
                (
                    f"at {int(failed.sum())} of {len(failed)} places where the pipeline's answer "
                    "jumps, the graph's does not jump there or beside it"
                ),
                2 * len(failed),
            )
        return None, 2 * len(failed)

    def _equal(self, expected: Scores, found: Scores) -> Any:
        return self._difference(expected, found) <= self.tolerance

    def _difference(self, expected: Scores, found: Scores) -> Any:
        if not self.regression and expected.probabilities is None:
            return (expected.values != found.values).astype(float)
        a, b = _matrix(expected), _matrix(found)
        with np.errstate(all="ignore"):
            difference = np.abs(a - b).max(axis=1)
            if self.regression:
                difference = difference / np.maximum(np.abs(a).max(axis=1), self.scale)
        return difference

    def _label_mismatch(self, expected: Scores, found: Scores) -> Any:
        if self.regression:
            return np.zeros(len(expected.values), dtype=bool)
        different = expected.values != found.values
        if expected.probabilities is None:
            return different
        best = np.sort(expected.probabilities, axis=1)[:, -2:]
        ties = best[:, 1] - best[:, 0] <= self.manifest.engine.tie_tolerance
        self.ties += int(ties.sum())
        return different & ~ties

    def _graph_scores(self, columns: Columns) -> Scores | str:
        try:
            return self.graph.score(columns)
        except Exception as error:  # onnxruntime's errors have no common base
            return str(error).splitlines()[0]

    def _answerable(self, columns: list[list[Any]]) -> list[list[Any]]:
        """Leave out the rows that the pipeline itself refuses or gives no finite answer for."""
        keep = self._not_refused(columns, range(len(columns[0])))
        return [[column[i] for i in keep] for column in columns]

    def _not_refused(self, columns: list[list[Any]], rows: range) -> list[int]:
        """Split until the rows that raise stand alone."""
        if not len(rows):
            return []
        try:
            with np.errstate(all="ignore"):
                scores = self.pipeline.score([[c[i] for i in rows] for c in columns])
            finite = np.isfinite(_matrix(scores)).all(axis=1)
            return [i for i, good in zip(rows, finite, strict=True) if good]
        except (ValueError, ArithmeticError):
            if len(rows) == 1:
                return []
            half = len(rows) // 2
            return self._not_refused(columns, rows[:half]) + self._not_refused(columns, rows[half:])


def _matrix(scores: Scores) -> Any:
    answer = scores.values if scores.probabilities is None else scores.probabilities
    return np.asarray(answer, dtype=np.float64).reshape(len(scores.values), -1)
