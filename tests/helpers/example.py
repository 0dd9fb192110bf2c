"""The example's request, and the checks that every error must pass."""

from __future__ import annotations

import json
from typing import Any

from tests.helpers.platforms import Platform, Reply

__all__ = ["FIRST_ANSWER", "JSON", "ROW", "assert_problem", "post"]

JSON = {"Content_Type": "application/json"}

ROW: dict[str, Any] = {
    "seniority": 9,
    "home": "rent",
    "time": 60,
    "age": 30,
    "marital": "married",
    "records": "no",
    "job": "freelance",
    "expenses": 73,
    "income": 129,
    "assets": 0,
    "debt": 0,
    "amount": 800,
    "price": 846,
}

#: Lines of a program: the function predict, alone, answers the model's own example.
FIRST_ANSWER = """
import json, sys
from serving.routes import load_functions
from serving.loader import load_model
[predict] = [f for f in load_functions("functions") if f.__name__ == "predict"]
class Request:
    method, path, headers, args = "POST", "/", {"Content-Type": "application/json"}, {}
    def get_data(self):
        return json.dumps(load_model().manifest.example.instance).encode()
body, status, headers = predict(Request())
"""


def post(send: Platform, data: Any, **headers: str) -> Reply:
    """Send *data* to predict: bytes unchanged, anything else as JSON."""
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return send("predict", "POST", body, **{**JSON, **headers})


def assert_problem(reply: Reply, status: int, code: str) -> Any:
    """Check that a reply is an RFC 9457 problem with the request's id; return its JSON."""
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"] == "application/problem+json"
    problem = reply.json()
    assert problem.keys() - {"errors"} == {"type", "title", "status", "detail", "request_id"}
    assert problem["type"] == f"urn:canoa:problem:{code}"
    assert problem["status"] == status
    assert problem["request_id"] == reply.headers["X-Request-Id"]
    assert b"Traceback" not in reply.body
    return problem
