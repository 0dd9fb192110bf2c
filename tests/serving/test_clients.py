"""Three generators make clients from /openapi.json, and the clients call a live server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.helpers.example import ROW
from tests.helpers.servers import ROOT, serving

pytestmark = pytest.mark.slow
MODULES = ROOT / "tests" / "node" / "node_modules"


@pytest.fixture(scope="module")
def server(credit: Path) -> Iterator[str]:
    """Serve the example."""
    with serving(credit, LOG_LEVEL="error") as running:
        yield str(running)


@pytest.fixture
def document(server: str, tmp_path: Path) -> Path:
    """Fetch the OpenAPI document."""
    path = tmp_path / "openapi.json"
    path.write_bytes(requests.get(f"{server}/openapi.json", timeout=10).content)
    return path


def run(*command: str, folder: Path, fails: bool = False) -> str:
    """Run a command in *folder*; return its output."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode != 0) == fails, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


PYTHON_CLIENT = """
import sys
from pyclient import Client
from pyclient.api.default import explain, model_info, predict
from pyclient.models import Instance, Instances, InstancesToExplain, Problem

client = Client(base_url=sys.argv[1])
row = Instance(**{row})
one = predict.sync(client=client, body=Instances(instances=[row]))
many = predict.sync(client=client, body=Instances(instances=[row] * 3))
print(one.predictions[0].label, len(many.predictions), many.predictions[2].probability)
row.age = "31"
wrong = predict.sync(client=client, body=Instances(instances=[row]))
assert isinstance(wrong, Problem)
print(wrong.status, wrong.errors[0].pointer)
row.age = 31
reasons = explain.sync(client=client, body=InstancesToExplain(instances=[row]), top=2)
print(len(reasons.explanations[0].reasons), model_info.sync(client=client).num_features)
"""


def test_openapi_python_client(server: str, document: Path, tmp_path: Path) -> None:
    """The client sends one row, many rows, a 422, explain and model_info; mypy checks its types."""
    command = (sys.executable, "-m", "openapi_python_client", "generate")
    run(*command, "--path", str(document), "--output-path", "pyclient", "--meta", "none",
        folder=tmp_path)  # fmt: skip
    run(sys.executable, "-m", "compileall", "-q", "pyclient", folder=tmp_path)
    script = tmp_path / "use.py"
    script.write_text(PYTHON_CLIENT.replace("{row}", repr(ROW)))

    printed = run(sys.executable, str(script), server, folder=tmp_path).split()

    assert printed[:2] == ["good", "3"] or printed[:2] == ["bad", "3"]
    assert printed[3:] == ["422", "/instances/0/age", "2", "13"]
    script.write_text('from pyclient.models import Model\nModel(name=1, version="1")\n')
    checked = run(sys.executable, "-m", "mypy", "use.py", folder=tmp_path, fails=True)
    assert 'incompatible type "int"; expected "str"' in checked


GENERATED = """
import sys
import canoa_client as canoa
from pydantic import ValidationError

api = canoa.DefaultApi(canoa.ApiClient(canoa.Configuration(host=sys.argv[1])))
row = canoa.Instance(**{row})
one = api.predict(canoa.Instances(instances=[row]))
many = api.predict(canoa.Instances(instances=[row] * 3))
print(one.predictions[0].label, len(many.predictions), many.predictions[2].probability)
try:
    canoa.Instance(**{**{row}, "age": "31"})
except ValidationError:
    print("refused")
try:
    unchecked = row.model_copy(update={"age": "31"})
    api.predict(canoa.Instances.model_construct(instances=[unchecked]))
except canoa.ApiException as error:
    print(error.status)
reasons = api.explain(canoa.InstancesToExplain(instances=[row]), top=2)
print(len(reasons.explanations[0].reasons), api.model_info().num_features)
"""


def test_openapi_generator(server: str, document: Path, tmp_path: Path) -> None:
    """openapi-generator's client does the same; pydantic rejects a wrong type before sending."""
    if shutil.which("java") is None:
        pytest.skip("there is no java, which openapi-generator needs")
    start = "import sys; from openapi_generator_cli import cli; sys.exit(cli())"
    command = (sys.executable, "-c", start, "generate", "-i", str(document), "-g", "python")
    run(*command, "-o", str(tmp_path), "-p", "packageName=canoa_client", folder=tmp_path)
    run(sys.executable, "-m", "compileall", "-q", "canoa_client", folder=tmp_path)
    script = tmp_path / "use.py"
    script.write_text(GENERATED.replace("{row}", repr(ROW)))

    printed = run(sys.executable, str(script), server, folder=tmp_path).split()

    assert printed[1] == "3"
    assert printed[3:] == ["refused", "422", "2", "13"]


TYPESCRIPT = """
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

const client = createClient<paths>({ baseUrl: process.argv[2] });
const row: components["schemas"]["Instance"] = ROW;
const one = await client.POST("/v0/predict", { body: { instances: [row] } });
const many = await client.POST("/v0/predict", { body: { instances: [row, row, row] } });
console.log(one.data!.predictions[0].label, many.data!.predictions.length);
const wrong = await client.POST("/v0/predict", {
  body: { instances: [{ ...row, age: "31" as unknown as number }] },
});
console.log(wrong.error!.status, wrong.error!.errors![0].pointer);
const reasons = await client.POST("/v0/explain", {
  params: { query: { top: 2 } }, body: { instances: [row] },
});
const card = await client.GET("/v0/model_info");
console.log(reasons.data!.explanations[0].reasons.length, card.data!.num_features);
"""


def test_openapi_typescript(server: str, document: Path, tmp_path: Path) -> None:
    """openapi-fetch does the same with the generated types, and tsc rejects a wrong type."""
    if not (MODULES / "openapi-typescript").exists():
        pytest.skip("openapi-typescript is not there: npm ci --prefix tests/node")
    (tmp_path / "node_modules").symlink_to(MODULES)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    run("node", str(MODULES / "openapi-typescript" / "bin" / "cli.js"), str(document), "-o",
        "schema.d.ts", folder=tmp_path)  # fmt: skip
    good = TYPESCRIPT.replace("ROW", json.dumps(ROW))
    good = "declare const process: { argv: string[] };\n" + good
    (tmp_path / "use.ts").write_text(good)
    (tmp_path / "wrong.ts").write_text(good.replace('"age": 30', '"age": "30"'))
    options = {"strict": True, "target": "es2022", "module": "nodenext", "types": []}
    for name in ("use", "wrong"):
        config = {"compilerOptions": options, "files": [f"{name}.ts"]}
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
    tsc = ("node", str(MODULES / "typescript" / "bin" / "tsc"), "-p")

    run(*tsc, "use.json", folder=tmp_path)
    printed = run("node", "use.js", server, folder=tmp_path).split()
    refused = run(*tsc, "wrong.json", folder=tmp_path, fails=True)

    assert printed[1:] == ["3", "422", "/instances/0/age", "2", "13"]
    assert "Type 'string' is not assignable to type 'number" in refused
