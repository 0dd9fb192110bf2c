"""
The normal distribution in elementary operators of float64, a type that `Erf` does not take.

The rational approximations are those of the Cephes library (Stephen L. Moshier, 1989 and 1992:
`ndtri.c` and `ndtr.c`). scipy computes with the same ones.
"""

from __future__ import annotations

import numpy as np

from training.export.converters.numbers.scale import clip
from training.export.graph import Graph

__all__ = ["normal_cdf", "normal_quantile"]

# Numerators and denominators, the highest power first.
_QUANTILE_CENTRE = (
    (
        "-5.99633501014107895267e1 9.80010754185999661536e1 -5.66762857469070293439e1 "
        "1.39312609387279679503e1 -1.23916583867381258016"
    ),
    (
        "1 1.95448858338141759834 4.67627912898881538453 8.63602421390890590575e1 "
        "-2.25462687854119370527e2 2.00260212380060660359e2 -8.20372256168333339912e1 "
        "1.59056225126211695515e1 -1.18331621121330003142"
    ),
)
_QUANTILE_TAIL = (
    (
        "4.05544892305962419923 3.15251094599893866154e1 5.71628192246421288162e1 "
        "4.40805073893200834700e1 1.46849561928858024014e1 2.18663306850790267539 "
        "-1.40256079171354495875e-1 -3.50424626827848203418e-2 -8.57456785154685413611e-4"
    ),
    (
        "1 1.57799883256466749731e1 4.53907635128879210584e1 4.13172038254672030440e1 "
        "1.50425385692907503408e1 2.50464946208309415979 -1.42182922854787788574e-1 "
        "-3.80806407691578277194e-2 -9.33259480895457427372e-4"
    ),
)
_ERF = (
    (
        "9.60497373987051638749 9.00260197203842689217e1 2.23200534594684319226e3 "
        "7.00332514112805075473e3 5.55923013010394962768e4"
    ),
    (
        "1 3.35617141647503099647e1 5.21357949780152679795e2 4.59432382970980127987e3 "
        "2.26290000613890934246e4 4.92673942608635921086e4"
    ),
)
_ERFC = (
    (
        "2.46196981473530512524e-10 5.64189564831068821977e-1 7.46321056442269912687 "
        "4.86371970985681366614e1 1.96520832956077098242e2 5.26445194995477358631e2 "
        "9.34528527171957607540e2 1.02755188689515710272e3 5.57535335369399327526e2"
    ),
    (
        "1 1.32281951154744992508e1 8.67072140885989742329e1 3.54937778887819891062e2 "
        "9.75708501743205489753e2 1.82390916687909736289e3 2.24633760818710981792e3 "
        "1.65666309194161350182e3 5.57535340817727675546e2"
    ),
)


def normal_quantile(graph: Graph, chance: str) -> str:
    """Write `scipy.stats.norm.ppf`, shape (rows, columns); chances from 2e-14 to 1 - 2e-14."""
    half, one = graph.constant(0.5), graph.constant(1.0)
    apart = graph.node("Sub", chance, half)
    square = graph.node("Mul", apart, apart)
    share = graph.node("Mul", square, _ratio(graph, square, _QUANTILE_CENTRE))
    centre = graph.node("Add", apart, graph.node("Mul", apart, share))
    centre = graph.node("Mul", centre, np.sqrt(2 * np.pi))
    least = graph.node("Min", chance, graph.node("Sub", one, chance))
    size = graph.node("Mul", graph.node("Log", least), -2.0)
    size = graph.node("Sqrt", size)
    part = graph.node("Reciprocal", size)
    less = graph.node("Add", graph.node("Log", size), _ratio(graph, part, _QUANTILE_TAIL))
    tail = graph.node("Sub", size, graph.node("Mul", part, less))
    tail = graph.node("Mul", graph.node("Sign", apart), tail)
    return graph.node("Where", graph.node("Greater", least, np.exp(-2.0)), centre, tail)


def normal_cdf(graph: Graph, value: str) -> str:
    """Write `scipy.stats.norm.cdf`, shape (rows, columns); numbers beyond 11 count as 11."""
    half, one = graph.constant(0.5), graph.constant(1.0)
    number = clip(graph, graph.node("Mul", value, np.sqrt(0.5)), -8.0, 8.0)
    size, square = graph.node("Abs", number), graph.node("Mul", number, number)
    centre = graph.node("Mul", number, _ratio(graph, square, _ERF))
    centre = graph.node("Add", half, graph.node("Mul", half, centre))
    density = graph.node("Mul", half, graph.node("Exp", graph.node("Neg", square)))
    tail = graph.node("Mul", density, _ratio(graph, size, _ERFC))
    positive = graph.node("Greater", number, 0.0)
    tail = graph.node("Where", positive, graph.node("Sub", one, tail), tail)
    return graph.node("Where", graph.node("Less", size, one), centre, tail)


def _ratio(graph: Graph, value: str, polynomials: tuple[str, str]) -> str:
    """Write the first polynomial divided by the second, at *value*, shape (rows, columns)."""
    above, below = (np.array(text.split(), np.float64) for text in polynomials)
    both = np.transpose([np.pad(above, (len(below) - len(above), 0)), below])
    wide = graph.node("Unsqueeze", value, graph.integers(2))
    powers = graph.node("Pow", wide, np.arange(len(both))[::-1])
    sums = graph.node("MatMul", powers, both)
    first, second = (
        graph.node("Gather", sums, graph.constant(i, np.int64), axis=2) for i in (0, 1)
    )
    return graph.node("Div", first, second)
