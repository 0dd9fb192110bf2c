"""Which bundles this process trusts: whose signature is required, and when a pickle may be opened.

Opening a pickle can run any code that is in it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from serving.bundle.manifest import MANIFEST_FILE, PIPELINE_FILE

if TYPE_CHECKING:
    from serving.settings import Settings
    from serving.stores.store import Store

__all__ = ["Trust"]


class Trust(NamedTuple):
    """What this process requires of a bundle."""

    #: Ed25519 public keys, 32 bytes each. A bundle needs a signature by one of them, if there are
    #: any.
    public_keys: tuple[bytes, ...] = ()
    #: Whether the operator vouches for every pickle in the store.
    allow_pickle: bool = False
    #: The folder of the deployed package, on platforms where only a deployment can change it.
    deployed_folder: str | None = None
    #: The largest model file that is read, in bytes.
    max_model_bytes: int = 256 * 1024 * 1024
    #: Whether only programs on this machine can reach the server (see `Process.listen`), or a
    #: command runs on one's own machine.
    at_home: bool = False

    @classmethod
    def from_settings(cls, settings: Settings, deployed_folder: str | None = None) -> Trust:
        """Read the settings."""
        return cls(
            settings.model_public_keys,
            settings.allow_pickle is True,
            deployed_folder,
            settings.max_model_bytes,
        )

    def allows_pickle(self, location: Store, *, signed: bool) -> bool:
        """
        Whether the pickle at *location* may be opened.

        It may if a trusted key *signed* its bundle, if it was deployed with the code, or if the
        operator vouches for every pickle.
        """
        return self.allow_pickle or signed or self._is_deployed(location)

    def opens_own(self, location: Store) -> bool:
        """
        Whether the pickle at *location* may be opened because it is the user's own.

        That takes a server or a command at home, and a local folder. The folder, the manifest and
        the pickle must belong to the user who runs it, and not be writable for everyone.
        """
        if not self.at_home or location.remote:
            return False
        paths = (location, location.at(MANIFEST_FILE), location.at(PIPELINE_FILE))
        try:
            found = [os.stat(str(path)) for path in paths]
        except OSError:
            return False
        return all(s.st_uid == os.getuid() and not s.st_mode & stat.S_IWOTH for s in found)

    def _is_deployed(self, location: Store) -> bool:
        """Whether the files lie in the deployed package, after links are followed."""
        if self.deployed_folder is None or location.remote:
            return False
        root = os.path.realpath(self.deployed_folder)
        files = (str(location.at(name)) for name in (MANIFEST_FILE, PIPELINE_FILE))
        return all(os.path.commonpath([root, os.path.realpath(file)]) == root for file in files)
