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
from typing import Any

from serving.bundle.trust import Trust
from serving.errors import CanoaError
from serving.routes import load_functions, scopes
from serving.settings import read_settings

from training.errors import TrainingError, describe, short_warnings
from training.score.command import add_score

NOT_PROMOTED = 3
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
    from training.registry.verdict.gate import read_conditions

    conditions = read_conditions(options.promote_if)
    from training.registry.release import Wish
    from training.train import train

    live = train(
        options.project,
        options.name,
        options.models,
        wish=Wish(conditions, options.to, options.promote, _trust()),
        column=options.id,
        key=options.sign,
        background=options.background,
    )
    return 0 if live else NOT_PROMOTED


def _pack(options: argparse.Namespace) -> None:
    from training.pack import pack

    pack(
        options.pipeline,
        options.sample,
        options.target,
        options.name,
        options.models,
        key=options.sign,
        background=options.background,
        max_model_bytes=read_settings(os.environ).max_model_bytes,
    )


def _check(options: argparse.Namespace) -> None:
    from training.registry.check import check

    check(options.bundle, _trust())


def _card(options: argparse.Namespace) -> None:
    from training.card import write_card

    write_card(options.bundle, options.out)


def _publish(options: argparse.Namespace) -> None:
    from training.registry.publish import publish

    publish(options.bundle, options.to, _trust(), promote=options.promote)


def _list(options: argparse.Namespace) -> None:
    from training.registry.versions import list_versions

    list_versions(_store(options))


def _compare(options: argparse.Namespace) -> int:
    from training.registry.verdict.rows import Source
    from training.registry.verdict.side_by_side import compare_versions

    if options.target and not options.data:
        raise TrainingError("--target names a column of --data; give both.")
    done = compare_versions(
        (options.a, options.b),
        _store(options),
        Source(options.data, options.target, options.project, options.unseen),
        _trust(),
    )
    return 0 if done else NOT_PROMOTED


def _promote(options: argparse.Namespace) -> None:
    from training.registry.promote import promote

    promote(_store(options), options.version, _trust())


def _rollback(options: argparse.Namespace) -> None:
    from training.registry.promote import rollback

    rollback(_store(options), _trust())


def _prune(options: argparse.Namespace) -> None:
    from training.registry.prune import prune

    prune(_store(options), options.keep, dry_run=options.dry_run)


def _keygen(options: argparse.Namespace) -> None:
    from training.registry.signing_key import make_signing_key

    make_signing_key(options.file)


def _sign(options: argparse.Namespace) -> None:
    from training.registry.sign import sign

    sign(options.bundle, options.key)


def _key(options: argparse.Namespace) -> None:
    from training.api_key import make_api_key

    make_api_key(options.name, options.scope, scopes(load_functions(_FUNCTIONS)))


def _store(options: argparse.Namespace) -> str:
    return options.store or read_settings(os.environ).model_uri


def _trust() -> Trust:
    return Trust.from_settings(read_settings(os.environ))


_KEY = "the private key's file, or env:NAME for an environment variable"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

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
    train.add_argument("--promote", action="store_true", help="go live in spite of warnings")
    train.add_argument("--to", metavar="MODELS", help="publish it too: s3://BUCKET/models, …")
    train.set_defaults(run=_train)

    pack = commands.add_parser("pack", help="make a bundle of a pipeline fitted elsewhere")
    pack.add_argument("pipeline", type=Path, help="a joblib file; opening it runs what is in it")
    pack.add_argument(
        "--sample", type=Path, required=True, help="CSV of rows like the training rows"
    )
    pack.add_argument(
        "--target",
        action="append",
        default=[],
        help="the sample's target column, for metrics; of several outputs one by one, in order",
    )
    pack.add_argument("--name", required=True, help="the model's name")
    pack.set_defaults(run=_pack)

    for command in (train, pack):
        command.add_argument(
            "--models", type=Path, default=Path("models"), help="where bundles go (default: models)"
        )
        command.add_argument("--sign", metavar="KEY", help=f"sign the bundle: {_KEY}")
        text = "put no training rows into the bundle; its answers cannot be explained then"
        command.add_argument("--no-background", dest="background", action="store_false", help=text)

    keygen = commands.add_parser("keygen", help="make a key that signs bundles")
    keygen.add_argument("file", type=Path, help="where the private key goes")
    keygen.set_defaults(run=_keygen)

    check = commands.add_parser("check", help="load a bundle as the server would, and try it")
    check.set_defaults(run=_check)
    publish = commands.add_parser("publish", help="upload a bundle to an object store")
    publish.add_argument(
        "--to",
        metavar="MODELS",
        required=True,
        help="where models go: s3://BUCKET/models, gs://…, az://…, a folder",
    )
    publish.add_argument(
        "--no-promote", dest="promote", action="store_false", help="upload it only; do not go live"
    )
    publish.set_defaults(run=_publish)
    sign = commands.add_parser("sign", help="sign a bundle, published or not")
    sign.add_argument("--key", required=True, help=_KEY)
    sign.set_defaults(run=_sign)
    card = commands.add_parser("card", help="write a model's page to a file")
    card.add_argument("--out", type=Path, metavar="FILE", help="default: NAME.html")
    card.set_defaults(run=_card)
    for command in (check, card, publish, sign):
        command.add_argument(
            "bundle", help="models/NAME, or models/NAME/VERSION; a folder, or its URI in a store"
        )

    add_score(commands)
    _add_commands_over_versions(commands)
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


def _add_commands_over_versions(commands: Any) -> None:
    listing = commands.add_parser("list", help="the versions of a model, newest first")
    listing.set_defaults(run=_list)
    compare = commands.add_parser("compare", help="two versions on the same rows, side by side")
    for name in ("a", "b"):
        compare.add_argument(
            name, metavar=name.upper(), help="a bundle's location, or a version in --store"
        )
    rows = compare.add_mutually_exclusive_group()
    rows.add_argument("--data", type=Path, metavar="CSV", help="the rows")
    rows.add_argument("--project", help="the rows that its load_data() returns")
    compare.add_argument(
        "--target", metavar="COLUMN", help="the column of --data that is the truth"
    )
    compare.add_argument(
        "--unseen", action="store_true", help="neither model was fitted to any of these rows"
    )
    compare.set_defaults(run=_compare)
    promote = commands.add_parser("promote", help="make a version the live one")
    promote.add_argument("version", metavar="VERSION", help="as list shows it")
    promote.set_defaults(run=_promote)
    rollback = commands.add_parser(
        "rollback", help="make the previous version live; run it again to return"
    )
    rollback.set_defaults(run=_rollback)
    prune = commands.add_parser("prune", help="delete old versions, but never the live one")
    prune.add_argument(
        "--keep",
        metavar="N",
        type=_count,
        required=True,
        help="how many of the newest stay, beside the live one and the one before; a version that "
        "a server holds by its own address is not known here",
    )
    prune.add_argument("--dry-run", action="store_true", help="only show what would be deleted")
    prune.set_defaults(run=_prune)
    for command in (listing, compare, promote, rollback, prune):
        command.add_argument(
            "--store",
            metavar="MODEL",
            help="the model's location: models/NAME, s3://BUCKET/models/NAME (default: MODEL_URI)",
        )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not an integer above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
