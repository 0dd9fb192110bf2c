"""The page's style and script, and the policy that lets a browser run these two and no other."""

# ruff: noqa: E501  # CSS and JavaScript

from __future__ import annotations

import base64
import hashlib

__all__ = ["POLICY", "SCRIPT", "STYLE"]

STYLE = """
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--text:#1d2127;--soft:#565d66;--line:#d9dce0;
--blue:#0a5bbf;--blue-soft:#dceafb;--up:#13694a;--down:#ae2c22}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--card:#1c2025;--text:#e8eaed;--soft:#a9b1bb;
--line:#3a414a;--blue:#7ab4ff;--blue-soft:#22364f;--up:#5cc79a;--down:#ff8b80}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,sans-serif}
header,main,footer{max-width:1080px;margin:0 auto;padding:20px 16px}
header+main{padding-top:0}
h1{overflow-wrap:anywhere;font-size:28px;margin:0 8px 0 0;display:inline-block}
h2{font-size:19px;margin:32px 0 10px}h3{font-size:15px;margin:0 0 8px}section>h3{margin-top:16px}
a{color:var(--blue)}p{margin:6px 0}.soft,figcaption,small{color:var(--soft)}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin-top:10px}
.badge{border:1px solid currentColor;border-radius:99px;padding:1px 9px;font-size:13px;margin-right:4px}
.live{color:var(--up)}.degraded{color:var(--down)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));gap:14px}
.small{grid-template-columns:repeat(auto-fill,minmax(min(100%,220px),1fr))}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px;min-width:0}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:5px 10px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
th small{display:block;font-weight:400}.hit{font-weight:600}
tr:last-child>*{border-bottom:0}
.fields{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,220px),1fr));gap:12px 18px}
.field{min-width:0}.field label{display:block;font-weight:600;overflow-wrap:anywhere}.field small{font-weight:400}
.pair{display:flex;gap:8px}.pair input[type=range]{flex:1;min-width:60px;accent-color:var(--blue)}
.pair input[type=number]{width:128px}
.pair input[type=number]:only-child{width:100%}
input,select,textarea,button{font:inherit;color:inherit;background:var(--bg);padding:5px 8px;
border:1px solid var(--soft);border-radius:5px;max-width:100%}
select,textarea{width:100%}
button{cursor:pointer}button.main{background:var(--blue);color:var(--card);border-color:var(--blue)}
:focus-visible{outline:3px solid var(--blue);outline-offset:2px}
.answer{font-size:26px;font-weight:700;margin:0}
svg{display:block;width:100%;height:auto;font:11px system-ui,sans-serif;fill:var(--text)}
svg .axis{stroke:var(--line)}svg .soft{fill:var(--soft)}
svg .line{fill:none;stroke-width:2;stroke:var(--blue)}
svg .guide{fill:none;stroke:var(--soft);stroke-dasharray:3 3}
svg .bar{fill:var(--blue)}svg .up{fill:var(--up)}svg .down{fill:var(--down)}
svg .l1{stroke-dasharray:6 3}svg .l2{stroke-dasharray:2 3}svg .l3{stroke:var(--up)}
svg .l4{stroke:var(--up);stroke-dasharray:6 3}svg .l5{stroke:var(--down)}
figure{margin:0}.limit svg{max-width:480px}td svg{width:150px}
pre{overflow-x:auto;margin:8px 0;padding:10px;background:var(--bg);border:1px solid var(--line);
border-radius:6px;font-size:13px}
code{overflow-wrap:anywhere}summary{cursor:pointer;font-weight:600}
.skip{position:absolute;left:-999px}.skip:focus{left:8px;top:8px;background:var(--card);padding:8px}
@media(max-width:500px){th small{display:none}}
@media print{nav,.noprint{display:none}}
"""

SCRIPT = r"""
(() => {
"use strict";
const KEY = "canoa-key";
const base = location.pathname.replace(/\/?$/, "/");
const $ = (selector, from = document) => from.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const stored = () => { try { return sessionStorage.getItem(KEY); } catch { return null; } };
const headers = () => {
  const key = stored();
  return key ? { Authorization: "Bearer " + key } : {};
};
const make = (name, text, parent) => {
  const node = document.createElement(name);
  node.textContent = text;
  parent.append(node);
  return node;
};

async function open() {
  const said = $("#said");
  let reply, text;
  try {
    reply = await fetch(base, { headers: headers() });
    text = await reply.text();
  } catch {
    said.textContent = /[^\x00-\xff]/.test(stored())
      ? "This key has characters that no key has." : "The server cannot be reached.";
    return;
  }
  if (!reply.ok) {
    let problem = { title: "The server answered " + reply.status + "." };
    try { problem = JSON.parse(text); } catch { /* not from this server */ }
    said.textContent = {
      401: "This key is not valid.",
      403: "This key may not read the page: it needs the scope info.",
    }[reply.status] || [problem.title, problem.detail].filter(Boolean).join(". ");
    return;
  }
  const page = new DOMParser().parseFromString(text, "text/html");
  document.title = page.title;
  document.body.replaceWith(page.body);
  begin();
}

function read(form) {
  const instance = Object.create(null);  // which has no __proto__
  for (const field of form.querySelectorAll("[data-name]")) {
    let value = field.value;
    if (field.dataset.kind === "number") value = value === "" ? null : Number(value);
    else if (field.dataset.kind === "json") value = JSON.parse(value);
    instance[field.dataset.name] = value;
  }
  return instance;
}

async function post(path, instance, signal) {
  const began = performance.now();
  const reply = await fetch(base + path, {
    method: "POST",
    headers: { ...headers(), "Content-Type": "application/json" },
    body: JSON.stringify({ instances: [instance] }),
    signal,
  });
  let answer;
  try { answer = await reply.json(); } catch { answer = { detail: "The server answered " + reply.status + "." }; }
  return { status: reply.status, ok: reply.ok, answer, time: Math.round(performance.now() - began) };
}

let asked = new AbortController();
async function ask(form, into) {
  asked.abort();
  const { signal } = asked = new AbortController();
  if (!form.reportValidity()) return;
  const instance = read(form);
  let found;
  try {
    found = await post("v0/explain?top=6", instance, signal);
    if ([403, 404, 405].includes(found.status) || /not-explainable/.test(found.answer.type)) {
      found = await post("v0/predict", instance, signal);
    }
  } catch {
    found = { ok: false, answer: { detail: "The server cannot be reached." } };
  }
  if (!signal.aborted) show(found, into);
}

const isolated = (name) => "\u2068" + name + "\u2069";  // its direction ends with it
const percent = (share) => (100 * share).toFixed(1) + " %";
const round = (value) => Math.abs(value) >= 1e6 || (value && Math.abs(value) < 1e-3)
  ? value.toExponential(3) : String(+value.toFixed(4));

function words(prediction) {
  if (prediction.outputs) {
    return Object.entries(prediction.outputs).map(([k, v]) => k + ": " + words(v)).join(", ");
  }
  if ("value" in prediction) return round(prediction.value);
  if ("outlier" in prediction) return (prediction.outlier ? "outlier" : "no outlier") + ", " + round(prediction.score);
  if ("cluster" in prediction) return "cluster " + prediction.cluster;
  const chance = "probability" in prediction ? " " + percent(prediction.probability) : "";
  return prediction.label + chance;
}

function show(found, into) {
  into.replaceChildren();
  if (!found.ok) {
    make("p", found.answer.title || "No answer", into).className = "answer";
    make("p", found.answer.detail || "", into);
    const list = make("ul", "", into);
    for (const fault of found.answer.errors || []) make("li", isolated(fault.pointer) + ": " + fault.detail, list);
    return;
  }
  const why = (found.answer.explanations || [])[0];
  const prediction = why ? why.prediction : found.answer.predictions[0];
  make("p", words(prediction), into).className = "answer";
  if (why) {
    const written = "output" in why ? percent : round;
    const about = [why.target, why.output].filter((name) => name !== undefined).join(": ");
    make("p", "On average " + written(why.base) + (about ? " for “" + about + "”" : "")
      + "; what moved it from there:", into).className = "soft";
    into.append(bars(why, into.clientWidth - 30));
  }
  for (const warning of found.answer.warnings || []) {
    make("p", isolated(warning.pointer) + ": " + warning.detail, into).className = "soft";
  }
  const model = found.answer.model;
  make("p", "Answered by " + model.name + " " + model.version + " in " + found.time + " ms.", into).className = "soft";
}

function bars(why, room) {
  const rows = why.reasons.map((r) => [isolated(r.feature) + " = " + (r.value === null ? "missing" : r.value), r.contribution]);
  if (why.others) rows.push(["all others", why.others]);
  const most = Math.max(...rows.map((row) => Math.abs(row[1]))) || 1;
  const svg = (name, attributes, parent, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  };
  const written = (v) => (v < 0 ? "−" : "+") + ("output" in why ? (100 * Math.abs(v)).toFixed(1) : round(Math.abs(v)));
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = "11px system-ui, sans-serif";
  const width = (text) => pen.measureText(text).width;
  const size = Math.max(280, Math.min(420, room)), half = 0.18 * size;
  const side = half + 8 + Math.max(...rows.map((row) => width(written(row[1]))));
  const middle = size - side;
  const cut = (name) => {
    const text = [...name];
    if (width(name) > middle - side - 8) {
      while (text.length && width(text.join("") + "…") > middle - side - 8) text.pop();
      text.push("…");
    }
    return text.join("");
  };
  const chart = svg("svg", { viewBox: "0 0 " + size + " " + 24 * rows.length, role: "img",
    "aria-label": rows.map(([name, v]) => name + " " + written(v)).join(", ") });
  rows.forEach(([name, value], i) => {
    const wide = Math.abs(value) / most * half, y = 24 * i, left = value < 0;
    svg("text", { x: 4, y: y + 16 }, chart, cut(name));
    svg("rect", { x: left ? middle - wide : middle, y: y + 4, width: wide, height: 16, rx: 2,
      class: left ? "down" : "up" }, chart);
    svg("text", { x: left ? middle - wide - 4 : middle + wide + 4, y: y + 16,
      "text-anchor": left ? "end" : "start" }, chart, written(value));
  });
  return chart;
}

function begin() {
  for (const link of all("a[data-path]")) {
    link.href = base + link.dataset.path;
    if (stored()) link.addEventListener("click", async (event) => {
      event.preventDefault();
      const reply = await fetch(link.href, { headers: headers() });
      const place = $("#raw") || make("pre", "", $("main"));
      place.id = "raw";
      place.tabIndex = 0;
      place.textContent = JSON.stringify(await reply.json(), null, 1);
      place.scrollIntoView();
    });
  }
  for (const place of all(".url")) place.textContent = location.origin + base.slice(0, -1);
  for (const button of all("button[data-copy]")) {
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText($("#" + button.dataset.copy).textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
  const unlock = $("#unlock");
  if (unlock) {
    unlock.addEventListener("submit", (event) => {
      event.preventDefault();
      try { sessionStorage.setItem(KEY, $("#key").value.trim()); } catch { /* not kept */ }
      open();
    });
    if (stored()) open();
  }
  const form = $("#try");
  if (!form) return;
  const into = $("#answer");
  let timer;
  form.addEventListener("input", (event) => {
    const twin = event.target.dataset.twin && $("#" + event.target.dataset.twin);
    if (twin) twin.value = event.target.value;
    clearTimeout(timer);
    timer = setTimeout(() => { if (form.checkValidity()) ask(form, into); }, 200);
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(timer); ask(form, into); });
  ask(form, into);
}
begin();
})();
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


#: The Content-Security-Policy of the page.
POLICY = (
    "default-src 'none'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
    f"form-action 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}"
)
