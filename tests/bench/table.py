"""The printed table: our figure, a peer's, and the bound on their ratio."""

from __future__ import annotations

from typing import Final

from rich.table import Table

__all__ = ["Figures"]

_SCALES: Final = {"ms": 1e3, "µs": 1e6, "MB": 1e-6, "/s": 1.0}


class Figures:
    """Rows of figures, all from one run."""

    def __init__(self) -> None:
        self.table = Table("figure", "Canoa", "peer", "ratio", "bound", "", title="in this run")

    def compare(
        self, figure: str, ours: float, peer: tuple[str, float], bound: float, *, unit: str
    ) -> None:
        """
        Add a row.

        Args:
            figure: The name of the figure.
            ours: In seconds, bytes or per second.
            peer: The peer's name and figure, or a fixed bound's name and value.
            bound: The largest allowed ratio; if negative, the smallest allowed one, negated.
            unit: ms, µs, MB or /s.
        """
        name, value = peer
        ratio = ours / value
        met = ratio >= -bound if bound < 0 else ratio <= bound
        sign = "≥" if bound < 0 else "≤"
        scale = _SCALES[unit]
        self.table.add_row(
            figure,
            f"{ours * scale:,.2f} {unit}",
            f"{value * scale:,.2f} {unit} ({name})",
            f"{ratio:.3f}",
            f"{sign} {abs(bound):.3f}",
            "met" if met else "missed",
        )

    def tell(self, figure: str, ours: str, peer: str) -> None:
        """Add a row without a bound."""
        self.table.add_row(figure, ours, peer, "", "", "")
