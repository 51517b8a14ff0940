"""The set-up that docs/observability.md tells, in real processes, before what takes its data."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from lambda_celery.local.provision import provision

PAGE = (Path(__file__).parents[3] / "docs/observability.md").read_text()
APP = """
from celery import Celery
from lambda_celery import install

app = Celery("proj", broker="amqp://guest@127.0.0.1:1//")
app.conf.update(lambda_tasks=["*"], lambda_retry_backoff_seconds=0)
install(app)


@app.task
def send():
    pass
"""


def recipe(heading: str) -> str:
    """Return the Python of a section of the page."""
    section = PAGE.partition(f"\n### {heading}\n")[2].partition("\n##")[0]
    return "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))


class Collector(ThreadingHTTPServer):
    """Takes what is posted, and answers that all is well."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Posted)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Posted(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_packed = self.headers.get("Content-Encoding") == "gzip"
        self.server.bodies.append(gzip.decompress(body) if is_packed else body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def run(stack, tmp_path, local_function, event_source_mapping) -> Callable[..., None]:
    """Make a request in a web process of the app, and run what it has called."""

    def run(code: str, request: str, **variables: str) -> None:
        (tmp_path / "proj.py").write_text(APP + code)
        (tmp_path / "web.py").write_text("from proj import *\n" + request)
        provision(stack.settings, function_timeout_seconds=10, visibility_timeout_seconds=10)
        environment = {**stack.environment, **variables}
        path = os.pathsep.join(sys.path)
        subprocess.run(
            [sys.executable, "web.py"],
            cwd=tmp_path, env={**os.environ, **environment, "PYTHONPATH": path},
            check=True, timeout=120,
        )  # fmt: skip
        function = local_function(
            "lambda_runtime.handler",
            environment={**environment, "LAMBDA_CELERY_APP": "proj:app"},
            timeout_seconds=10,
            maximum_concurrency=1,
        )
        event_source_mapping(stack, function, maximum_concurrency=1).wait_until_idle(60)

    return run


def test_opentelemetry(run, collector):
    pytest.importorskip("opentelemetry.instrumentation.celery")
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = "trace_tasks()\nsend.delay()\ntrace.get_tracer_provider().force_flush()\n"
    address = f"http://{collector.address}"
    run(
        recipe("OpenTelemetry"), request,
        OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_SERVICE_NAME="mail",
    )  # fmt: skip

    sent = [ExportTraceServiceRequest.FromString(each) for each in collector.bodies]
    of_resources = [each for request in sent for each in request.resource_spans]
    spans = [span for each in of_resources for scope in each.scope_spans for span in scope.spans]
    called, ran = spans
    assert (called.name, ran.name) == ("apply_async/proj.send", "run/proj.send")
    assert (ran.trace_id, ran.parent_span_id) == (called.trace_id, called.span_id)
    services = {
        each.value.string_value
        for resource in of_resources
        for each in resource.resource.attributes
        if each.key == "service.name"
    }
    assert services == {"mail"}


def test_sentry(run, collector):
    pytest.importorskip("sentry_sdk")
    request = """
with sentry_sdk.start_transaction(name="request"):
    send.delay()
    nightly.delay()
sentry_sdk.flush()
"""
    run(recipe("Sentry"), request, SENTRY_DSN=f"http://key@{collector.address}/1")

    items = []
    for body in collector.bodies:
        _, *lines = body.splitlines()
        for line in lines:
            item = json.loads(line)
            if "transaction" in item or "monitor_slug" in item:
                items.append(item)
    transactions = [each for each in items if "transaction" in each]
    assert sorted(each["transaction"] for each in transactions) == [
        "proj.nightly", "proj.send", "request"
    ]  # fmt: skip
    assert len({each["contexts"]["trace"]["trace_id"] for each in transactions}) == 1
    check_ins = [each["status"] for each in items if each.get("monitor_slug") == "nightly"]
    assert check_ins == ["in_progress", "ok"]
