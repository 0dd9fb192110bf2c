"""The request id, which the client gets and the log shows."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

__all__ = ["request_id"]

_PLAIN = re.compile(r"[A-Za-z0-9._\-]{1,128}")
#: W3C Trace Context: version-trace-parent-flags.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
#: Google Cloud: TRACE_ID/SPAN_ID;o=OPTIONS.
_CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/.{0,64})?")
#: AWS's load balancers and gateways: Root=1-TIME-ID, perhaps among other parts.
_AMZN_TRACE = re.compile(r"(?:.{0,200};)?Root=(1-[0-9a-f]{8}-[0-9a-f]{24})(?:;.{0,200})?")


def request_id(headers: Mapping[str, str]) -> str:
    """
    Return the id that the client or its platform sent, or a new one.

    An id that does not have its header's form is ignored, because it would get into the log.
    """
    for name, form in (
        ("X-Request-Id", _PLAIN),
        ("traceparent", _TRACEPARENT),
        ("X-Cloud-Trace-Context", _CLOUD_TRACE),
        ("X-Amzn-Trace-Id", _AMZN_TRACE),
    ):
        sent = headers.get(name)
        if sent and (match := form.fullmatch(sent)):
            return match.group(form.groups)
    return os.urandom(16).hex()
