"""The form that tries the model out, and the request as code."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from typing import Any

from serving.bundle.manifest import Feature, Manifest
from serving.bundle.plots import Shape

__all__ = ["code", "form"]

_NO_SHAPE = Shape()
_URL = '<span class="url">http://localhost:8080</span>'
#: Signs that turn the direction of what follows, as U+202E.
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def form(manifest: Manifest) -> str:
    """Write a field for each feature, filled with the manifest's example."""
    shapes = manifest.plots.features if manifest.plots else {}
    example = manifest.example.instance
    fields = "".join(
        _field(i, feature, example.get(feature.name), shapes.get(feature.name, _NO_SHAPE))
        for i, feature in enumerate(manifest.features)
    )
    return (
        '<section id="try-it" class="noprint"><h2>Try it</h2><div class="grid">'
        f'<form id="try" class="card"><div class="fields">{fields}{_target(manifest)}</div>'
        '<p><button class="main">Ask the model</button></p></form>'
        '<div class="card" id="answer" role="status" aria-live="polite" aria-label="Answer">'
        '<p class="soft">The answer appears here.</p></div></div></section>'
    )


def _target(manifest: Manifest) -> str:
    """Write the choice of the output that is explained, if the model has several."""
    # Without a value, a browser would take the text, without its outer and repeated blanks.
    names = "".join(
        f'<option value="{name}">{name}</option>'
        for name in (escape(output.name) for output in manifest.outputs)
    )
    if not names:
        return ""
    return (
        '<div class="field"><label for="target">Explain the output</label>'
        f'<select id="target">{names}</select></div>'
    )


def _field(i: int, feature: Feature, value: Any, shape: Shape) -> str:
    name = escape(feature.name)
    data = f'id="f{i}" data-name="{name}"'
    hint = "may be empty" if feature.nullable else ""
    if feature.kind == "number":
        if shape.low is not None and shape.high is not None:
            hint = f"{shape.low:.6g} … {shape.high:.6g}{', or empty' if hint else ''}"
        control = _number(i, name, data, value, shape, required=not feature.nullable)
    elif feature.kind == "text":
        text = escape("" if value is None else str(value))
        control = f'<textarea {data} data-kind="text" rows="3">{text}</textarea>'
    else:
        control = _select(data, feature, value)
    label = f'<label for="f{i}"><bdi>{name}</bdi> <small>{hint}</small></label>'
    return f'<div class="field">{label}{control}</div>'


def _number(i: int, name: str, data: str, value: Any, shape: Shape, *, required: bool) -> str:
    shown = "" if value is None else escape(f"{value}")
    need = " required" if required else ""
    low, high = shape.low, shape.high
    box = f'<input {data} data-kind="number" type="number" step="any" value="{shown}"{need}'
    if low is None or high is None or low >= high:
        return f'<div class="pair">{box}></div>'
    step = 1 if low.is_integer() and high.is_integer() and high - low >= 10 else (high - low) / 100
    slider = (
        f'<input id="s{i}" type="range" min="{low:g}" max="{high:g}" step="{step:g}" '
        f'value="{shown}" aria-label="{name}, slider" data-twin="f{i}">'
    )
    return f'<div class="pair">{slider}{box} data-twin="s{i}"></div>'


def _select(data: str, feature: Feature, value: Any) -> str:
    choices: list[Any] = [*(feature.categories or [])]
    if feature.kind == "boolean":
        choices = [False, True]
    if feature.nullable:
        choices.append(None)
    if value not in choices:
        choices.insert(0, value)
    options = "".join(
        f'<option value="{escape(json.dumps(choice))}"{" selected" if choice == value else ""}>'
        f"{'(missing)' if choice is None else escape(_word(choice))}</option>"
        for choice in choices
    )
    return f'<select {data} data-kind="json">{options}</select>'


def _word(choice: Any) -> str:
    return choice if isinstance(choice, str) else json.dumps(choice)


def code(manifest: Manifest, *, locked: bool) -> str:
    """Write the example's request in three languages, each with a button that copies it."""
    instance = manifest.example.instance or {f.name: None for f in manifest.features}
    blocks = "".join(
        f"<details{' open' if i == 0 else ''}><summary>{title}</summary>"
        f'<pre tabindex="0" aria-label="{title}" id="code{i}">'
        f"{escape(text, quote=False).replace('{URL}', _URL)}</pre>"
        f'<button type="button" data-copy="code{i}" aria-label="Copy {title}">Copy</button>'
        "</details>"
        for i, (title, text) in enumerate(_snippets(instance, locked=locked).items())
    )
    return f'<section id="code"><h2>From code</h2><div class="card">{blocks}</div></section>'


def _snippets(instance: Mapping[str, Any], *, locked: bool) -> dict[str, str]:
    body = json.dumps({"instances": [instance]}, ensure_ascii=False)
    body = _DIRECTIONS.sub(lambda sign: f"\\u{ord(sign[0]):04x}", body)
    script_body = body.replace('"__proto__":', '["__proto__"]:')  # which JavaScript takes as a name
    quoted = body.replace("'", "'\\''")
    key = ' \\\n  -H "Authorization: Bearer $CANOA_KEY"' if locked else ""
    python_key = (
        'headers = {"Authorization": "Bearer " + os.environ["CANOA_KEY"]}\n' if locked else ""
    )
    sent = ", headers=headers" if locked else ""
    script_key = ", Authorization: `Bearer ${process.env.CANOA_KEY}`" if locked else ""
    return {
        "curl": f"curl -s {{URL}}/v0/predict{key} \\\n"
        f"  -H 'Content-Type: application/json' -d '{quoted}'",
        "Python": ("import os\n\n" if locked else "")
        + f"import requests\n\n{python_key}instance = {dict(instance)!r}\n"
        f'answer = requests.post("{{URL}}/v0/predict", json={{"instances": [instance]}}{sent}, '
        'timeout=30)\nanswer.raise_for_status()\nprint(answer.json()["predictions"][0])',
        "JavaScript": 'const response = await fetch("{URL}/v0/predict", {\n  method: "POST",\n'
        f'  headers: {{ "Content-Type": "application/json"{script_key} }},\n'
        f"  body: JSON.stringify({script_body}),\n}});\nconst answer = await response.json();\n"
        "if (!response.ok) throw new Error(`${answer.title}: ${answer.detail}`);\n"
        "console.log(answer.predictions[0]);",
    }
