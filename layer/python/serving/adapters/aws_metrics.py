"""Makes log lines CloudWatch metrics, in the embedded metric format: no agent, no call.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
Names follow Powertools for AWS Lambda where it has one.
"""

from __future__ import annotations

import os
import time
from typing import Any

__all__ = ["NAMESPACE", "add_metrics"]

NAMESPACE = "Canoa"
_FUNCTION_NAME = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
_DURATION = {"Name": "duration_ms", "Unit": "Milliseconds"}
_ROWS = {"Name": "rows", "Unit": "Count"}
_COLD_START = {"Name": "ColdStart", "Unit": "Count"}
_ERRORS = {"Name": "Errors", "Unit": "Count"}


def add_metrics(line: dict[str, Any]) -> None:
    """Mark the figures of a request's *line* as metrics. Other lines stay as they are."""
    if line["message"] != "request" or _FUNCTION_NAME is None:
        return
    line["function_name"] = _FUNCTION_NAME
    line.setdefault("route", "none")
    metrics = [_DURATION, *[_ROWS] * ("rows" in line)]
    if line.get("cold_start"):
        line["ColdStart"] = 1
        metrics.append(_COLD_START)
    directives = [_directive(metrics)]
    if "error" in line:
        line["Errors"] = 1
        directives.append(_directive([_ERRORS], "error"))
    line["_aws"] = {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": directives}


def _directive(metrics: list[dict[str, str]], *more: str) -> dict[str, Any]:
    return {
        "Namespace": NAMESPACE,
        "Dimensions": [["function_name", "route", *more]],
        "Metrics": metrics,
    }
