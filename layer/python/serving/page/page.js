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
    const target = $("#target") ? "&target=" + encodeURIComponent($("#target").value) : "";
    found = await post("v0/explain?top=6" + target, instance, signal);
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
