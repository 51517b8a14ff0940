"""Packages that a Celery project has beside this one, unchanged, in real function processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import django
import pytest

from lambda_celery.local.provision import provision

APP = """
import json, os, time
from pathlib import Path
from celery import Celery, signals

app = Celery("proj", broker="amqp://guest@127.0.0.1:1//")
app.conf.update(lambda_tasks=["*"], lambda_retry_backoff_seconds=0)


def note(name, **fields):
    with Path("noted").open("a") as file:
        file.write(json.dumps({"name": name, **fields}) + "\\n")


@app.task(name="proj.send")
def send():
    note("send", process=os.getpid())


@app.task(name="proj.fail")
def fail():
    note("fail", process=os.getpid())
    raise ValueError("451 try again")
"""
PRODUCER = """
from lambda_celery import install
from proj import *

install(app)
"""
SENTRY = """
import sentry_sdk
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport


class Noting(Transport):
    def capture_envelope(self, envelope):
        for item in envelope.items:
            found = item.payload.json or {}
            context = found.get("contexts", {}).get("trace", {})
            values = found.get("exception", {}).get("values") or [{}]
            note(
                item.type, type=values[-1].get("type"), message=found.get("logentry"),
                transaction=found.get("transaction"), trace_id=context.get("trace_id"),
                span_id=context.get("span_id"), parent=context.get("parent_span_id"),
                spans={each["span_id"]: each["op"] for each in found.get("spans") or ()},
                status=context.get("status") or found.get("status"), slug=found.get("monitor_slug"),
            )

    def flush(self, timeout, callback=None):
        note("flush", timeout=timeout)


sentry_sdk.init(
    dsn="http://key@127.0.0.1:1/1", transport=Noting, integrations=[CeleryIntegration()],
    traces_sample_rate=1.0,
)
"""
SENTRY_REQUEST = """
with sentry_sdk.start_transaction(name="request"):
    send_twice.delay()
"""
SENDS_TWICE = """
@app.task(name="proj.send_twice", bind=True)
def send_twice(self):
    if not self.request.retries:
        raise self.retry(countdown=0)
    send.delay()
"""
SENTRY_MONITOR = """
from sentry_sdk.crons import monitor


@app.task(name="proj.nightly")
@monitor(monitor_slug="nightly")
def nightly():
    note("nightly")
"""
OPENTELEMETRY = """
from opentelemetry import trace
from opentelemetry.instrumentation.aws_lambda import AwsLambdaInstrumentor
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult


class Noting(SpanExporter):
    def export(self, spans):
        for each in spans:
            note(
                "span", span=each.name, trace_id=each.context.trace_id,
                span_id=each.context.span_id, parent=each.parent and each.parent.span_id,
                process=os.getpid(),
            )
        return SpanExportResult.SUCCESS


def instrument(**kwargs):
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Noting(), schedule_delay_millis=3_600_000))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()
"""
IN_WORKER_PROCESS_INIT = "signals.worker_process_init.connect(instrument, weak=False)\n"
OF_THE_HANDLER = """
def instrument_handler(**kwargs):
    instrument()
    AwsLambdaInstrumentor().instrument()

signals.worker_process_init.connect(instrument_handler, weak=False)
"""
OF_EVERYTHING = """
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor


def instrument_everything(**kwargs):
    instrument_handler()
    BotocoreInstrumentor().instrument()

signals.worker_process_init.connect(instrument_everything, weak=False)
"""
OPENTELEMETRY_REQUEST = """
instrument()
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
BotocoreInstrumentor().instrument()

with trace.get_tracer("proj").start_as_current_span("request"):
    send.delay()
trace.get_tracer_provider().force_flush()
"""
IN_PROCESSES = """
app.conf.lambda_processes = 2
"""
#: Whoever exports waits for somebody who does not answer.
SLOW = """
def export_slowly(self, spans):
    note("export")
    time.sleep(60)

Noting.export = export_slowly
"""
SLOW_SENTRY = """
def flush_slowly(self, timeout, callback=None):
    note("export")
    time.sleep(60)

Noting.flush = flush_slowly
"""
BATCH_FINISHED = """
from lambda_celery.signals import batch_finished


@batch_finished.connect(weak=False)
def raise_something(**kwargs):
    raise RuntimeError("somebody's bug")


@batch_finished.connect(weak=False)
def flush(context, seconds_left, **kwargs):
    note("batch_finished", request_id=context.aws_request_id, seconds_left=seconds_left)
"""
HANGING = """
from lambda_celery.signals import batch_finished


@batch_finished.connect(weak=False)
def hang(**kwargs):
    note("hang")
    time.sleep(60)
"""
DJANGO_CELERY_EMAIL = """
import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["djcelery_email"],
    EMAIL_BACKEND="djcelery_email.backends.CeleryEmailBackend",
    CELERY_EMAIL_BACKEND="proj.FailsTwice",
    CELERY_EMAIL_CHUNK_SIZE=2,
    CELERY_EMAIL_TASK_CONFIG={"default_retry_delay": 0},
)
django.setup()
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend


class FailsTwice(BaseEmailBackend):
    def send_messages(self, messages):
        refused = Path("noted").exists() and Path("noted").read_text().count("refused")
        note("refused" if refused < 2 else "sent", subject=messages[0].subject)
        if refused < 2:
            raise ConnectionError("451 try again")
        return len(messages)


@app.task(name="proj.send_two")
def send_two():
    equal = [mail.EmailMessage("Hello", "", "from@example.com", ["to@example.com"])] * 2
    mail.get_connection().send_messages(equal)
"""


@pytest.fixture
def run(stack, web, tmp_path, local_function, event_source_mapping) -> Any:
    """Run tasks by name in a function of the app, with more code in it, until all is settled."""

    def run(code: str, *names: str, request: str | None = None) -> list[dict[str, Any]]:
        (tmp_path / "proj.py").write_text(APP + code)
        provision(stack.settings, function_timeout_seconds=10, visibility_timeout_seconds=10)
        function = local_function(
            "lambda_runtime.handler",
            environment={**stack.environment, "LAMBDA_CELERY_APP": "proj:app"},
            timeout_seconds=10,
            maximum_concurrency=1,
        )
        for name in names:
            web.send_task(name)
        if request is not None:
            (tmp_path / "request.py").write_text(PRODUCER + request)
            environment = {
                **os.environ,
                **stack.environment,
                "PYTHONPATH": os.pathsep.join(sys.path),
            }
            subprocess.run(
                [sys.executable, "request.py"],
                cwd=tmp_path, env=environment, check=True, timeout=120,
            )  # fmt: skip
        event_source_mapping(stack, function, maximum_concurrency=1).wait_until_idle(60)
        return noted(tmp_path)

    return run


def noted(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "noted").read_text().splitlines()]


def named(found: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [each for each in found if each["name"] == name]


def test_sentry_reports_a_failure_once_when_its_attempts_are_spent(stack, run):
    pytest.importorskip("sentry_sdk")
    found = run(SENTRY, "proj.fail", "proj.send")

    attempts = len(named(found, "fail"))
    assert attempts > 1
    assert [each["type"] for each in named(found, "event")] == ["ValueError"]
    assert found[-1]["name"] == "flush"
    assert len(stack.dead_letters()) == 1


def test_sentry_has_one_trace_of_a_request_with_a_transaction_for_each_run(run):
    pytest.importorskip("sentry_sdk")
    found = named(run(SENTRY + SENDS_TWICE, request=SENTRY_REQUEST), "transaction")

    names = ["request", "proj.send_twice", "proj.send_twice", "proj.send"]
    assert [each["transaction"] for each in found] == names
    assert len({each["trace_id"] for each in found}) == 1
    for before, after in pairwise(found):
        assert before["spans"][after["parent"]] == "queue.submit.celery"


def test_sentry_has_two_check_ins_of_a_run_that_is_monitored(run):
    pytest.importorskip("sentry_sdk")
    found = named(run(SENTRY + SENTRY_MONITOR, "proj.nightly"), "check_in")

    assert [each["status"] for each in found] == ["in_progress", "ok"]
    assert {each["slug"] for each in found} == {"nightly"}


@pytest.mark.parametrize("way", [IN_WORKER_PROCESS_INIT, OF_THE_HANDLER], ids=["tasks", "handler"])
def test_opentelemetry_has_sent_its_spans_when_lambda_gets_its_answer(run, way):
    pytest.importorskip("opentelemetry.instrumentation.celery")
    pytest.importorskip("opentelemetry.instrumentation.aws_lambda")
    found = run(OPENTELEMETRY + way, "proj.send")

    spans = [each["span"] for each in named(found, "span")]
    assert spans.count("run/proj.send") == 1
    assert ("lambda-celery-local" in spans) == (way is OF_THE_HANDLER)  # the function's name


def test_opentelemetry_has_one_span_of_a_call_a_run_an_invocation_and_a_request_to_aws(run):
    for package in ("aws_lambda", "botocore", "celery"):
        pytest.importorskip(f"opentelemetry.instrumentation.{package}")
    found = run(
        OPENTELEMETRY + OF_THE_HANDLER.rpartition("signals")[0] + OF_EVERYTHING,
        request=OPENTELEMETRY_REQUEST,
    )
    spans = named(found, "span")
    by_id = {each["span_id"]: each for each in spans}

    def ways(name: str) -> list[list[str]]:
        found = []
        for span in [each for each in spans if each["span"] == name]:
            way = [name]
            while span["parent"]:
                span = by_id[span["parent"]]
                way.insert(0, span["span"])
            found.append(way)
        return found

    call = ["request", "apply_async/proj.send"]
    assert ways("SQS.SendMessage") == [[*call, "SQS.SendMessage"]]
    assert ways("run/proj.send") == [[*call, "run/proj.send"]]
    assert ways("lambda-celery-local") == [["lambda-celery-local"]]
    assert sorted(set(by_id)) == sorted(each["span_id"] for each in spans)
    requests = [each["span"] for each in spans if each["span"].startswith("DynamoDB.")]
    assert requests
    for each in set(requests):  # what keeps a task from running twice is of the invocation
        assert {way[0] for way in ways(each)} == {"lambda-celery-local"}
        assert not any("run/proj.send" in way for way in ways(each))


def test_each_process_of_lambda_processes_has_sent_its_spans(run):
    pytest.importorskip("opentelemetry.instrumentation.celery")
    code = OPENTELEMETRY + IN_WORKER_PROCESS_INIT + IN_PROCESSES
    found = run(code, *["proj.send"] * 4)

    ran = [each for each in named(found, "span") if each["span"] == "run/proj.send"]
    assert len({each["span_id"] for each in ran}) == len(ran) == 4
    assert {each["process"] for each in ran} <= {each["process"] for each in named(found, "send")}


@pytest.mark.parametrize(
    "code",
    [OPENTELEMETRY + SLOW + IN_WORKER_PROCESS_INIT, SENTRY + SLOW_SENTRY],
    ids=["opentelemetry", "sentry"],
)
def test_data_that_cannot_be_sent_does_not_keep_the_answer(stack, run, code):
    pytest.importorskip("opentelemetry.instrumentation.celery")
    pytest.importorskip("sentry_sdk")
    found = run(code, "proj.send", "proj.fail")

    # Were the answer kept, the process would be ended with the function's time-out.
    assert len(named(found, "export")) >= len(named(found, "fail")) > 1
    assert {each["process"] for each in named(found, "fail")} == {found[0]["process"]}
    assert len(stack.dead_letters()) == 1


def test_batch_finished_is_sent_before_the_answer_whatever_other_receivers_do(run):
    found = run(BATCH_FINISHED, "proj.send")

    (finished,) = named(found, "batch_finished")
    assert finished["request_id"]
    assert finished["seconds_left"] > 0
    assert [each["name"] for each in found] == ["send", "batch_finished"]


def test_a_receiver_that_hangs_does_not_keep_the_answer(stack, run):
    found = run(HANGING, "proj.send")

    assert [each["name"] for each in found] == ["send", "hang"]
    assert stack.depth(stack.dead_letter_queue_url) == 0


def test_django_celery_email_sends_two_equal_mails_that_have_both_failed(stack, run):
    pytest.importorskip("djcelery_email")
    if django.VERSION >= (6, 0):
        pytest.skip("django-celery-email 3.0 is for Django up to 5.2.")
    found = run(DJANGO_CELERY_EMAIL, "proj.send_two")

    assert [each["name"] for each in found] == ["refused", "refused", "sent", "sent"]
    assert stack.dead_letters() == []


class TestLocks:
    """A task of which one call at a time may wait."""

    @pytest.fixture
    def celery_once(self, redis_url) -> Any:
        package = pytest.importorskip("celery_once")
        settings = {"url": redis_url, "default_timeout": 60}
        conf = {"ONCE": {"backend": "celery_once.backends.Redis", "settings": settings}}
        return {"base": package.QueueOnce, "once": {"graceful": True}}, conf

    @pytest.fixture
    def celery_singleton(self, redis_url) -> Any:
        package = pytest.importorskip("celery_singleton")
        return {"base": package.Singleton}, {"singleton_backend_url": redis_url}

    @pytest.fixture(params=["celery_once", "celery_singleton"])
    def runtime_and_send(self, request, make_runtime) -> Any:
        options, conf = request.getfixturevalue(request.param)
        runtime = make_runtime(**conf)
        ran: list[int] = []

        @runtime.task(name=f"proj.{request.node.name}", **options)
        def send(n: int) -> None:
            ran.append(n)

        return runtime, send, ran

    def test_a_second_call_is_not_sent_until_the_first_has_run(self, runtime_and_send):
        runtime, send, ran = runtime_and_send
        send.delay(1)
        send.delay(1)
        assert runtime.deliver().all_deleted
        assert runtime.stack.depth() == 0
        send.delay(1)
        assert runtime.deliver().all_deleted
        assert ran == [1, 1]

    def test_a_failure_that_comes_back_keeps_its_lock_until_it_is_settled(
        self, request, make_runtime, celery_singleton
    ):
        options, conf = celery_singleton
        runtime = make_runtime(lambda_max_receive_count=2, **conf)

        @runtime.task(name=f"proj.{request.node.name}", **options)
        def send() -> None:
            raise ValueError("451")

        first = send.delay()
        assert runtime.deliver().all_returned
        assert send.delay().id == first.id  # it still waits
        assert runtime.deliver().all_deleted  # parked
        assert send.delay().id != first.id
