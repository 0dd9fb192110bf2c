"""The command line: `python -m training train | pack | check | publish | keygen | sign`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from serving.errors import CanoaError

from training.errors import TrainingError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 2 for wrong input, 130 for an interrupt."""
    options = _parser().parse_args(arguments)
    # The job runs from the project's folder: that is where --project is found.
    sys.path.insert(0, os.getcwd())
    try:
        # Each command is imported when it is called: scikit-learn takes a second.
        if options.command == "train":
            from training.train import train

            train(options.project, options.name, options.models, key=options.sign)
        elif options.command == "pack":
            from training.pack import pack

            pack(
                options.pipeline,
                options.sample,
                options.target,
                options.name,
                options.models,
                key=options.sign,
            )
        elif options.command == "check":
            from training.check import check

            check(options.bundle)
        elif options.command == "keygen":
            from training.signing_key import make_key

            make_key(options.file)
        elif options.command == "sign":
            from training.sign import sign

            sign(options.bundle, options.key)
        else:
            from training.publish import publish

            publish(options.bundle, options.to)
    except (TrainingError, CanoaError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("training: interrupted; nothing was written.", file=sys.stderr)
        return 130
    return 0


_KEY = "the private key's file, or env:NAME for an environment variable"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="fit a project's pipeline and write its bundle")
    train.add_argument(
        "--project", default="training.credit", help="module with load_data() and build_pipeline()"
    )
    train.add_argument("--name", help="the model's name (default: the module's)")

    pack = commands.add_parser("pack", help="make a bundle of a pipeline fitted elsewhere")
    pack.add_argument("pipeline", type=Path, help="a joblib file; opening it runs what is in it")
    pack.add_argument(
        "--sample", type=Path, required=True, help="CSV of rows like the training rows"
    )
    pack.add_argument("--target", help="the sample's target column, for metrics")
    pack.add_argument("--name", required=True, help="the model's name")

    for command in (train, pack):
        command.add_argument(
            "--models", type=Path, default=Path("models"), help="where bundles go (default: models)"
        )
        command.add_argument("--sign", metavar="KEY", help=f"sign the bundle: {_KEY}")

    keygen = commands.add_parser("keygen", help="make a key that signs bundles")
    keygen.add_argument("file", type=Path, help="where the private key goes")

    check = commands.add_parser("check", help="load a bundle as the server would, and try it")
    publish = commands.add_parser("publish", help="upload a bundle to an object store")
    publish.add_argument(
        "--to", required=True, help="where models go: s3://BUCKET/models, gs://…, az://…, a folder"
    )
    sign = commands.add_parser("sign", help="sign a bundle, published or not")
    sign.add_argument("--key", required=True, help=_KEY)
    for command in (check, publish, sign):
        command.add_argument(
            "bundle", help="models/NAME, or models/NAME/VERSION; a folder, or its URI in a store"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
