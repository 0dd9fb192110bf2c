"""Audits a graph before onnxruntime opens it: only plain arithmetic on tables passes.

Anyone who can write to the model store can write a graph, and operators are code: one may loop for
ever, another may read a file. So only the operators that skl2onnx writes are allowed.
Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from serving.errors import BundleError
from serving.model.audit.integers import INTEGER_TYPES, Given, Integers
from serving.model.audit.protobuf import Reader, WireError, varints
from serving.model.audit.trees import TREES, TreesError, check_depth

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["OPERATORS", "audit_graph"]

MAX_NODES = 20_000
#: TensorProto.DataType.
_INT64 = 7

_STANDARD = """
    Abs Add And ArgMax ArgMin Cast CastLike Celu Clip Compress Concat Constant ConstantOfShape
    Cos Cosh CumSum Div Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements
    GatherND Gemm Greater GreaterOrEqual Identity IsInf IsNaN Less LessOrEqual Log LogSoftmax
    LpNormalization MatMul Max Mean Min Mod Mul Neg NonZero Not Or Pow Range Reciprocal ReduceL1
    ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Round Scan ScatterElements ScatterND Shape Sigmoid Sign Sin Sinh
    Size Slice Softmax Split Sqrt Squeeze Sub Sum Tanh TfIdfVectorizer Tile TopK Transpose Trilu
    Unsqueeze Where Xor
"""
_MACHINE_LEARNING = """
    ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer
    Imputer LabelEncoder LinearClassifier LinearRegressor Normalizer OneHotEncoder SVMClassifier
    SVMRegressor Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor ZipMap
"""
#: By domain.
OPERATORS = {"": frozenset(_STANDARD.split()), "ai.onnx.ml": frozenset(_MACHINE_LEARNING.split())}


def audit_graph(graph: bytes) -> None:
    """
    Check that *graph*, an ONNX model, is plain arithmetic.

    Raises:
        BundleError: It is not, or it is not an ONNX model. The sentence says what was found.
    """
    try:
        _Check(graph).model()
    except WireError as error:
        raise BundleError(f"the graph cannot be read: {error}.") from error


class _Attribute:
    """The audited parts of a node's attribute: numbers, which strings are LEAF, graphs."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.tensor_types: list[int | None] = []
        self.numbers: list[npt.NDArray[np.int64]] = []
        self.leaves: list[bool] = []
        self.graphs: list[slice] = []

    def given(self, name: str) -> Given:
        """Return what the attribute *name* says about types."""
        whole = bool(self.numbers) or any(kind in INTEGER_TYPES for kind in self.tensor_types)
        return Given(self.number, whole or (name == "value_int" and self.number is not None))


_Attributes = dict[str, _Attribute]


class _Check:
    """One walk over a model. Each method reads the message that it is named after."""

    def __init__(self, graph: bytes) -> None:
        self._data = graph
        self._reader = Reader(graph)
        self._nodes = 0
        self._whole = Integers()

    def model(self) -> None:
        for number, value in self._reader.fields(slice(0, len(self._data))):
            if number == 7:
                self._graph(_part(value), within_scan=False)
            elif number == 20:
                _refuse("holds training information")
            elif number == 25:
                _refuse("defines functions of its own")

    def _graph(self, part: slice, *, within_scan: bool) -> list[int | None]:
        """Audit a graph; return the declared types of its outputs."""
        nodes, outputs = [], []
        for number, value in self._reader.fields(part):
            if number == 1:
                nodes.append(_part(value))
            elif number == 5:
                name, data_type = self._tensor(_part(value))
                if data_type == _INT64 and self._is_divisor(_part(value)):
                    self._whole.add_divisor(name, data_type)
                else:
                    self._whole.add(name, data_type)
            elif number == 11:
                self._whole.add(*self._value(_part(value)))
            elif number == 12:
                outputs.append(self._value(_part(value))[1])
            elif number == 15:
                _refuse("holds a sparse tensor")
        for node in nodes:
            self._node(node, within_scan=within_scan)
        return outputs

    def _node(self, part: slice, *, within_scan: bool) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            _refuse(f"has more than {MAX_NODES} nodes")
        operator = domain = None
        attributes: _Attributes = {}
        names: dict[int, list[str]] = {1: [], 2: []}
        for number, value in self._reader.fields(part):
            if number in names:
                names[number].append(self._text(value))
            elif number == 4:
                operator = self._only(operator, value)
            elif number == 7:
                domain = self._only(domain, value)
            elif number == 5:
                name, attribute = self._attribute(_part(value))
                if name in attributes:
                    _refuse(f"has {name!r} twice in one node")
                attributes[name] = attribute
        if operator is None or operator not in OPERATORS.get(domain or "", ()):
            _refuse(f"has the operator {'.'.join(filter(None, (domain, operator)))!r}")
        given = {name: attribute.given(name) for name, attribute in attributes.items()}
        if self._whole.divides(operator, given, names[1], names[2]):
            _refuse(f"has {operator} of integers")
        kinds = self._inner_graphs(operator, attributes, within_scan=within_scan)
        for name, kind in product(names[2], kinds):
            self._whole.add(name, kind)
        if operator in TREES:
            self._trees(operator, attributes)
        if operator == "TfIdfVectorizer":
            _terms(attributes)

    def _trees(self, operator: str, attributes: _Attributes) -> None:
        numbers = {name: attribute.numbers for name, attribute in attributes.items()}
        modes = attributes.get("nodes_modes", _Attribute())
        try:
            check_depth(operator, numbers, modes.leaves)
        except TreesError as error:
            _refuse(f"has trees that {error}")

    def _inner_graphs(
        self, operator: str, attributes: _Attributes, *, within_scan: bool
    ) -> list[int | None]:
        """Audit the graphs that a Scan repeats; return the types of their outputs."""
        kinds = []
        for graph in [graph for attribute in attributes.values() for graph in attribute.graphs]:
            if operator != "Scan" or within_scan:
                _refuse(f"has a graph within {operator}")
            kinds += self._graph(graph, within_scan=True)
        return kinds

    def _attribute(self, part: slice) -> tuple[str, _Attribute]:
        name, found = None, _Attribute()
        for number, value in self._reader.fields(part, runs=True):
            if number == 1:
                name = self._only(name, value)
            elif number == 3:
                found.number = value if isinstance(value, int) else None
            elif number in (5, 10):
                found.tensor_types.append(self._tensor(_part(value))[1])
            elif number in (6, 11):
                found.graphs.append(_part(value))
            elif number == 8:
                found.numbers.append(self._numbers(value))
            elif number == 9:
                found.leaves.append(self._data[_part(value)] == b"LEAF")
            elif number in (22, 23):
                _refuse("holds a sparse tensor")
        return name or "", found

    def _tensor(self, part: slice) -> tuple[str, int | None]:
        name, data_type = "", None
        for number, value in self._reader.fields(part):
            if number == 13 or (number == 14 and value != 0):
                _refuse("has a tensor in another file")
            elif number == 2:
                data_type = value if isinstance(value, int) else None
            elif number == 8:
                name = self._text(value)
        return name, data_type

    def _is_divisor(self, part: slice) -> bool:
        """Whether a tensor of int64 has values, in one field, and none of them is 0 or -1."""
        found = [
            self._numbers(value) if number == 7 else self._raw_numbers(value)
            for number, value in self._reader.fields(part, runs=True)
            if number in (7, 9)
        ]
        return len(found) == 1 and not np.isin(found[0], (0, -1)).any() and found[0].size > 0

    def _value(self, part: slice) -> tuple[str, int | None]:
        """Return an input's name and, if it is a tensor, its type."""
        name, data_type = "", None
        for number, value in self._reader.fields(part):
            if number == 1:
                name = self._text(value)
            elif number == 2:
                for kind, tensor in self._reader.fields(_part(value)):
                    for field, said in self._reader.fields(_part(tensor)) if kind == 1 else ():
                        if field == 1:
                            data_type = said if isinstance(said, int) else None
        return name, data_type

    def _text(self, value: Any) -> str:
        return self._data[_part(value)].decode("utf-8", "replace")

    def _numbers(self, value: Any) -> npt.NDArray[np.int64]:
        if isinstance(value, slice):
            return varints(self._data[value])
        if isinstance(value, int):
            return np.array([value], np.uint64).view(np.int64)
        if value is None:
            raise WireError("it has a floating-point number in place of an integer")
        return value  # type: ignore[no-any-return]  # the array that `fields` yields of a run

    def _raw_numbers(self, value: Any) -> npt.NDArray[np.int64]:
        raw = self._data[_part(value)]
        if len(raw) % 8:
            raise WireError("it has a tensor that is cut short")
        return np.frombuffer(raw, "<i8")

    def _only(self, before: str | None, value: Any) -> str:
        """Read a text that may appear once. Readers differ on which of two counts."""
        if before is not None:
            _refuse(f"says {before!r} and something else in one place")
        return self._text(value)[:100]


def _terms(attributes: _Attributes) -> None:
    """Check that a count of terms has exactly one column for each term."""
    places = attributes.get("ngram_indexes", _Attribute()).numbers
    count = len(attributes.get("pool_strings", _Attribute()).leaves)
    if sorted(np.concatenate([np.empty(0, np.int64), *places]).tolist()) != [*range(count)]:
        _refuse("counts terms that it does not name")


def _part(value: Any) -> slice:
    if not isinstance(value, slice):
        raise WireError("it has a number where a message belongs")
    return value


def _refuse(what: str) -> NoReturn:
    raise BundleError(f"the graph {what}, which is not served.")
