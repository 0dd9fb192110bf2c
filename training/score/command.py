"""The options of `python -m training score`, and what they run."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

from training.errors import TrainingError
from training.registry.command import read_count, read_trust

__all__ = ["add_score"]

TOO_MANY_ERRORS = 3


def add_score(commands: Any) -> None:
    """Add the command to the command line. It imports Arrow when it runs."""
    score = commands.add_parser("score", help="score files: Parquet or CSV in, files out")
    score.add_argument("model", help="models/NAME, or one version of it; a folder, or its URI")
    score.add_argument(
        "--from",
        dest="source",
        metavar="FILES",
        required=True,
        help="a file, a folder, a glob, or s3://…, gs://…, az://…: .parquet, .csv, .csv.gz",
    )
    score.add_argument("--to", metavar="DESTINATION", required=True, help="a folder, or s3://…")
    score.add_argument(
        "--keep", metavar="COLUMN", nargs="+", default=[], help="columns that go into the output"
    )
    score.add_argument("--format", choices=("csv", "parquet"), help="default: the input's")
    score.add_argument(
        "--max-errors",
        metavar="SHARE",
        type=_share,
        default=1.0,
        help="end with status 3 if more rows than this share have an error: 0.01",
    )
    score.add_argument("--engine", choices=("local", "dask"), default="local")
    score.add_argument("--scheduler", metavar="ADDRESS", help="of Dask: tcp://HOST:8786")
    score.add_argument(
        "--workers", metavar="N", type=read_count, help="processes (default: one on each core)"
    )
    score.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    try:
        from training.score.plan import Options
        from training.score.run import score
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"score needs {error.name}: pip install -r training/requirements-score.txt."
        ) from error
    trust = read_trust()
    if options.engine != "local":  # its workers are not at home
        trust = trust._replace(at_home=False)
    good = score(
        Options(
            model=options.model, source=options.source, keep=options.keep, format=options.format
        ),
        options.to,
        trust,
        engine=options.engine,
        scheduler=options.scheduler,
        workers=options.workers,
        max_errors=options.max_errors,
    )
    return 0 if good else TOO_MANY_ERRORS


def _share(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (share := float(text)) <= 1:
            return share
    raise argparse.ArgumentTypeError(f"{text} is not a share from 0 to 1")
