"""Steps without our own converter: skl2onnx writes them, mostly in float32."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from onnx import ModelProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import is_classifier, is_outlier_detector, is_regressor

from training.export.graph import ML, CannotCompileError, Graph, Table

__all__ = ["convert"]

_OPSET = {"": 19, "ai.onnx.ml": 3}
_OLD_TREES = {"TreeEnsembleClassifier", "TreeEnsembleRegressor"}


def convert(method: str, graph: Graph, estimator: Any, table: Table) -> Any:
    """
    Write what *method* of a fitted step computes, through skl2onnx.

    Raises:
        CannotCompileError: skl2onnx has no converter either, or it takes text.
    """
    kind = type(estimator).__name__
    if any(column.text for column in table):
        raise CannotCompileError(
            "it is given text, and has no converter for it: encode the column in a step before it",
        )
    if method == "decision":
        raise CannotCompileError(
            f"the decision function of a {kind} has no converter: "
            + (
                "IsolationForest, OneClassSVM and EllipticEnvelope have"
                if is_outlier_detector(estimator)
                else "LogisticRegression and LinearSVC have"
            ),
        )
    value = graph.cast(graph.finite(table, gaps=True, float32=True), np.float32)
    options: dict[Any, Any] | None = None
    if method in ("probabilities", "label"):
        options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = convert_sklearn(
                estimator,
                "step",
                [("x", FloatTensorType([None, len(table)]))],
                options=options,
                target_opset=_OPSET,
            )
    except Exception as error:  # its converters raise any exception
        raise CannotCompileError(_advice(estimator)) from error
    outputs = _splice(graph, model, value, estimator)
    graph.inexact.append(kind)
    if method == "label":
        return _as_index(graph, outputs[0], estimator)
    found = graph.cast(outputs[-1] if method == "probabilities" else outputs[0])
    if method == "transform":
        return graph.computed(found, _width(estimator, table))
    return found


#: By the module of a step: steps of its kind that have a converter.
_ALIKE = {
    "cluster": "KMeans, MeanShift and Birch have",
    "cross_decomposition": "PLSRegression, Ridge and PCA have",
    "decomposition": "PCA and TruncatedSVD have",
    "impute": "SimpleImputer and IterativeImputer have",
    "kernel_approximation": "RBFSampler and Nystroem have",
    "manifold": "PCA and TruncatedSVD have",
    "neighbors": "KNeighborsClassifier and KNeighborsRegressor have",
    "preprocessing": "StandardScaler, PowerTransformer and SplineTransformer have",
}


def _advice(estimator: Any) -> str:
    """Write that there is no converter, and what would help."""
    package, _, rest = type(estimator).__module__.partition(".")
    alike = _ALIKE.get(rest.partition(".")[0]) if package == "sklearn" else None
    if alike is None and is_classifier(estimator):
        alike = "LogisticRegression, RandomForestClassifier and HistGradientBoostingClassifier have"
    elif alike is None and is_regressor(estimator):
        alike = "Ridge, RandomForestRegressor and HistGradientBoostingRegressor have"
    return f"it has no converter: {alike or 'do its work before the row is sent, or leave it out'}"


def _splice(graph: Graph, model: ModelProto, value: str, estimator: Any) -> list[str]:
    """Copy the nodes of *model* into *graph*, under names that are new there."""
    names = {"": "", model.graph.input[0].name: value}
    for tensor in model.graph.initializer:
        names[tensor.name] = graph.adopt(tensor)
    for node in model.graph.node:
        if node.op_type in _OLD_TREES:
            raise CannotCompileError(
                "its trees have no converter: a random forest or histogram boosting has"
            )
        if node.domain not in _OPSET:
            raise CannotCompileError(_advice(estimator))
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise CannotCompileError(_advice(estimator))
        copy = type(node)()
        copy.CopyFrom(node)
        copy.name = ""
        copy.input[:] = [names[name] for name in node.input]
        for name in node.output:
            names[name] = graph.name() if name else ""
        copy.output[:] = [names[name] for name in node.output]
        if copy.op_type == "StringNormalizer":
            others = [attribute for attribute in copy.attribute if attribute.name != "locale"]
            del copy.attribute[:]
            copy.attribute.extend([*others, helper.make_attribute("locale", "C")])
        graph.nodes.append(copy)
    return [names[output.name] for output in model.graph.output]


def _as_index(graph: Graph, label: str, estimator: Any) -> str:
    classes = estimator.classes_.tolist()
    places = list(range(len(classes)))
    keys: dict[str, Any]
    if all(isinstance(name, str) for name in classes):
        keys = {"keys_strings": classes, "default_int64": -1}
    else:
        keys = {"keys_int64s": [int(name) for name in classes], "default_int64": -1}
    return graph.node("LabelEncoder", label, domain=ML, values_int64s=places, **keys)


def _width(estimator: Any, table: Table) -> int:
    return int(np.shape(estimator.transform(np.zeros((1, len(table)))))[1])
