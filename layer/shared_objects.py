"""Checks that Lambda can load the shared objects of a layer."""

from __future__ import annotations

import re
from pathlib import Path

from layer.wheels import BuildError, Target

__all__ = ["check_shared_objects"]

#: e_machine of the ELF header.
ELF_MACHINES = {62: "x86_64", 183: "aarch64"}


def check_shared_objects(folder: Path, target: Target) -> int:
    """
    Check the architecture and the Python ABI of every shared object; return their number.

    Raises:
        BuildError: A shared object is for another machine or another Python.
    """
    wanted = f"cpython-{target.python.replace('.', '')}-{target.machine}-linux-gnu"
    found = 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            header = file.read(20)
        if not (header.startswith(b"\x7fELF") or re.search(r"\.so(\.|$)", path.name)):
            continue
        found += 1
        name = path.relative_to(folder).as_posix()
        if (machine := _machine(header)) != target.machine:
            raise BuildError(f"{name} is for {machine}, but the layer is for {target.machine}.")
        # Files without a tag and abi3 files load in every Python.
        tag = re.search(r"\.(cpython-[^.]*)\.so$", path.name)
        if tag and tag[1] != wanted:
            raise BuildError(f"{name} is for {tag[1]}, but the layer is for {wanted}.")
    return found


def _machine(header: bytes) -> str:
    # Both of Lambda's architectures are 64-bit and little-endian.
    if not header.startswith(b"\x7fELF\x02\x01"):
        return "not 64-bit Linux"
    code = int.from_bytes(header[18:], "little")
    return ELF_MACHINES.get(code, f"ELF machine {code}")
