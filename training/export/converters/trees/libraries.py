"""XGBoost, LightGBM and CatBoost, from what each library says of its own trees."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from training.export.converters.encode import category_of
from training.export.converters.linear import chances
from training.export.converters.registry import converts
from training.export.converters.trees.boosting import Ways, boosted_sums
from training.export.converters.trees.ensemble import Tree, from_float32, tree_sums
from training.export.graph import CannotCompileError, Graph, Table

# LightGBM compares and sums float64.


@converts("values", "lightgbm.sklearn.LGBMRegressor")
def _light_regressor(graph: Graph, model: Any, table: Table) -> str:
    dump, raw = _light(graph, model, table)
    objective = dump["objective"].split()
    if objective[0] in ("poisson", "gamma", "tweedie"):
        return graph.node("Exp", raw)
    if objective[0] not in ("regression", "regression_l1", "huber", "fair", "quantile", "mape"):
        raise CannotCompileError(f"the objective {objective[0]!r} has no converter")
    if "sqrt" in objective:
        size = graph.node("Mul", raw, raw)
        return graph.node("Mul", graph.node("Sign", raw), size)
    return raw


@converts("probabilities", "lightgbm.sklearn.LGBMClassifier")
def _light_classifier(graph: Graph, model: Any, table: Table) -> str:
    dump, raw = _light(graph, model, table)
    objective = dump["objective"].split()
    if objective[0] == "binary":
        steep = float(objective[1].partition(":")[2])
        raw = raw if steep == 1 else graph.node("Mul", raw, steep)
    elif objective[0] != "multiclass":
        raise CannotCompileError(f"the objective {objective[0]!r} has no converter")
    return chances(graph, raw, model)


def _light(graph: Graph, model: Any, table: Table) -> tuple[dict[str, Any], str]:
    best = model.best_iteration_ or None
    dump = model.booster_.dump_model(num_iteration=best)
    named = dump["pandas_categorical"] or []
    texts = [j for j, column in enumerate(table) if column.text]
    if len(named) != len(texts):
        raise CannotCompileError(
            "its categorical columns are not those of dtype 'category': give it that dtype"
        )
    categories = {
        j: [category_of(value, table[j]) for value in values]
        for j, values in zip(texts, named, strict=True)
    }
    ways, targets = Ways(), int(dump["num_tree_per_iteration"])
    trees = [
        _light_tree(tree["tree_structure"], ways, categories, i % targets)
        for i, tree in enumerate(dump["tree_info"])
    ]
    raw = boosted_sums(graph, trees, ways, list(table), categories, targets=targets, base=0.0)
    if dump["average_output"]:
        raw = graph.node("Div", raw, float(len(trees) // targets))
    return dump, raw


def _light_tree(
    root: dict[str, Any], ways: Ways, categories: dict[int, list[Any]], target: int
) -> Tree:
    nodes: list[dict[str, Any]] = [root]
    rows: list[tuple[int, int, int, float, bool, float]] = []
    for node in nodes:  # grows as it is read
        if "leaf_value" in node:
            rows.append((-1, -1, 0, 0.0, False, node["leaf_value"]))
            continue
        feature, threshold = int(node["split_feature"]), node["threshold"]
        missing_left = bool(node["default_left"])
        if node["decision_type"] == "==":
            left = np.zeros(len(categories.get(feature, [])), bool)
            left[[code for code in map(int, threshold.split("||")) if code < len(left)]] = True
            threshold, feature = feature, ways.add(feature, ~left, missing_right=True)
        elif node["missing_type"] == "None":
            missing_left = float(threshold) >= 0  # it treats a missing number as 0
        elif node["missing_type"] != "NaN":
            raise CannotCompileError(
                "zero_as_missing=True has no converter: leave gaps for what is missing"
            )
        rows.append((len(nodes), len(nodes) + 1, feature, float(threshold), missing_left, 0.0))
        nodes += [node["left_child"], node["right_child"]]
    left, right, features, thresholds, missing, weights = map(np.array, zip(*rows, strict=True))
    return Tree(left, right, features, thresholds, missing, weights, target)


# XGBoost compares and sums float32.


@converts("values", "xgboost.sklearn.XGBRegressor", "xgboost.sklearn.XGBRFRegressor")
def _extreme_regressor(graph: Graph, model: Any, table: Table) -> str:
    objective, raw = _extreme(graph, model, table)
    if objective in ("count:poisson", "reg:gamma", "reg:tweedie"):
        return graph.node("Exp", raw)
    if objective == "reg:logistic":
        return graph.node("Sigmoid", raw)
    identity = ("absoluteerror", "pseudohubererror", "quantileerror", "squarederror")
    if objective.removeprefix("reg:") not in (*identity, "squaredlogerror"):
        raise CannotCompileError(f"the objective {objective!r} has no converter")
    return raw


@converts("probabilities", "xgboost.sklearn.XGBClassifier", "xgboost.sklearn.XGBRFClassifier")
def _extreme_classifier(graph: Graph, model: Any, table: Table) -> str:
    objective, raw = _extreme(graph, model, table)
    if objective not in ("binary:logistic", "multi:softprob", "multi:softmax"):
        raise CannotCompileError(f"the objective {objective!r} has no converter")
    return chances(graph, raw, model)


def _extreme(graph: Graph, model: Any, table: Table) -> tuple[str, str]:
    booster = model.get_booster()
    learner = json.loads(booster.save_raw("json").decode())["learner"]
    if learner["gradient_booster"]["name"] != "gbtree":
        raise CannotCompileError("only booster='gbtree' has a converter")
    found = learner["gradient_booster"]["model"]
    targets = max(1, int(learner["learner_model_param"]["num_class"]))
    trees, groups = found["trees"], found["tree_info"]
    best = getattr(model, "best_iteration", None) if model.early_stopping_rounds else None
    if best is not None:
        used = found["iteration_indptr"][best + 1]
        trees, groups = trees[:used], groups[:used]
    read = [_extreme_tree(tree, group) for tree, group in zip(trees, groups, strict=True)]
    # What the sums start from is what is left of one answer without the trees.
    row = np.zeros((1, model.n_features_in_))
    margin = np.ravel(model.predict(row, output_margin=True)).astype(np.float64)
    added = np.zeros(targets)
    for tree in read:
        added[tree.target] += _follow(tree, row[0])
    value = graph.finite(table, gaps=True, float32=True)
    graph.inexact.append(type(model).__name__)
    return learner["objective"]["name"], tree_sums(graph, value, read, targets, base=margin - added)


def _extreme_tree(tree: dict[str, Any], target: int) -> Tree:
    if any(tree["split_type"]):
        raise CannotCompileError(
            "its splits by categories have no converter: encode them, or use LightGBM's"
        )
    left = np.array(tree["left_children"], np.int64)
    conditions = np.array(tree["split_conditions"], np.float32)
    # It goes left below the condition; of float32, that is at most the number before it.
    below = np.nextafter(conditions, np.float32(-np.inf)).astype(np.float64)
    return Tree(
        left,
        np.array(tree["right_children"], np.int64),
        np.array(tree["split_indices"], np.int64),
        from_float32(below),
        np.array(tree["default_left"], bool),
        conditions.astype(np.float64),
        target,
    )


def _follow(tree: Tree, row: Any) -> float:
    node = 0
    while tree.left[node] != -1:
        goes_left = row[tree.feature[node]] <= tree.threshold[node]
        node = int(tree.left[node] if goes_left else tree.right[node])
    return float(tree.weight[node])


# CatBoost compares float32 and sums float64.


@converts("values", "catboost.core.CatBoostRegressor")
def _cat_regressor(graph: Graph, model: Any, table: Table) -> str:
    raw, _ = _cat(graph, model, table)
    loss = str(model.get_all_params()["loss_function"]).partition(":")[0]
    if loss in ("Poisson", "Tweedie"):
        return graph.node("Exp", raw)
    if loss not in ("RMSE", "MAE", "Quantile", "MAPE", "Huber", "LogCosh"):
        raise CannotCompileError(f"the loss {loss!r} has no converter")
    return raw


@converts("probabilities", "catboost.core.CatBoostClassifier")
def _cat_classifier(graph: Graph, model: Any, table: Table) -> str:
    raw, width = _cat(graph, model, table)
    loss = str(model.get_all_params()["loss_function"]).partition(":")[0]
    if loss not in ("Logloss", "CrossEntropy", "MultiClass") or width not in (
        1,
        len(model.classes_),
    ):
        raise CannotCompileError(f"the loss {loss!r} has no converter")
    return chances(graph, raw, model)


def _cat(graph: Graph, model: Any, table: Table) -> tuple[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.json")
        model.save_model(str(file), format="json")
        dump = json.loads(file.read_text(encoding="utf-8"))
    features = dump["features_info"]
    if set(features) - {"float_features"} or "oblivious_trees" not in dump:
        raise CannotCompileError(
            "only its symmetric trees over numbers have a converter: encode categories before it"
        )
    scale, bias = dump["scale_and_bias"]
    floats = features["float_features"]
    places = [feature["flat_feature_index"] for feature in floats]
    gaps_right = [feature["nan_value_treatment"] == "AsTrue" for feature in floats]
    trees = []
    for tree in dump["oblivious_trees"]:
        leaves = np.array(tree["leaf_values"]).reshape(2 ** len(tree["splits"] or ()), -1)
        for target in range(leaves.shape[1]):
            weights = leaves[:, target] * scale
            trees.append(_cat_tree(tree["splits"] or (), weights, places, gaps_right, target))
    width = leaves.shape[1]
    value = graph.finite(table, gaps=True, float32=True)
    return tree_sums(graph, value, trees, width, base=np.ravel(bias)), width


def _cat_tree(
    splits: Any, leaves: Any, places: list[int], gaps_right: list[bool], target: int
) -> Tree:
    """Convert a tree with one split per level to a tree with one split per node."""
    depth = len(splits)
    count = 2**depth - 1
    feature, missing = np.zeros(2 * count + 1, np.int64), np.zeros(2 * count + 1, bool)
    border, weight = np.zeros(2 * count + 1), np.zeros(2 * count + 1)
    left, right = np.full(2 * count + 1, -1), np.full(2 * count + 1, -1)
    for node in range(count):
        level = int(np.log2(node + 1))
        split = splits[depth - 1 - level]  # the last split is the leaf's highest bit
        place = split["float_feature_index"]
        feature[node], missing[node] = places[place], not gaps_right[place]
        border[node] = split["border"]
        left[node], right[node] = 2 * node + 1, 2 * node + 2
    weight[count:] = leaves
    border[:count] = from_float32(border[:count])
    return Tree(left, right, feature, border, missing, weight, target)
