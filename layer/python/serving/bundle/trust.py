"""Whether a bundle's pickle may be opened: it can run any code that is in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from serving.bundle.manifest import MANIFEST_FILE, PIPELINE_FILE
from serving.errors import BundleError
from serving.settings import deployed_folder

if TYPE_CHECKING:
    from serving.bundle.bundle import Bundle

__all__ = ["check_pickle", "may_unpickle"]


def check_pickle(bundle: Bundle, *, allowed: bool) -> None:
    """
    Make sure that the pickle of *bundle* may be opened; *allowed* if the operator answers for it.

    Raises:
        BundleError: It may not; the sentence says how it could be.
    """
    if not may_unpickle(bundle, allowed=allowed, package=deployed_folder()):
        raise BundleError(
            f"{bundle.location} runs on scikit-learn, and opening its {PIPELINE_FILE} can run any "
            "code that is in it. Sign the bundle and set MODEL_PUBLIC_KEYS; or deploy it inside "
            "the package; or, if you trust whoever can write there, set ALLOW_PICKLE=1."
        )


def may_unpickle(bundle: Bundle, *, allowed: bool, package: str | None) -> bool:
    """
    Decide it by who can have written the bundle.

    Args:
        bundle: It has a signer only if the signature was verified.
        allowed: Whether the operator answers for it.
        package: The deployed package's folder, if this is a platform that has one.
    """
    return allowed or bundle.signer is not None or _lies_in(package, bundle)


def _lies_in(package: str | None, bundle: Bundle) -> bool:
    """Links are followed: what counts is where the files are."""
    if package is None or bundle.location.remote:
        return False
    root = os.path.realpath(package)
    files = (str(bundle.location.at(name)) for name in (MANIFEST_FILE, PIPELINE_FILE))
    return all(os.path.commonpath([root, os.path.realpath(file)]) == root for file in files)
