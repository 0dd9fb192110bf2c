"""Checks input files. A sentence says what was found, and what would be right."""

from __future__ import annotations

import codecs
import csv
import re
from pathlib import Path

from training.errors import TrainingError

__all__ = ["check_content", "check_csv"]

_LFS = b"version https://git-lfs.github.com/spec/"
#: How other formats begin, and what to do about each.
_FORMATS = {
    b"PK\x03\x04": "a zip archive (or an Excel workbook, or a PyTorch or skops model): unpack it",
    b"PAR1": "a Parquet file",
    b"\x89HDF": "an HDF5 file",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"<!DOCTYPE": "a web page, not the file that was to be downloaded",
    b"<html": "a web page, not the file that was to be downloaded",
}
_GZIP = b"\x1f\x8b"
#: What pandas unpacks by the file's name.
_PACKED = (".gz", ".bz2", ".zip", ".xz", ".zst", ".tar")
_HEAD = 64 * 1024
_ROWS = 100
_SEPARATORS = {"\t": "tabs", ";": "semicolons", "|": "vertical bars"}


def check_content(path: Path) -> bytes:
    """
    Read the beginning of a file.

    Raises:
        TrainingError: It cannot be read, is empty, is a Git LFS pointer, or is of another format.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}.") from error
    if not head:
        raise TrainingError(f"{path} is empty.")
    if head.startswith(_LFS):
        raise TrainingError(
            f"{path} is a Git LFS pointer, not the file itself; fetch it: git lfs pull."
        )
    for start, what in _FORMATS.items():
        if head.startswith(start):
            raise TrainingError(f"{path} is {what}.")
    return head


def check_csv(path: Path) -> None:
    """
    Check that a file is CSV as `pack` reads it: in UTF-8, with commas, and no blanks after them.

    A file that is packed, or is Parquet by its name, is left to its reader.

    Raises:
        TrainingError: It is not; the sentence gives the line of Python that mends it.
    """
    if path.suffix in (".parquet", *_PACKED):
        return
    head = check_content(path)
    if head.startswith(_GZIP):
        raise TrainingError(f"{path} is compressed with gzip; call it {path.name}.gz.")
    _check_encoding(path, head)
    rows = _first_rows(head)
    [first, *rest] = rows or [[]]
    line = head.decode("utf-8-sig", "replace").partition("\n")[0]
    for separator, what in _SEPARATORS.items():
        if len(first) == 1 and separator in line:
            raise TrainingError(
                f"{path} has {what} between its columns instead of commas; "
                f"{_mend(path, f'sep={separator!r}')}."
            )
    filled = [row for row in rest if len(row) > 1]
    if _begins_blank(first) or (filled and all(map(_begins_blank, filled))):
        raise TrainingError(
            f"{path} has blanks after its commas, which become part of names and categories; "
            f"{_mend(path, 'skipinitialspace=True')}."
        )
    _check_end(path, len(first))


def _check_encoding(path: Path, head: bytes) -> None:
    zeros, start = head[:1000].count(0), head[:1000]
    marked = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if marked or zeros > len(start) / 4:  # every other byte of plain text
        mended = _mend(path, "encoding='utf-16'")
        raise TrainingError(f"{path} is in UTF-16 instead of UTF-8; {mended}.")
    if zeros:
        raise TrainingError(f"{path} holds zero bytes, so it is damaged or no CSV file.")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                byte = line[error.start]
                mended = _mend(path, "encoding='cp1252'")
                raise TrainingError(
                    f"{path} is not in UTF-8: line {number} holds the byte 0x{byte:02x}, as "
                    f"Windows-1252 or Latin-1 have it ({bytes([byte]).decode('latin-1')!r}); "
                    f"{mended}."
                ) from error


def _check_end(path: Path, columns: int) -> None:
    """A file that was cut off ends within a row."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _HEAD, 0))
        last = re.split(r"[\r\n]", file.read().decode("utf-8", "replace"))[-1]
    if last and '"' not in last and len(next(csv.reader([last]))) < columns:
        raise TrainingError(
            f"{path} is cut off: its last line has fewer than {columns} columns and no end."
        )


def _first_rows(head: bytes) -> list[list[str]]:
    lines = head.decode("utf-8-sig", "replace").splitlines()
    whole = lines[:-1] if len(head) == _HEAD else lines
    try:
        return list(csv.reader(whole[: _ROWS + 1]))
    except csv.Error:
        return []


def _begins_blank(row: list[str]) -> bool:
    """Whether all of a row's cells but the first begin with a blank."""
    cells = [cell for cell in row[1:] if cell]
    return bool(cells) and all(cell[0] == " " for cell in cells)


def _mend(path: Path, option: str) -> str:
    return f"pandas.read_csv({path.name!r}, {option}).to_csv({path.name!r}, index=False) repairs it"
