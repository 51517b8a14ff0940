"""What is read as a trace's, of what anybody may have written into a message."""

from __future__ import annotations

import pytest

from lambda_celery.trace_context import trace_id, xray_header, xray_trace_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ROOT = "1-5759e988-bd862e3fe1be46a994272793"


@pytest.mark.parametrize(
    "value",
    [
        f"Root={ROOT}",
        f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1",
        f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=0;Lineage=1:a87bd80c:0|68fd508a:5",
    ],
)
def test_a_header_of_xrays_is_one(value):
    assert xray_header(value) == value
    assert xray_trace_id(value) == ROOT


@pytest.mark.parametrize(
    "value",
    [
        None, 7, "", "Root=1", f"Parent=1;Root={ROOT}", f"Root={ROOT}\n", f"Root={ROOT};a=b c",
        f"Root={ROOT};a=" + "b" * 600, "Root=1-00000000-" + "0" * 24, f"Root={ROOT};a=é",
    ],
)  # fmt: skip
def test_what_is_none_is_left_out(value):
    assert xray_header(value) is None
    assert xray_trace_id(value) is None


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, TRACE),
        ({"sentry-trace": f"{TRACE}-00f067aa0ba902b7-1"}, TRACE),
        ({"traceparent": "00-x", "sentry-trace": f"{TRACE}-00f067aa0ba902b7"}, TRACE),
        ({}, None),
        ({"traceparent": ["00"], "sentry-trace": 7}, None),
        ({"traceparent": "00-" + "0" * 32 + "-00f067aa0ba902b7-01"}, None),
    ],
)
def test_the_trace_of_the_headers(headers, found):
    assert trace_id(headers) == found
