"""The command line: `python -m training COMMAND`.

exit status:
  0    done
  2    the input was wrong, the store failed, or someone else was faster: one sentence says which
  3    the model is written and not live, or score found too many errors; the output says why
  130  interrupted
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from serving.errors import CanoaError
from serving.routes import load_functions, scopes
from serving.settings import read_settings

from training.errors import NOT_PROMOTED, TrainingError, describe, short_warnings
from training.registry.command import KEY_HELP, add_registry, read_trust
from training.score.command import add_score

_FUNCTIONS = Path(__file__).resolve().parent.parent / "functions"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    # The job runs from the project's folder: that is where --project is found.
    sys.path.insert(0, os.getcwd())
    try:
        with short_warnings():
            return options.run(options) or 0
    except (TrainingError, CanoaError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"training: interrupted; {str(interrupt) or 'nothing was written'}.", file=sys.stderr)
        return 130
    except Exception as error:  # an error in Canoa: still one sentence, and where it happened
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}, line {frame.lineno}"
        print(f"training: unexpected {describe(error)} ({place}).", file=sys.stderr)
        return 2


# Each command is imported when it is called: scikit-learn takes a second.


def _train(options: argparse.Namespace) -> int:
    from training.registry.verdict.conditions import read_conditions

    conditions = read_conditions(options.promote_if)
    from training.registry.release import Wish
    from training.train import train

    live = train(
        options.project,
        options.name,
        options.models,
        wish=Wish(conditions, options.to, options.promote, read_trust()),
        column=options.id,
        key=options.sign,
        background=options.background,
    )
    return 0 if live else NOT_PROMOTED


def _pack(options: argparse.Namespace) -> int:
    from training.pack import pack

    live = pack(
        options.pipeline,
        options.sample,
        options.target,
        options.name,
        options.models,
        texts=options.text,
        key=options.sign,
        background=options.background,
        promote=options.promote,
        max_model_bytes=read_settings(os.environ).max_model_bytes,
    )
    return 0 if live else NOT_PROMOTED


def _key(options: argparse.Namespace) -> None:
    from training.api_key import make_api_key

    make_api_key(options.name, options.scope, scopes(load_functions(_FUNCTIONS)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )

    train = commands.add_parser("train", help="fit a project's pipeline and write its bundle")
    train.add_argument(
        "--project",
        default="training.credit",
        help="module with load_data() and build_pipeline(), or its file: training/churn.py",
    )
    train.add_argument(
        "--id",
        metavar="COLUMN",
        help="the column that says whose row it is: it decides which rows are held out, and is no "
        "feature (default: the row's values decide)",
    )
    train.add_argument("--name", help="the model's name (default: the module's)")
    train.add_argument(
        "--promote-if",
        metavar="CONDITION",
        action="append",
        default=[],
        help="go live only if the held-out rows say so: 'roc_auc >= live - 0.01', 'rmse < 12'; "
        "several are joined by 'and', or given one by one",
    )
    train.add_argument("--to", metavar="MODELS", help="publish it too: s3://BUCKET/models, …")
    train.set_defaults(run=_train)

    pack = commands.add_parser("pack", help="make a bundle of a pipeline fitted elsewhere")
    pack.add_argument("pipeline", type=Path, help="a joblib file; opening it runs what is in it")
    pack.add_argument(
        "--sample", type=Path, required=True, help="rows like the training rows, CSV or .parquet"
    )
    pack.add_argument(
        "--target",
        action="append",
        default=[],
        help="the sample's target column, for metrics; of several outputs one by one, in order",
    )
    pack.add_argument(
        "--text",
        metavar="COLUMN",
        action="append",
        default=[],
        help="a column of the CSV that is text, though it holds digits; repeat it for more",
    )
    pack.add_argument("--name", required=True, help="the model's name")
    pack.set_defaults(run=_pack)

    for command in (train, pack):
        command.add_argument(
            "--models",
            type=_folder,
            default=Path("models"),
            help="the folder where bundles go (default: models)",
        )
        command.add_argument("--promote", action="store_true", help="go live in spite of warnings")
        command.add_argument("--sign", metavar="KEY", help=f"sign the bundle: {KEY_HELP}")
        text = "put no training rows into the bundle; its answers cannot be explained then"
        command.add_argument("--no-background", dest="background", action="store_false", help=text)

    add_registry(commands)
    add_score(commands)
    key = commands.add_parser("key", help="make an API key, and print where to put it")
    key.add_argument("name", help="the caller's name, which logs show")
    key.add_argument(
        "--scope",
        action="append",
        default=[],
        help="what it may do, as the functions name it; repeat it for more (default: everything)",
    )
    key.set_defaults(run=_key)
    return parser


def _folder(text: str) -> Path:
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text} is no folder; to upload a bundle, use train --to or publish --to"
        )
    return Path(text)


if __name__ == "__main__":
    sys.exit(main())
