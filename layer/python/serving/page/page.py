"""Puts the page together."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from serving.bundle.manifest import Manifest
from serving.page import sections
from serving.page.assets import SCRIPT, STYLE
from serving.page.form import code, form
from serving.page.quality import quality

__all__ = ["Place", "locked_page", "render"]


class Place(NamedTuple):
    """Where the page is shown."""

    #: "live" or "degraded"; None for a file.
    status: str | None = None
    #: Whether predict answers at the same origin, so that the page can ask it.
    asks: bool = False
    #: Whether callers need a key or a token.
    locked: bool = False


def render(manifest: Manifest, place: Place) -> bytes:
    """
    Write the page of a model.

    Args:
        manifest: The model's. What it says is escaped.
        place: Where the page is shown; by default in a file, without the form and the script.
    """
    served = place.status is not None
    links = {"quality": "How good", "data": "Data", "code": "From code", "origin": "Origin"}
    if place.asks:
        links = {"try-it": "Try it", **links}
    if not served:
        del links["code"]
    nav = "".join(f'<a href="#{target}">{text}</a>' for target, text in links.items())
    if place.asks:
        nav += (
            '<a href="openapi.json" data-path="openapi.json">OpenAPI</a>'
            '<a href="v0/model_info" data-path="v0/model_info">JSON</a>'
        )
    note = ""
    if served and not place.asks:
        note = (
            '<p class="card">Each function has an address of its own here, so this page has no '
            "form: a browser may not call predict from it.</p>"
        )
    middle = "".join(
        (
            note,
            form(manifest) if place.asks else "",
            sections.purpose(manifest),
            quality(manifest),
            sections.importances(manifest),
            sections.data(manifest),
            code(manifest, locked=place.locked) if served else "",
            sections.origin(manifest),
        )
    )
    badge = ""
    if served:
        said = "live" if place.status == "live" else "a newer version was rejected"
        badge = f'<span class="badge {escape(place.status or "")}">{said}</span>'
    head = (
        f'<h1>{escape(manifest.name)}</h1>{badge}<span class="badge">{manifest.task}</span>'
        f"<p>{escape(_sentence(manifest))}</p>"
        f'<p class="soft">Version <code>{escape(manifest.version)}</code>, made '
        f"{escape(sections.moment(manifest))} from {manifest.lineage.rows:,} rows · "
        f"{escape(manifest.estimator.type)} on {manifest.engine.name}</p>"
        f'<nav aria-label="Sections">{nav}</nav>'
    )
    foot = "Made by Canoa. Nothing on this page is fetched from elsewhere."
    return _document(manifest.name, head, middle, foot, script=served)


def locked_page() -> bytes:
    """Write the page that asks for a key, and shows nothing of the model."""
    middle = (
        '<h1>A key is needed</h1><form id="unlock" class="card"><p><label for="key">Key or token'
        '</label></p><p><input id="key" type="password" required autocomplete="off" '
        'spellcheck="false"> <button class="main">Open</button></p><p class="soft">It stays in '
        'this tab.</p><p id="said" role="alert"></p></form>'
    )
    return _document("A key is needed", "", middle, "Served by Canoa.", script=True)


def _sentence(manifest: Manifest) -> str:
    lines = [line.strip() for line in manifest.purpose.splitlines()]
    first = next((line for line in lines if line and not line.startswith("#")), "")
    return first or f"{manifest.task.capitalize()} by {manifest.estimator.type}."


def _document(title: str, head: str, main: str, foot: str, *, script: bool) -> bytes:
    header = f"<header>{head}</header>" if head else ""
    run = f"<script>{SCRIPT}</script>" if script else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width,initial-scale=1"><title>{escape(title)}</title><style>'
        f'{STYLE}</style></head><body><a class="skip" href="#main">To the content</a>{header}'
        f'<main id="main">{main}</main><footer class="soft">{foot}</footer>{run}</body></html>'
    ).encode()
