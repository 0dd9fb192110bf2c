"""`python -m tests.census` takes the census and writes its table into docs/models.md."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.census.shapes import SHAPES
from tests.census.take import Entry, take
from tests.helpers.servers import ROOT

START, END = "<!-- census -->", "<!-- end of the census -->"
HEADINGS = (
    "kind | shape | engine | computes in | largest difference | other labels | ms a row "
    "| scikit-learn's ms"
)


def main() -> None:
    """Print the table, and put it between the marks of docs/models.md."""
    entries = []
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            entries.append(take(shape, Path(folder, "model")))
        sys.stderr.write(f"{shape.kind}: {shape.name}: {entries[-1].engine}\n")
    table = _table(entries)
    sys.stdout.write(f"{table}\n")
    page = ROOT / "docs" / "models.md"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if start and end:
        page.write_text(f"{before}{START}\n{table}\n{END}{after}", encoding="utf-8")


def _table(entries: list[Entry]) -> str:
    graphs = sum(entry.engine == "onnx" for entry in entries)
    lines = [
        f"{graphs} of {len(entries)} shapes are served from the graph.\n",
        f"| {HEADINGS} |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for e in entries:
        engine = {"onnx": "graph", "sklearn": "scikit-learn"}[e.engine]
        precision = e.precision if e.engine == "onnx" else "its own"
        if precision not in ("float64", "its own"):
            precision = f"float32 in {precision}"
        lines.append(
            f"| {e.kind} | {e.name} | {engine} | {precision} | {e.difference:.1g} "
            f"| {e.wrong} | {e.served:.3f} | {e.pipeline:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
