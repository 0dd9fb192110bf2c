"""Refuses shared objects that Lambda could not load, and cuts off what loading does not read."""

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
    Check the architecture and the Python ABI of every shared object; return how many there are.

    Raises:
        BuildError: One of them is for another machine or another Python.
    """
    found = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or not (_is_elf(path) or re.search(r"\.so(\.|$)", path.name)):
            continue
        found += 1
        if (machine := _machine(path)) != target.machine:
            raise BuildError(f"{name} is for {machine}, and the layer for {target.machine}.")
        tag = re.search(r"\.(cpython-[^.]*)\.so$", path.name)
        wanted = f"cpython-{target.cpython}-{target.machine}-linux-gnu"
        # Untagged ones and abi3 load in every Python.
        if tag and tag[1] != wanted:
            raise BuildError(f"{name} is for {tag[1]}, and the layer for {wanted}.")
    return found


def cut_symbols(folder: Path) -> None:
    """
    Cut the section table, and the debugger's symbols before it, off the end of shared objects.

    A program is loaded by its segments. Its section table is optional (the ELF specification,
    "Object Files"), and the symbols that it is linked by lie in a segment. No `strip` of this
    machine is asked: it might not know Lambda's.
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


#: Where ELF's 64-bit headers hold what: program headers, section headers, a segment in the file.
_E_PHOFF, _E_SHOFF, _E_PHENTSIZE, _E_SHNUM, _P_OFFSET = 0x20, 0x28, 0x36, 0x3C, 0x08


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _machine(path: Path) -> str:
    with path.open("rb") as file:
        header = file.read(20)
    # 64 bits, little-endian, as both of Lambda's machines are.
    if header[:6] != b"\x7fELF\x02\x01" or len(header) < 20:
        return "no 64-bit Linux"
    (code,) = struct.unpack_from("<H", header, 18)
    return ELF_MACHINES.get(code, f"ELF machine {code}")
