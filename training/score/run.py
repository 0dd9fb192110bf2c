"""`score`: plans a run, hands its parts to an engine, and writes `_SUCCESS` when all are there."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import joblib
import msgspec
from serving.bundle.manifest import Manifest
from serving.bundle.reader import Bundle, open_bundle
from serving.bundle.trust import Trust
from serving.errors import Conflict
from serving.stores.store import Store

from training.errors import TrainingError, blame, on_interrupt
from training.registry.location import open_location
from training.report import say
from training.score.files import absolute, is_csv, list_inputs, list_names
from training.score.part import Part, score_task
from training.score.plan import (
    SUCCESS,
    Options,
    Plan,
    Task,
    begin,
    check_keep,
    check_options,
    find_plan,
    tasks_of,
)
from training.score.progress import progress

__all__ = ["score"]


def score(
    options: Options,
    destination: str,
    trust: Trust,
    *,
    engine: str = "local",
    scheduler: str | None = None,
    workers: int | None = None,
    max_errors: float = 1.0,
) -> bool:
    """
    Score files, or finish a run that broke off.

    Args:
        options: What to score, and how.
        destination: A folder, or a prefix in a bucket.
        trust: Which bundles may be opened.
        engine: "local": processes on this machine. "dask": the workers of *scheduler*.
        scheduler: The address of Dask's scheduler.
        workers: How many processes; None for one on each core.
        max_errors: The largest share of rows without an answer.

    Returns:
        Whether the share of errors is within *max_errors*, and a row has an answer; only then
        `_SUCCESS` is written.

    Raises:
        TrainingError: The input or the options are wrong.
        BundleError: The model is not trusted, or a store fails.
    """
    if (engine == "dask") != (scheduler is not None):
        raise TrainingError("--engine dask needs --scheduler tcp://HOST:PORT, and only it does.")
    destination = absolute(destination)
    store = open_location(destination)
    known = find_plan(store)
    if known is not None:
        check_options(store, known, options)
    done = frozenset(list_names(store))
    if SUCCESS in done:
        if known is None:
            raise TrainingError(f"{store} holds the {SUCCESS} of another job; name another folder.")
        say(f"{store} is complete: {SUCCESS} is there.")
        return True
    plan, manifest, tasks = _go_on(known, trust) if known else _begin(store, options, trust)
    say(
        f"{manifest.name} {plan.version}: {len(plan.inputs):,} files, {len(tasks):,} tasks"
        + (f"; {len(done) - 1:,} files are there already" if len(done) > 1 else "")
    )
    parts: list[Part] = []
    with (
        on_interrupt("the parts that are written stay; run the same command to continue"),
        progress(sum(task.size for task in tasks), len(tasks)) as report,
        _engine(engine, scheduler, workers) as parallel,
    ):
        calls = (
            joblib.delayed(_score)(number, plan, task, destination, done, trust)
            for number, task in enumerate(tasks)
        )
        for number, found in parallel(calls):
            parts += found
            report(tasks[number].size, sum(p.rows for p in found), sum(p.errors for p in found))
    return _finish(store, plan, parts, max_errors)


def _begin(store: Store, options: Options, trust: Trust) -> tuple[Plan, Manifest, list[Task]]:
    """Plan a run with the live version; or return another's, which began here in the meantime."""
    bundle = open_bundle(open_location(options.model), trust=trust)
    manifest = bundle.manifest
    check_keep(manifest, options.keep)
    inputs = list_inputs(options.source)
    usual = "csv" if all(is_csv(file.path) for file in inputs) else "parquet"
    plan = Plan(
        options=options,
        location=absolute(str(bundle.location)),
        version=manifest.version,
        format=options.format or usual,
        inputs=inputs,
    )
    tasks = tasks_of(plan, manifest.features)  # nothing is written for files that do not fit
    begun = begin(store, plan)
    return (plan, manifest, tasks) if begun is plan else _go_on(begun, trust)


def _go_on(plan: Plan, trust: Trust) -> tuple[Plan, Manifest, list[Task]]:
    manifest = Bundle(open_location(plan.location), plan.version, trust=trust).manifest
    return plan, manifest, tasks_of(plan, manifest.features)


def _score(number: int, *arguments: Any) -> tuple[int, list[Part]]:
    return number, score_task(*arguments)


@contextlib.contextmanager
def _engine(name: str, scheduler: str | None, workers: int | None) -> Iterator[joblib.Parallel]:
    """Yield joblib over the engine's backend. It answers in the order in which parts are done."""
    options: dict[str, Any] = {"return_as": "generator_unordered", "batch_size": 1}
    if name == "local":
        try:
            yield joblib.Parallel(n_jobs=workers or joblib.cpu_count(), backend="loky", **options)
        except joblib.externals.loky.process_executor.TerminatedWorkerError as error:
            raise TrainingError(
                "a worker was killed, perhaps for lack of memory; run the same command to continue."
            ) from error
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise TrainingError(
            "--engine dask needs Dask: pip install -r training/requirements-dask.txt."
        ) from error
    with blame(f"the scheduler {scheduler} does not answer"):
        client = Client(scheduler, timeout=10)  # type: ignore[no-untyped-call]
    with client, joblib.parallel_config(backend="dask"):
        if not client.scheduler_info()["workers"]:
            raise TrainingError(f"the scheduler {scheduler} has no workers.")
        yield joblib.Parallel(n_jobs=workers or -1, **options)


def _finish(store: Store, plan: Plan, parts: list[Part], max_errors: float) -> bool:
    rows, errors = sum(part.rows for part in parts), sum(part.errors for part in parts)
    unseen: Counter[str] = Counter()
    for part in parts:
        unseen.update(part.unseen)
    say(f"{rows:,} rows in {len(parts):,} files in {store}, {errors:,} with an error")
    for feature, count in unseen.items():
        say(f"{feature}: {count:,} rows with a category that training never saw")
    if rows and errors == rows:
        say(
            f"No row has an answer: there is no {SUCCESS}. See the column error; when it is mended,"
            " score into another folder."
        )
        return False
    if errors > max_errors * rows:
        say(
            f"{errors / rows:.2%} of the rows have an error, over --max-errors {max_errors:g}: "
            f"there is no {SUCCESS}. See the column error; a larger --max-errors accepts them."
        )
        return False
    summary = {
        "model": plan.location,
        "version": plan.version,
        "rows": rows,
        "errors": errors,
        "unseen": dict(sorted(unseen.items())),
        "parts": sorted(parts, key=lambda part: part.name),
    }
    with contextlib.suppress(Conflict):  # another run of the same plan was faster
        store.create(SUCCESS, msgspec.json.format(msgspec.json.encode(summary), indent=2))
    return True
