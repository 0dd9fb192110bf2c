"""Follows integers through a graph, to find integer divisions that may end the process.

onnxruntime divides integers as C does: by 0, or the least integer by -1, ends the process with a
signal. Constants and operators make integers, and operators pass them on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["INTEGER_TYPES", "Given", "Integers"]

#: TensorProto.DataType: int8 to int64 and uint8 to uint64.
INTEGER_TYPES = frozenset({2, 3, 4, 5, 6, 7, 12, 13})

_DIVISIONS = frozenset({"Div", "Mod"})
_MAKING = frozenset({"CastMap", "ArgMax", "ArgMin", "NonZero", "Shape", "Size"})
_CLASSIFIERS = frozenset({"LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"})
_OF_FRACTIONS = frozenset({"LinearRegressor", "SVMRegressor", "TreeEnsembleRegressor"})
#: Their outputs have the type of their attributes' values.
_BY_ATTRIBUTES = frozenset({"Constant", "ConstantOfShape", "LabelEncoder", "CategoryMapper"})
#: The index of the input whose type the output has, where that is not 0.
_LIKE = {"Where": 1, "CastLike": 1}


class Given(NamedTuple):
    """What an attribute says about types."""

    #: A single integer: for Cast and EyeLike, the type of the output.
    number: int | None
    #: Whether it holds integers, as a list or as a tensor.
    whole: bool


class Integers:
    """The names of values that may be integers."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._divisors: set[str] = set()
        self._seen: set[str] = set()

    def add(self, name: str, data_type: int | None) -> None:
        """Record a constant or an input. Without a type it may be an integer."""
        self._divisors.discard(name)
        self._seen.add(name)
        if data_type is None or data_type in INTEGER_TYPES:
            self._names.add(name)

    def add_divisor(self, name: str, data_type: int) -> None:
        """Record a constant that is safe to divide by, unless its name appears twice."""
        first = name not in self._seen
        self.add(name, data_type)
        if first:
            self._divisors.add(name)

    def divides(
        self,
        operator: str,
        attributes: Mapping[str, Given],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> bool:
        """Record a node, after all nodes before it; return whether it divides integers unsafely."""
        whole = [name in self._names for name in inputs]
        safe = self._divisors.issuperset(inputs[1:])
        self._divisors.difference_update(outputs)
        self._seen.update(outputs)
        self._names.update(outputs[1:] if operator == "TopK" else ())
        if operator in _CLASSIFIERS:
            self._names.update(outputs[:1])
        elif self._makes_whole(operator, attributes, whole):
            self._names.update(outputs)
        return operator in _DIVISIONS and any(whole) and not safe

    @staticmethod
    def _makes_whole(operator: str, attributes: Mapping[str, Given], whole: Sequence[bool]) -> bool:
        if operator in _MAKING:
            return True
        if operator in ("Cast", "EyeLike"):
            to = attributes.get("to") or attributes.get("dtype")
            return to is not None and to.number in INTEGER_TYPES
        if operator in _BY_ATTRIBUTES:
            made = (given for name, given in attributes.items() if not name.startswith("keys_"))
            return any(given.whole for given in made)
        if operator in _OF_FRACTIONS or operator == "TreeEnsemble":
            return False
        if operator in ("Concat", "Max", "Min", "Sum", "Mean"):
            return any(whole)
        place = _LIKE.get(operator, 0)
        return len(whole) > place and whole[place]
