"""Proves that the graph answers as the pipeline does, or says why it is not served.

Equal means: every training row gets the same label, and probabilities or values within the
tolerance. So do the perturbed rows. Where the pipeline's answer jumps between two neighbouring
numbers, the graph's answer jumps there too, give or take the last bits of a sum. So where rounding
picks among neighbours at equal distances, either answer is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from serving.bundle.manifest import Manifest, Parity
from serving.model.engines import Columns, Engine, Scores
from serving.model.engines.sklearn import SklearnEngine

from training.export.features import take
from training.export.perturb import apart, beyond, boundaries, nudged, perturbed

__all__ = ["EXACT", "INEXACT", "check_parity"]

#: The largest difference of a probability; of a value, relative to the value itself or to the
#: largest of the training rows' if that is larger.
EXACT = 1e-9
#: The same where a step computes in float32.
INEXACT = 1e-5
#: Probabilities closer than this share of the tolerance tie: either label is right.
TIE = 1e-3
#: How far from a jump the graph must be on the right side, as a share of the tolerance.
NEAR_JUMP = 1e-2
#: How many rows that differ are looked at for a jump of the pipeline's own answer.
FEW = 20
SEED = 0


def check_parity(
    manifest: Manifest, pipeline: SklearnEngine, graph: Engine, columns: Columns
) -> tuple[Parity, str | None]:
    """
    Compare *graph* with *pipeline* on the training rows *columns*, and on rows around them.

    Returns:
        The figures, and None or a plain sentence saying why the graph is not to be trusted.
    """
    return _Comparison(manifest, pipeline, graph, columns).run()


class _Comparison:
    def __init__(
        self, manifest: Manifest, pipeline: SklearnEngine, graph: Engine, columns: Columns
    ) -> None:
        self.manifest, self.pipeline, self.graph, self.columns = manifest, pipeline, graph, columns
        self.outputs = manifest.parts
        self.tolerance = INEXACT if manifest.engine.inexact else EXACT
        #: By output: the largest of the training rows' values.
        self.scales = [1.0] * len(self.outputs)
        self.worst = 0.0
        self.mismatches = 0
        self.ties = self.refused = 0

    def run(self) -> tuple[Parity, str | None]:
        rows, random = len(self.columns[0]), np.random.default_rng(SEED)
        expected = self.pipeline.score(self.columns)
        for i, (part, output) in enumerate(zip(expected.parts, self.outputs, strict=True)):
            if output.classes is None:
                largest = float(np.abs(part.values).max())
                self.scales[i] = max(largest, float(np.finfo(float).tiny))
        found = self._graph_scores(self.columns)
        reason = self._judge("training rows", expected, found, name=lambda i: f"row {i + 1}")
        around, places = perturbed(self.columns, self.manifest.features, min(rows, 2000), random)
        answered = self._not_refused(around, range(len(around[0])))
        if reason is None:
            reason = self._judge_refused(around, places, set(answered))
        around, places = take(around, answered), [places[i] for i in answered]
        changed = len(around[0])
        if reason is None and changed:
            scores = self.pipeline.score(around)
            found = self._graph_scores(around)
            far = beyond(around, self.manifest.features)
            what = "rows changed around them"
            jumps = self._at_jumps(around, scores, found)
            reason = self._judge(
                what, scores, found, far, lambda i: self._value(around, places, i), jumps=jumps
            )
        if reason is None:
            reason, probes = self._judge_boundaries(random)
            changed += probes
        parity = Parity(
            rows=rows,
            perturbed_rows=changed,
            tolerance=self.tolerance,
            max_difference=self.worst if np.isfinite(self.worst) else None,
            label_mismatches=self.mismatches,
            ties=self.ties,
            refused_rows=self.refused,
        )
        return parity, reason

    def _judge(
        self,
        what: str,
        expected: Scores,
        found: Scores | str,
        far: Any = False,
        name: Callable[[int], str] = lambda _: "one of them",
        *,
        jumps: Any = False,
    ) -> str | None:
        if isinstance(found, str):
            return f"the graph fails on {what}: {found}"
        # Far off, float32 overflows where doubles do not; the server says so (422), never a lie.
        refused = far & ~np.isfinite(_matrix(found)).all(axis=1)
        self.refused += int(refused.sum())
        difference = np.where(refused | jumps, 0.0, self._difference(expected, found))
        labels = self._label_mismatch(expected, found) & ~refused & ~jumps
        wrong = ~(difference <= self.tolerance)
        self.worst = max(self.worst, float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0)))
        self.mismatches += int(labels.sum())
        failed = wrong | labels
        if not failed.any():
            return None
        worst = int(np.where(failed, np.nan_to_num(difference, nan=np.inf), -1.0).argmax())
        graph, pipeline = (_matrix(scores)[worst].tolist() for scores in (found, expected))
        return (
            f"the graph differs from the pipeline on {int(failed.sum())} of {len(failed)} {what}, "
            f"by up to {self.worst:.2g} (allowed: {self.tolerance:g}); for example on "
            f"{name(worst)}: {_listed(graph)} instead of {_listed(pipeline)}"
        )

    def _at_jumps(self, rows: Columns, expected: Scores, found: Scores | str) -> Any:
        """Find the few rows that differ, and where the pipeline's answer jumps to the graph's."""
        jumps = np.zeros(len(rows[0]), dtype=bool)
        if isinstance(found, str):
            return jumps
        answered = np.isfinite(_matrix(found)).all(axis=1)
        differing = np.flatnonzero(answered & ~self._equal(expected, found))
        for i in differing if len(differing) <= FEW else ():
            beside = nudged(take(rows, [i]), self.manifest.features, NEAR_JUMP * self.tolerance)
            beside = take(beside, self._not_refused(beside, range(len(beside[0]))))
            again = self._graph_scores(take(rows, [i] * len(beside[0])))
            if beside[0] and not isinstance(again, str):
                jumps[i] = self._equal(self.pipeline.score(beside), again).any()
        self.ties += int(jumps.sum())
        return jumps

    def _value(self, around: list[list[Any]], places: Sequence[int | None], row: int) -> str:
        """Name the changed value of a row. Texts stay out of the manifest."""
        place = places[row]
        if place is None:
            return "one that mixes values of several rows"
        feature = self.manifest.features[place]
        if feature.kind == "text":
            return f"one with another text in {feature.name}"
        return f"one where {feature.name} is {around[place][row]!r:.80}"

    def _judge_refused(
        self, around: list[list[Any]], places: Sequence[int | None], answered: set[int]
    ) -> str | None:
        """Check that the graph has no answer where the pipeline has none."""
        for i in range(len(around[0])):
            if i in answered:
                continue
            found = self._graph_scores(take(around, [i]))
            if not isinstance(found, str) and np.isfinite(_matrix(found)).all():
                row = self._value(around, places, i)
                return f"the graph answers rows that the pipeline rejects; for example {row}"
        return None

    def _judge_boundaries(self, random: np.random.Generator) -> tuple[str | None, int]:
        def answer(columns: Columns) -> Any:
            # The search needs no exact answers. The rows that it finds are scored again below.
            return self._with_labels(self.pipeline.score_together(columns))

        try:
            low, high = boundaries(
                self.columns, self.manifest.features, answer, self.tolerance, random
            )
        except ValueError:  # the pipeline rejects rows between training's own
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
        reason = None
        if failed.any():
            reason = (
                f"at {int(failed.sum())} of {len(failed)} places where the pipeline's answer "
                "jumps, the graph's does not jump there or beside it"
            )
        beside = apart(low, high, self.manifest.features, NEAR_JUMP * self.tolerance)
        if reason is None:
            scores, found = self.pipeline.score(beside), self._graph_scores(beside)
            reason = self._judge("rows beside a jump of the pipeline's answer", scores, found)
        return reason, 4 * len(failed)

    def _equal(self, expected: Scores, found: Scores) -> Any:
        return self._difference(expected, found) <= self.tolerance

    def _difference(self, expected: Scores, found: Scores) -> Any:
        worst = np.zeros(len(expected.parts[0].values))
        for a, b, output, scale in self._pairs(expected, found):
            if output.classes is not None and a.probabilities is None:
                difference = np.not_equal(a.values, b.values).astype(float)
            else:
                with np.errstate(all="ignore"):
                    x, y = _answer(a), _answer(b)
                    difference = np.abs(x - y).max(axis=1)
                    if output.classes is None:
                        difference = difference / np.maximum(np.abs(x).max(axis=1), scale)
            worst = np.where(difference <= worst, worst, difference)  # NaN stays
        return worst

    def _pairs(self, expected: Scores, found: Scores) -> Any:
        return zip(expected.parts, found.parts, self.outputs, self.scales, strict=True)

    def _label_mismatch(self, expected: Scores, found: Scores) -> Any:
        wrong = np.zeros(len(expected.parts[0].values), dtype=bool)
        for a, b, output, _ in self._pairs(expected, found):
            if output.classes is None:
                continue
            different = np.not_equal(a.values, b.values)
            if a.probabilities is not None and self.manifest.engine.label_rule == "argmax":
                best = np.sort(a.probabilities, axis=1)[:, -2:]
                closest = TIE * self.tolerance + self.manifest.engine.tie_tolerance
                ties = best[:, -1] - best[:, 0] <= closest if best.shape[1] > 1 else wrong
                self.ties += int(ties.sum())
                different &= ~ties
            wrong |= different
        return wrong

    def _with_labels(self, scores: Scores) -> Any:
        """Return all answers, of shape (rows, answers), with labels where they jump apart."""
        columns = []
        for part, output, scale in zip(scores.parts, self.outputs, self.scales, strict=True):
            answer = _answer(part)
            columns.append(answer / scale if output.classes is None else answer)
            if part.probabilities is not None and self.manifest.engine.label_rule == "model":
                columns.append(np.reshape(part.values, (-1, 1)))
        return np.hstack(columns)

    def _graph_scores(self, columns: Columns) -> Scores | str:
        try:
            return self.graph.score(columns)
        except Exception as error:  # onnxruntime's errors have no common base
            return str(error).splitlines()[0]

    def _not_refused(self, columns: list[list[Any]], rows: range) -> list[int]:
        """Find the rows with a finite answer; split until those that raise stand alone."""
        if not len(rows):
            return []
        try:
            with np.errstate(all="ignore"):
                scores = self.pipeline.score(take(columns, rows))
            finite = np.isfinite(_matrix(scores)).all(axis=1)
            return [i for i, good in zip(rows, finite, strict=True) if good]
        except (ValueError, ArithmeticError):
            if len(rows) == 1:
                return []
            half = len(rows) // 2
            return self._not_refused(columns, rows[:half]) + self._not_refused(columns, rows[half:])


def _listed(answer: list[float]) -> str:
    return ", ".join(f"{value:.10g}" for value in answer[:5]) + (", …" if answer[5:] else "")


def _matrix(scores: Scores) -> Any:
    return np.hstack([_answer(part) for part in scores.parts])


def _answer(scores: Scores) -> Any:
    answer = scores.values if scores.probabilities is None else scores.probabilities
    return np.asarray(answer, dtype=np.float64).reshape(len(scores.values), -1)
