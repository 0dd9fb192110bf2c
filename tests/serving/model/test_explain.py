"""Explanations add up to the answer, agree with shap, and are rejected where none can be made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
import requests
from serving.adapters.aws_events import read_event
from serving.bundle.manifest import BACKGROUND_FILE
from serving.bundle.reader import open_bundle
from serving.bundle.trust import Trust
from serving.errors import InvalidQuery, NotExplainable, TooLarge
from serving.model.explain import BACKGROUND_ROWS, Explainer, read_question
from serving.model.model import Model, open_model
from serving.stores.folder import FolderStore
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, SplineTransformer, StandardScaler
from sklearn.svm import LinearSVC
from werkzeug.test import EnvironBuilder

from tests.helpers.bundles import copied
from tests.helpers.example import ROW, assert_problem
from tests.helpers.platforms import Platform, direct
from tests.helpers.servers import serving
from training.export.build import build_bundle

RANDOM = np.random.default_rng(0)
DATA = pd.DataFrame(RANDOM.normal(size=(400, 5)).round(3), columns=list("abcde"))
VALUE = (3 * DATA["a"] - DATA["b"] + DATA["c"] * DATA["d"]).to_numpy()
LABEL = np.where(np.median(VALUE) < VALUE, "yes", "no")


def built(folder: Path, pipeline: Any, data: Any = DATA) -> tuple[Model, Explainer]:
    """Build a pipeline's bundle, open it, and make its explainer."""
    path = build_bundle(folder / "model", "model", pipeline, data)
    trust = Trust(allow_pickle=True)
    bundle = open_bundle(FolderStore(path.parent), trust=trust)
    model = open_model(bundle)
    return model, Explainer(model, bundle.read(BACKGROUND_FILE))


def explained(
    made: tuple[Model, Explainer], rows: pd.DataFrame, **parameters: str
) -> list[dict[str, Any]]:
    """Explain *rows*, with every feature listed unless *parameters* say otherwise."""
    model, explainer = made
    body = json.dumps({"instances": rows.to_dict("records")}).encode()
    question = read_question(model.manifest, {"top": "99", **parameters})
    return explainer.explain(model.schema.decode(body, 1000), question)


def contributions(explanation: dict[str, Any]) -> dict[str, float]:
    """Return the contributions by feature."""
    return {reason["feature"]: reason["contribution"] for reason in explanation["reasons"]}


def test_contributions_of_a_forest_agree_with_shap(tmp_path: Path) -> None:
    """Compared with shap's exact values, errors are below 0.02; 19 of 20 top features agree."""
    shap = pytest.importorskip("shap", reason="shap is in tests/requirements.txt")
    forest = RandomForestClassifier(60, max_depth=8, random_state=0).fit(DATA, LABEL)
    made = built(tmp_path, forest)
    path = next((tmp_path / "model").glob(f"*/{BACKGROUND_FILE}"))
    background = np.array(msgspec.json.decode(path.read_bytes())["instances"])
    exact = shap.TreeExplainer(forest, background, feature_perturbation="interventional")
    wanted = np.asarray(exact.shap_values(DATA[:20].to_numpy(), check_additivity=False))[:, :, 1]

    found = explained(made, DATA[:20], output="yes")

    values = np.array([[contributions(one)[name] for name in "abcde"] for one in found])
    assert np.abs(values - wanted).max() < 0.02
    first = [one["reasons"][0]["feature"] for one in found]
    best = [DATA.columns[i] for i in np.abs(wanted).argmax(axis=1)]
    assert sum(a == b for a, b in zip(first, best, strict=True)) >= 19
    assert [one["base"] for one in found] == pytest.approx([found[0]["base"]] * 20)


def test_contributions_of_a_linear_model_are_exact(tmp_path: Path) -> None:
    """Each contribution is the coefficient times the distance from the background's mean."""
    line = LinearRegression().fit(DATA, VALUE)
    made = built(tmp_path, line)
    path = next((tmp_path / "model").glob(f"*/{BACKGROUND_FILE}"))
    mean = np.mean(msgspec.json.decode(path.read_bytes())["instances"], axis=0)

    for i, one in enumerate(explained(made, DATA[:10])):
        assert "output" not in one
        wanted = line.coef_ * (DATA.iloc[i].to_numpy() - mean)
        assert contributions(one) == pytest.approx(dict(zip("abcde", wanted, strict=True)), 1e-9)


def test_the_reasons_of_an_additive_pipeline_are_exact(tmp_path: Path) -> None:
    """Gaps, splines and categories too: each is its own step's mean change, to 1e-9."""
    data = DATA.assign(town=np.where(DATA["e"] > 0, "Lima", "Ica"))
    data.loc[::7, "a"] = None
    columns = ColumnTransformer(
        [
            ("gaps", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["a"]),
            ("curves", SplineTransformer(), ["b", "c"]),
            ("town", OneHotEncoder(), ["town"]),
        ]
    )
    made = built(tmp_path, make_pipeline(columns, Ridge()).fit(data, VALUE), data)
    model = made[0]
    path = next((tmp_path / "model").glob(f"*/{BACKGROUND_FILE}"))
    names = [feature.name for feature in model.manifest.features]
    background = pd.DataFrame(msgspec.json.decode(path.read_bytes())["instances"], columns=names)

    def values(rows: pd.DataFrame) -> Any:
        body = json.dumps({"instances": json.loads(rows.to_json(orient="records"))}).encode()
        return np.array([a["value"] for a in model.predict(model.schema.decode(body, 999).columns)])

    row = data[names].iloc[[3] * len(background)].reset_index(drop=True)
    wanted = {
        name: np.mean(values(row) - values(row.assign(**{name: background[name]})))
        for name in names
    }
    assert contributions(explained(made, data[names].iloc[[3]])[0]) == pytest.approx(
        wanted, rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize(
    ("pipeline", "parameters"),
    [
        (RandomForestClassifier(20, random_state=0), {}),
        (RandomForestClassifier(20, random_state=0), {"output": "no"}),
        (RandomForestRegressor(20, random_state=0), {}),
        (make_pipeline(StandardScaler(), LogisticRegression()), {"top": "2"}),
        (IsolationForest(n_estimators=20, random_state=0), {}),
        (MultiOutputClassifier(LogisticRegression()), {}),
        (MultiOutputClassifier(LogisticRegression()), {"target": "y1", "output": "1"}),
        (
            make_pipeline(
                ColumnTransformer([("all", "passthrough", list(DATA))]),
                RandomForestRegressor(5, criterion="absolute_error", random_state=0),
            ),
            {"top": "1"},
        ),
    ],
)
def test_contributions_add_up_to_the_answer(
    tmp_path: Path, pipeline: Any, parameters: dict[str, str]
) -> None:
    """Base, contributions and others add up to the explained number, to 1e-9."""
    target: Any = LABEL if hasattr(pipeline, "classes_") else VALUE
    if isinstance(pipeline, RandomForestClassifier) or "logistic" in str(pipeline).lower():
        target = LABEL
    if isinstance(pipeline, MultiOutputClassifier):
        target = np.column_stack([VALUE > 0, DATA["e"] > 0]).astype(int)
    made = built(tmp_path, pipeline.fit(DATA, target))

    for one in explained(made, DATA[:5], **parameters):
        answer = one["prediction"]
        if "target" in one:
            assert one["target"] == parameters.get("target", "y0")
            answer = answer["outputs"][one["target"]]
        number = answer.get("value", answer.get("score"))
        if "probabilities" in answer:
            assert one["output"] == parameters.get("output", str(answer["label"]))
            number = answer["probabilities"][one["output"]]
        total = one["base"] + sum(contributions(one).values()) + one["others"]
        assert total == pytest.approx(number, rel=1e-9, abs=1e-12)
        sizes = [abs(value) for value in contributions(one).values()]
        assert sizes == sorted(sizes, reverse=True)
        assert len(sizes) == min(5, int(parameters.get("top", "99")))


def test_the_same_request_gets_the_same_explanation(credit: Path) -> None:
    """The sampling uses the manifest's seed, so two processes agree to the last bit."""
    answers = []
    for _ in range(2):
        with serving(credit, LOG_LEVEL="error") as server:
            answer = requests.post(f"{server}/v0/explain", json=ROW, timeout=10)
            answers.append(answer.json()["explanations"])

    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "pipeline", [LinearSVC(), KMeans(3, random_state=0, n_init=1)], ids=["labels", "clusters"]
)
def test_a_model_of_labels_alone_is_not_explained(tmp_path: Path, pipeline: Any) -> None:
    """A model without numbers has no background, and a request to explain it is rejected."""
    path = build_bundle(tmp_path, "model", pipeline.fit(DATA, LABEL), DATA)
    manifest = open_bundle(FolderStore(path)).manifest

    with pytest.raises(NotExplainable):
        read_question(manifest, {})
    assert BACKGROUND_FILE not in manifest.files


@pytest.mark.parametrize(
    "parameters",
    [
        {"top": "0"},
        {"top": "-1"},
        {"top": "x"},
        {"top": "²"},
        {"output": "none"},
        {"target": "y0"},
        {"more": "1"},
    ],
)
def test_invalid_parameters_are_rejected(credit: Path, parameters: dict[str, str]) -> None:
    """The error names the parameter."""
    manifest = open_bundle(FolderStore(credit)).manifest

    with pytest.raises(InvalidQuery, match=next(iter(parameters))):
        read_question(manifest, parameters)


@pytest.mark.parametrize("query", ["top=1&top=2", "output=good&output=bad", "top=1&top=1"])
def test_a_repeated_parameter_is_refused(credit: Path, query: str) -> None:
    """By its name, whether Werkzeug or one of Lambda's events brings it."""
    manifest = open_bundle(FolderStore(credit)).manifest
    lists = {query.partition("=")[0]: query.replace("&", "=").split("=")[1::2]}
    event = {"httpMethod": "POST", "path": "/", "multiValueQueryStringParameters": lists}
    balancer = read_event({**event, "requestContext": {"elb": {}}})
    http = {"http": {"method": "POST"}}
    gateway = read_event({"rawPath": "/", "rawQueryString": query, "requestContext": http})
    for args in (
        EnvironBuilder(query_string=query).get_request().args,
        balancer.request().args,
        gateway.request().args,
    ):
        with pytest.raises(InvalidQuery, match=rf"{next(iter(lists))} is given several times"):
            read_question(manifest, args)


@pytest.fixture
def send(credit: Path) -> Iterator[Platform]:
    """Call the functions in this process."""
    with direct(credit) as platform:
        yield platform


def test_rows_over_the_limit_are_413(send: Platform) -> None:
    """MAX_EXPLAINED is 10 by default; one more row gets 413."""
    body = json.dumps({"instances": [ROW] * 11}).encode()
    reply = send("explain", "POST", body, Content_Type="application/json")

    assert "at most 10" in assert_problem(reply, 413, "too-large")["detail"]


def test_all_instances_share_one_limit_of_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal instances are explained once, and more instances than the limit allows get 413."""
    made = built(tmp_path, LinearRegression().fit(DATA, VALUE))
    singles = [explained(made, DATA[n : n + 1])[0] for n in range(3)]
    scored: list[int] = []
    predict = made[0].predict

    def counted(columns: Any) -> Any:
        scored.append(sum(map(len, columns)))
        return predict(columns)

    monkeypatch.setattr(made[0], "predict", counted)
    cells = 3 * BACKGROUND_ROWS * 2 * len(DATA.columns) ** 2
    monkeypatch.setattr("serving.model.explain._MOST_CELLS", cells)

    assert explained(made, DATA.iloc[[0, 1, 2, 2, 1, 0]]) == [*singles, *singles[::-1]]
    assert sum(scored) <= cells
    with pytest.raises(TooLarge, match="at most 3 different instances"):
        explained(made, DATA[:4])


def test_an_error_in_the_body_is_named(send: Platform) -> None:
    """Explain rejects the same bodies as predict, with the same pointers."""
    body = json.dumps({"instances": [{**ROW, "age": "30"}]}).encode()
    problem = assert_problem(send("explain", "POST", body), 422, "invalid-instances")

    assert [error["pointer"] for error in problem["errors"]] == ["/instances/0/age"]


def test_without_a_background_the_answer_is_404(credit: Path, tmp_path: Path) -> None:
    """A bundle without background.json answers predict, and 404 for explain."""
    copied(credit, tmp_path / "credit")  # the graph only
    with direct(tmp_path / "credit") as send:
        body = json.dumps(ROW).encode()

        assert send("predict", "POST", body).status == 200
        problem = assert_problem(send("explain", "POST", body), 404, "not-found")
        assert "background" in problem["detail"]


def test_a_changed_background_is_rejected(credit: Path, tmp_path: Path) -> None:
    """A background whose digest differs from the manifest gives 503."""
    bundle = open_bundle(FolderStore(credit))
    files = {name: bundle.read(name) for name in ("model.onnx", BACKGROUND_FILE)}
    path = copied(credit, tmp_path / "credit", files=files) / BACKGROUND_FILE
    path.write_bytes(path.read_bytes().replace(b"no", b"on", 1))
    with direct(tmp_path / "credit") as send:
        reply = send("explain", "POST", json.dumps(ROW).encode())

        assert_problem(reply, 503, "model-unavailable")


def test_the_background_is_never_served(credit: Path, send: Platform) -> None:
    """No answer contains a row of the background."""
    rows = msgspec.json.decode(open_bundle(FolderStore(credit)).read(BACKGROUND_FILE))["instances"]
    names = list(ROW)
    answers = [send("model_info", "GET").body, send("openapi", "GET").body]
    answers.append(send("explain", "POST", json.dumps(ROW).encode()).body)

    for row in rows:
        written = json.dumps(dict(zip(names, row, strict=True)))[1:-1].replace(" ", "").encode()
        assert not any(written in answer.replace(b" ", b"") for answer in answers)
