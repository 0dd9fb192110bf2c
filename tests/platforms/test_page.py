"""The page in a real browser: Debian's Chromium, headless, without network access."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pandas as pd
import pytest
import requests
from serving.page.page import Place, render
from sklearn.linear_model import LinearRegression

from tests.helpers.access.keys import API_KEYS, KEYS
from tests.helpers.bundles import copied, manifest_of
from tests.helpers.example import assert_problem
from tests.helpers.platforms import PLATFORMS
from tests.helpers.servers import ROOT, emulator, serving
from training.export.build import build_bundle

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = ROOT / "tests" / "node" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")
def browser(pytestconfig: pytest.Config) -> Iterator[Browser]:
    """Run Chromium."""
    if pytestconfig.getoption("no_processes"):  # Playwright ignores the audit hook's skip
        pytest.skip("starts a process")
    if not CHROMIUM and "CI" not in os.environ:
        pytest.skip("there is no chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open a tab; any console message and any request to another origin fail the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    opened = context.new_page()
    said: list[str] = []
    asked: set[str] = set()
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("console", lambda message: said.append(message.text))
    opened.on("request", lambda request: asked.add(request.url.split("/")[2]))
    yield opened
    here = opened.url.split("/")[2]
    context.close()
    # Chromium logs answers such as 401, which some tests want.
    assert [text for text in said if "Failed to load resource" not in text] == []
    assert asked <= {here, ""}


def test_the_form_asks_the_model(credit: Path, page: Page) -> None:
    """The form is filled with the example, and each change shows a prediction with its reasons."""
    example = manifest_of(credit).example
    with serving(credit, LOG_LEVEL="error") as server:
        page.goto(f"{server}/")
        answer = page.locator("#answer")
        page.wait_for_selector("#answer svg")
        assert example.prediction["label"] in answer.inner_text()
        sent = {**example.instance, "records": "yes", "amount": 4321, "income": None}

        page.get_by_label("records", exact=False).first.select_option(label="yes")
        page.locator("[data-name=income]").fill("")
        with page.expect_response(lambda reply: "4321" in (reply.request.post_data or "")) as got:
            page.locator("[data-name=amount]").fill("4321")
            page.keyboard.press("Enter")
        reply = got.value.json()
        told = requests.post(f"{server}/v0/explain?top=6", json=sent, timeout=10).json()
        page.wait_for_function("document.querySelector('#answer').innerText.includes('4321')")

    assert reply["explanations"] == told["explanations"]
    shown = answer.inner_text()
    assert f"{100 * told['explanations'][0]['prediction']['probability']:.1f} %" in shown
    assert told["model"]["version"] in shown
    assert len(page.locator("#answer rect").all()) == 7


def test_the_page_asks_for_a_key(credit: Path, page: Page) -> None:
    """Without a key the page has a field for it and nothing of the model; the tab keeps the key."""
    with serving(credit, LOG_LEVEL="error", API_KEYS=API_KEYS) as server:
        page.goto(f"{server}/")
        name = manifest_of(credit).name
        assert name not in page.content().replace("canoa", "")
        page.get_by_label("Key or token").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("This key is not valid.").wait_for()
        page.get_by_label("Key or token").fill(KEYS["predicts"])
        page.keyboard.press("Enter")
        page.get_by_text("it needs the scope info").wait_for()
        page.get_by_label("Key or token").fill(KEYS["all"])
        page.keyboard.press("Enter")
        page.wait_for_selector("#answer svg")
        page.reload()
        page.wait_for_selector("#answer svg")

        assert page.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"
        assert KEYS["all"] not in page.url


def test_the_locked_page_says_what_failed(tmp_path: Path, page: Page) -> None:
    """A valid key without a model, a key that no header takes, and a dead server are told apart."""
    with serving(tmp_path / "none", LOG_LEVEL="error", API_KEYS=API_KEYS) as server:
        page.goto(f"{server}/")
        for key, said in [
            ("wrong", "This key is not valid."),
            ("5 €", "This key has characters that no key has."),
            (KEYS["all"], "No model can be served at the moment."),
        ]:
            page.get_by_label("Key or token").fill(key)
            page.keyboard.press("Enter")
            page.get_by_text(said).wait_for(timeout=5000)
        os.killpg(server.process.pid, signal.SIGKILL)
        page.get_by_role("button", name="Open").click()
        page.get_by_text("The server cannot be reached.").wait_for(timeout=5000)


def test_without_a_background_the_page_predicts(credit: Path, tmp_path: Path, page: Page) -> None:
    """If explain answers 404, the page shows the answer of predict."""
    copied(credit, tmp_path / "credit")
    with serving(tmp_path / "credit", LOG_LEVEL="error") as server:
        page.goto(f"{server}/")
        page.wait_for_selector("#answer .answer")

        assert "%" in page.locator("#answer .answer").inner_text()
        assert page.locator("#answer svg").count() == 0


def test_the_page_works_below_a_base_path(credit: Path, page: Page) -> None:
    """The page's URLs are relative, so it works below a prefix."""
    with serving(credit, LOG_LEVEL="error", BASE_PATH="/ml") as server:
        page.goto(f"{server}/ml/")
        page.wait_for_selector("#answer svg")

        assert page.locator("#code0").inner_text().startswith(f"curl -s {server}/ml/v0/predict")
        assert page.locator("a[data-path]").first.get_attribute("href") == "/ml/openapi.json"


_LONG = ["W" * 60, "sensor_reading_mean_of_the_last_thirty_days" * 2, "__proto__", "a\u202eb", "e"]
_OVERLAPS = """() => {
  const place = (node) => node.getBoundingClientRect();
  const found = [];
  for (const label of document.querySelectorAll(".field label")) {
    const inner = document.createRange();
    inner.selectNodeContents(label);
    if (place(inner).right > place(label.parentNode).right + 1) found.push(label.innerText);
  }
  const chart = place(document.querySelector("#answer svg"));
  const texts = [...document.querySelectorAll("#answer text")];
  for (let i = 0; i < texts.length; i += 2) {
    const [name, figure] = [place(texts[i]), place(texts[i + 1])];
    if (name.right > figure.left || figure.right > chart.right) found.push(texts[i].textContent);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def long_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a model whose features have long and hostile names."""
    data = pd.DataFrame(np.random.default_rng(0).normal(size=(200, len(_LONG))), columns=_LONG)
    line = LinearRegression().fit(data, data @ np.array([0.019, -0.0123, 0.01, -0.0187, 12345.6]))
    path = tmp_path_factory.mktemp("models") / "model"
    build_bundle(path, "model", line, data, seed=0)
    return path


@pytest.mark.parametrize("width", [1200, 360])
def test_long_names_do_not_overlap(long_names: Path, page: Page, width: int) -> None:
    """Labels keep within their column, and reasons beside their figures, which are whole."""
    page.set_viewport_size({"width": width, "height": 900})
    with serving(long_names, LOG_LEVEL="error") as server:
        page.goto(f"{server}/")
        page.wait_for_selector("#answer svg")

        assert page.evaluate(_OVERLAPS) == []


def test_any_name_can_be_tried(long_names: Path, page: Page) -> None:
    """A feature named __proto__ is sent, and a name's direction does not reach its neighbours."""
    with serving(long_names, LOG_LEVEL="error") as server:
        page.goto(f"{server}/")
        page.wait_for_selector("#answer svg")
        labels = page.locator(".field label bdi").all_text_contents()
        reasons = page.locator("#answer text").all_text_contents()
        shown = page.locator("[data-kind=number]").first.input_value()
        script = page.locator("#code2").text_content() or ""
        run = subprocess.run(
            [shutil.which("node") or "node", "--input-type=module", "-e", script],
            capture_output=True,
            text=True,
            check=False,
        )

    assert labels == _LONG
    assert len(shown.lstrip("-0.")) <= 6  # so that its box shows it whole
    assert any(text.startswith("\u2068__proto__\u2069 = ") for text in reasons)
    assert run.returncode == 0, run.stderr
    assert "\u202e" not in script


def test_the_explained_output_can_be_chosen(tmp_path: Path, page: Page) -> None:
    """A model with several outputs explains the first, or the one that is chosen."""
    data = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 2)), columns=["a", "b"])
    line = LinearRegression().fit(data, data * [3, -5])
    build_bundle(tmp_path / "model", "model", line, data, outputs=["cost & time", "size"])
    with serving(tmp_path / "model", LOG_LEVEL="error") as server:
        page.goto(f"{server}/")
        page.get_by_text("for “cost & time”").wait_for()
        page.get_by_label("Explain the output").select_option("size")
        page.get_by_text("for “size”").wait_for()

        assert "\u2068b\u2069 = " in (page.locator("#answer text").first.text_content() or "")


def test_a_new_question_ends_the_last_one(credit: Path, page: Page) -> None:
    """A moved slider aborts the request in flight."""
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(request.failure or ""))
    with serving(credit, LOG_LEVEL="error") as server:
        page.goto(f"{server}/")
        page.wait_for_selector("#answer svg")
        page.route("**/v0/explain*", lambda _: None, times=1)  # it never answers
        with page.expect_request("**/v0/explain*"):
            page.locator("[data-name=amount]").fill("4321")
        with page.expect_response(lambda reply: "1234" in (reply.request.post_data or "")):
            page.locator("[data-name=amount]").fill("1234")

    assert failed == ["net::ERR_ABORTED"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_axe_finds_no_violation(credit: Path, browser: Browser, scheme: Any, width: int) -> None:
    """Labels, roles and contrast are right in both schemes, and a phone scrolls vertically only."""
    if not AXE.exists() and "CI" not in os.environ:
        pytest.skip("there is no axe-core: npm ci --prefix tests/node")
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    with serving(credit, LOG_LEVEL="error", API_KEYS=API_KEYS) as server:
        page.goto(f"{server}/")
        page.evaluate(AXE.read_text("utf-8"))
        locked = page.evaluate("axe.run()")
        page.get_by_label("Key or token").fill(KEYS["all"])
        page.keyboard.press("Enter")
        page.wait_for_selector("#answer svg")
        page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
        opened = page.evaluate("axe.run()")
        sideways = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    context.close()

    for found in (locked, opened):
        assert [(v["id"], v["nodes"][0]["html"]) for v in found["violations"]] == []
    assert sideways <= 0


def test_the_code_on_the_page_runs(credit: Path, page: Page) -> None:
    """Each of the three snippets prints the example's answer."""
    environment = {**os.environ, "CANOA_KEY": KEYS["all"]}
    label = manifest_of(credit).example.prediction["label"]
    with serving(credit, LOG_LEVEL="error", API_KEYS=API_KEYS) as server:
        page.goto(f"{server}/")
        page.get_by_label("Key or token").fill(KEYS["all"])
        page.keyboard.press("Enter")
        page.wait_for_selector("#answer svg")
        commands = (["bash", "-c"], [sys.executable, "-c"], ["node", "--input-type=module", "-e"])
        for i, command in enumerate(commands):
            if shutil.which(command[0]) is None:
                continue
            text = page.locator(f"#code{i}").evaluate("node => node.textContent")
            run = subprocess.run(
                [*command, text], env=environment, capture_output=True, text=True, check=False
            )
            assert run.returncode == 0, run.stderr
            assert label in run.stdout


def test_a_function_alone_has_no_form(credit: Path) -> None:
    """If predict has another origin, the page says so and has no form."""
    with emulator("index", credit, FUNCTION_TARGET="index") as server:
        text = requests.get(f"{server}/", timeout=10).text

    assert '<form id="try"' not in text
    assert "an address of its own" in text


@pytest.mark.parametrize("platform", ["direct", "lambda, HTTP API", "lambda, REST API"])
def test_the_page_has_a_content_security_policy(credit: Path, platform: str) -> None:
    """The policy allows the page's one style and one script by their digests, and nothing else."""
    with PLATFORMS[platform](credit) as send:
        reply = send("index", "GET")

    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = reply.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; connect-src 'self'; base-uri 'none'; frame-anc")
    assert "unsafe" not in policy
    text = reply.body.decode()
    assert not re.search(r'\sstyle="|\son\w+="|https?://(?!localhost|www.w3.org)', text)
    assert len(reply.body) < 60_000


def test_only_browsers_get_the_locked_page(credit: Path) -> None:
    """Browsers get the locked page and other clients the problem, both with the challenge."""
    with PLATFORMS["direct"](credit, API_KEYS=API_KEYS) as send:
        problem = send("index", "GET")
        page = send("index", "GET", None, Accept="text/html,*/*;q=0.8")

    assert_problem(problem, 401, "unauthorized")
    assert page.status == 401
    assert page.headers["WWW-Authenticate"] == problem.headers["WWW-Authenticate"]
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'id="key"' in page.body


def test_text_of_the_manifest_is_escaped(credit: Path) -> None:
    """Names, categories and the purpose are shown as text, whatever they contain."""
    evil = '</style><script>alert("x")</script>&\'"'
    manifest = manifest_of(credit)
    features = [
        msgspec.structs.replace(
            feature,
            name=evil + feature.name,
            categories=[evil] if feature.categories else None,
        )
        for feature in manifest.features
    ]
    instance = {feature.name: evil for feature in features}
    changed = msgspec.structs.replace(
        manifest,
        features=features,
        purpose=evil,
        example=msgspec.structs.replace(manifest.example, instance=instance),
    )
    text = render(changed, Place("live", asks=True)).decode()

    assert text.count("<script>") == 1
    assert evil not in text
