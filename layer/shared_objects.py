"""Checks that Lambda can load the shared objects, and strips their symbols."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from layer.wheels import BuildError, Target

__all__ = ["check_shared_objects", "cut_symbols"]

#: e_machine of the ELF header.
ELF_MACHINES = {62: "x86_64", 183: "aarch64"}


def check_shared_objects(folder: Path, target: Target) -> int:
    """
    Check the architecture and the Python ABI of every shared object; return their number.

    Raises:
        BuildError: A shared object is for another machine or another Python.
    """
    found = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or not (_is_elf(path) or re.search(r"\.so(\.|$)", path.name)):
            continue
        found += 1
        if (machine := _machine(path)) != target.machine:
            raise BuildError(f"{name} is for {machine}, but the layer is for {target.machine}.")
        tag = re.search(r"\.(cpython-[^.]*)\.so$", path.name)
        wanted = f"cpython-{target.python.replace('.', '')}-{target.machine}-linux-gnu"
        # Files without a tag and abi3 files load in every Python.
        if tag and tag[1] != wanted:
            raise BuildError(f"{name} is for {tag[1]}, but the layer is for {wanted}.")
    return found


def cut_symbols(folder: Path) -> None:
    """
    Remove the section table, and the debug symbols before it, from the end of shared objects.

    The loader reads segments only. The section table is optional (ELF specification, "Object
    Files"), and the symbols for dynamic linking are in a segment. This machine's `strip` is not
    used, because it may not know Lambda's architecture.
    """
    for path in folder.rglob("*.so*"):
        if not _is_elf(path):
            continue
        content = bytearray(path.read_bytes())
        (table,) = struct.unpack_from("<Q", content, _E_PHOFF)
        size, count = struct.unpack_from("<HH", content, _E_PHENTSIZE)
        end = table + size * count
        for header in range(table, end, size):
            offset, _, _, length = struct.unpack_from("<QQQQ", content, header + _P_OFFSET)
            end = max(end, offset + length)
        struct.pack_into("<Q", content, _E_SHOFF, 0)
        struct.pack_into("<HH", content, _E_SHNUM, 0, 0)
        path.write_bytes(content[:end])


#: Offsets in ELF's 64-bit headers: of the program headers, the section headers, a segment.
_E_PHOFF, _E_SHOFF, _E_PHENTSIZE, _E_SHNUM, _P_OFFSET = 0x20, 0x28, 0x36, 0x3C, 0x08


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _machine(path: Path) -> str:
    with path.open("rb") as file:
        header = file.read(20)
    # Both of Lambda's architectures are 64-bit and little-endian.
    if header[:6] != b"\x7fELF\x02\x01" or len(header) < 20:
        return "not 64-bit Linux"
    (code,) = struct.unpack_from("<H", header, 18)
    return ELF_MACHINES.get(code, f"ELF machine {code}")
