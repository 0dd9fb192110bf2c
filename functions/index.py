"""GET /: the model's page, for people."""

from serving.endpoint import Answer, Request, endpoint
from serving.loader import is_outdated, load_model
from serving.page.assets import POLICY
from serving.page.page import Place, locked_page, render
from serving.process import process

_HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
_HTML = "text/html; charset=utf-8"
_LOCKED = Answer(locked_page(), media_type=_HTML, headers=_HEADERS)


@endpoint("GET", "/", scope="info", answer="text/html", locked=_LOCKED)
def index(_: Request) -> Answer:
    """The model's page, for people."""
    manifest = load_model().manifest
    here = process()
    place = Place(
        status="degraded" if is_outdated() else "live",
        # AWS's gateway leads to every function; a function alone shares no origin with predict.
        asks=here.platform == "AWS Lambda" or here.settings.function_target is None,
        locked=here.gate.closed,
    )
    page = render(manifest, place)
    return Answer(page, model_version=manifest.version, media_type=_HTML, headers=_HEADERS)
