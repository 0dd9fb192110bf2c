"""The commands over bundles and their versions, and what they run."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from serving.bundle.trust import Trust
from serving.settings import platform, read_settings

from training.errors import NOT_PROMOTED, TrainingError

__all__ = ["KEY_HELP", "add_registry", "read_count", "read_trust"]

KEY_HELP = "the private key's file, or env:NAME for an environment variable"


def read_trust() -> Trust:
    """Take what the environment says. Where no variable marks a cloud, commands run at home."""
    settings = read_settings(os.environ)
    at_home = platform(os.environ) is None and settings.allow_pickle is None
    return Trust.from_settings(settings)._replace(at_home=at_home)


def add_registry(commands: Any) -> None:
    """Add the commands to the command line. Each imports what it needs when it runs."""
    keygen = commands.add_parser("keygen", help="make a key that signs bundles")
    keygen.add_argument("file", type=Path, help="where the private key goes")
    keygen.set_defaults(run=_run)
    _add_commands_over_a_bundle(commands)
    _add_commands_over_versions(commands)


def _add_commands_over_a_bundle(commands: Any) -> None:
    check = commands.add_parser("check", help="load a bundle as the server would, and try it")
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
    sign = commands.add_parser("sign", help="sign a bundle, published or not")
    sign.add_argument("--key", required=True, help=KEY_HELP)
    card = commands.add_parser("card", help="write a model's page to a file")
    card.add_argument("--out", type=Path, metavar="FILE", help="default: NAME.html")
    for command in (check, publish, sign, card):
        command.set_defaults(run=_run)
        command.add_argument(
            "bundle", help="models/NAME, or models/NAME/VERSION; a folder, or its URI in a store"
        )


def _add_commands_over_versions(commands: Any) -> None:
    listing = commands.add_parser("list", help="the versions of a model, newest first")
    compare = commands.add_parser("compare", help="two versions on the same rows, side by side")
    for name in ("a", "b"):
        compare.add_argument(
            name, metavar=name.upper(), help="a bundle's location, or a version in --store"
        )
    rows = compare.add_mutually_exclusive_group()
    rows.add_argument("--data", type=Path, metavar="FILE", help="the rows, CSV or .parquet")
    rows.add_argument("--project", help="the rows that its load_data() returns")
    compare.add_argument(
        "--target",
        metavar="COLUMN",
        action="append",
        default=[],
        help="the column of --data that is the truth; of several outputs one by one, in order",
    )
    compare.add_argument(
        "--unseen", action="store_true", help="neither model was fitted to any of these rows"
    )
    promote = commands.add_parser("promote", help="make a version the live one")
    promote.add_argument("version", metavar="VERSION", help="as list shows it")
    rollback = commands.add_parser(
        "rollback", help="make the previous version live; run it again to return"
    )
    prune = commands.add_parser("prune", help="delete old versions, but never the live one")
    prune.add_argument(
        "--keep",
        metavar="N",
        type=read_count,
        required=True,
        help="how many of the newest stay, beside the live one and the one before; a version that "
        "a server holds by its own address is not known here",
    )
    prune.add_argument("--dry-run", action="store_true", help="only show what would be deleted")
    for command in (listing, compare, promote, rollback, prune):
        command.set_defaults(run=_run)
        command.add_argument(
            "--store",
            metavar="MODEL",
            help="the model's location: models/NAME, s3://BUCKET/models/NAME (default: MODEL_URI)",
        )


def read_count(text: str) -> int:
    """Read an option that is an integer above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not an integer above 0")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    """Run a command, and return its exit status. Each imports what it needs: some need a second."""
    match options.command:
        case "keygen":
            from training.registry.signing import make_signing_key

            make_signing_key(options.file)
        case "check":
            from training.registry.check import check

            check(options.bundle, read_trust())
        case "publish":
            from training.registry.publish import publish

            publish(options.bundle, options.to, read_trust(), promote=options.promote)
        case "sign":
            from training.registry.signing import sign

            sign(options.bundle, options.key)
        case "card":
            from training.registry.card import write_card

            write_card(options.bundle, options.out)
        case "list":
            from training.registry.versions import list_versions

            list_versions(_store(options))
        case "compare":
            from training.registry.verdict.rows import Source
            from training.registry.verdict.side_by_side import compare_versions

            if options.target and not options.data:
                raise TrainingError("--target names a column of --data; give both.")
            done = compare_versions(
                (options.a, options.b),
                _store(options),
                Source(options.data, options.target, options.project, options.unseen),
                read_trust(),
            )
            return 0 if done else NOT_PROMOTED
        case "promote":
            from training.registry.promote import promote

            promote(_store(options), options.version, read_trust())
        case "rollback":
            from training.registry.promote import rollback

            rollback(_store(options), read_trust())
        case "prune":
            from training.registry.prune import prune

            prune(_store(options), options.keep, dry_run=options.dry_run)
    return 0


def _store(options: argparse.Namespace) -> str:
    return options.store or read_settings(os.environ).model_uri
