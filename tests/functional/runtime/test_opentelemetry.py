"""One trace, from the producer's span to each run: OpenTelemetry's SDK and instrumentation."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import chain, chord, group

from lambda_celery import batch, delay_many
from lambda_celery.schedules import scheduler

pytest.importorskip("opentelemetry.instrumentation.celery")
pytest.importorskip("opentelemetry.instrumentation.botocore")

from opentelemetry import baggage, context, propagate, trace
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

WAIT_SECONDS = 30


class Traced:
    """The spans that have ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    def request(self) -> Any:
        """The span of a user's request, as a context."""
        return self.tracer.start_as_current_span("request")

    def named(self, name: str) -> list[ReadableSpan]:
        found = [each for each in self.exporter.get_finished_spans() if each.name == name]
        return sorted(found, key=lambda each: each.start_time or 0)

    def parent(self, span: ReadableSpan) -> ReadableSpan:
        assert span.parent is not None, f"{span.name} has no parent"
        spans = self.exporter.get_finished_spans()
        (found,) = (each for each in spans if each.context.span_id == span.parent.span_id)
        return found

    def way(self, span: ReadableSpan) -> list[str]:
        """The names of the spans from the request to *span*."""
        names = [span.name]
        while span.parent is not None:
            span = self.parent(span)
            names.insert(0, span.name)
        return names

    @property
    def trace_ids(self) -> set[int]:
        return {each.context.trace_id for each in self.exporter.get_finished_spans()}


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    CeleryInstrumentor().instrument(tracer_provider=made.provider)
    yield made
    CeleryInstrumentor().uninstrument()


def run_all(runtime: Any) -> None:
    """Deliver until nothing is on the queue."""
    while runtime.stack.depth():
        runtime.deliver()


def test_a_run_is_in_the_trace_of_its_producer_with_its_state_and_baggage(runtime, traced):
    seen: list[Any] = []

    @runtime.task(name="proj.send")
    def send() -> None:
        span = trace.get_current_span().get_span_context()
        seen.append((span.trace_state.get("vendor"), baggage.get_baggage("customer")))

    remote = SpanContext(
        0xA1, 0xB2, True, TraceFlags(TraceFlags.SAMPLED), TraceState([("vendor", "x")])
    )
    token = context.attach(trace.set_span_in_context(NonRecordingSpan(remote)))
    token_of_baggage = context.attach(baggage.set_baggage("customer", "42"))
    send.delay()
    context.detach(token_of_baggage)
    context.detach(token)
    assert runtime.deliver().all_deleted

    assert traced.trace_ids == {0xA1}
    assert seen == [("x", "42")]
    (ran,) = traced.named("run/proj.send")
    assert traced.parent(ran).name == "apply_async/proj.send"
    assert len(traced.exporter.get_finished_spans()) == 2


def test_a_retry_is_in_the_trace_of_the_run_that_made_it(runtime, traced):
    @runtime.task(name="proj.by_hand", bind=True)
    def by_hand(self: Any) -> None:
        if not self.request.retries:
            raise self.retry(countdown=0)

    @runtime.task(
        name="proj.by_itself", bind=True, autoretry_for=(ValueError,), default_retry_delay=0
    )
    def by_itself(self: Any) -> None:
        if not self.request.retries:
            raise ValueError("451")

    with traced.request():
        by_hand.delay()
        by_itself.delay()
    run_all(runtime)

    assert len(traced.trace_ids) == 1
    for name in ("proj.by_hand", "proj.by_itself"):
        first, second = traced.named(f"run/{name}")
        assert traced.way(first) == ["request", f"apply_async/{name}", f"run/{name}"]
        assert traced.way(second) == [*traced.way(first), f"apply_async/{name}", f"run/{name}"]


def test_a_message_that_comes_back_has_a_span_for_each_attempt(runtime, traced):
    attempts: list[int] = []

    @runtime.task(name="proj.send")
    def send() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("451")

    with traced.request():
        send.delay()
    assert runtime.deliver().all_returned
    assert runtime.deliver().all_deleted

    first, second = traced.named("run/proj.send")
    (published,) = traced.named("apply_async/proj.send")
    assert traced.parent(first) == traced.parent(second) == published
    assert first.context.span_id != second.context.span_id
    assert first.attributes is not None
    assert "451" in str(first.attributes["celery.retry.reason"])
    assert len(traced.trace_ids) == 1


def test_what_is_sent_on_until_it_is_due_keeps_its_parent(runtime, traced, faults):
    sent = faults.watch(runtime.settings, "sqs", "SendMessage")

    @runtime.task(name="proj.send")
    def send() -> None:
        pass

    with traced.request():
        send.apply_async(countdown=5, DelaySeconds=0)
    runtime.deliver()
    assert len(sent) == 2  # it was early
    assert runtime.deliver().all_deleted

    (ran,) = traced.named("run/proj.send")
    assert traced.way(ran) == ["request", "apply_async/proj.send", "run/proj.send"]


def test_a_redrive_runs_in_the_trace_of_the_first_call(make_runtime, traced):
    runtime = make_runtime(lambda_max_receive_count=1)
    failing = [True]

    @runtime.task(name="proj.send")
    def send() -> None:
        if failing:
            raise ValueError(failing.pop())

    with traced.request():
        send.delay()
    runtime.deliver()
    (parked,) = runtime.stack.dead_letters()
    runtime.send_copy({"Body": parked["Body"]})
    assert runtime.deliver().all_deleted

    first, second = traced.named("run/proj.send")
    assert not first.status.is_ok
    assert second.status.is_unset
    assert traced.way(first) == traced.way(second)
    assert len(traced.trace_ids) == 1


def test_a_canvas_is_one_trace(runtime, traced):
    @runtime.task(name="proj.step")
    def step(name: str) -> str:
        return name

    @runtime.task(name="proj.collect")
    def collect(names: list[str]) -> None:
        pass

    with traced.request():
        chain(step.si("a"), group(step.si("b"), step.si("c"))).delay()
        chord([step.si("d"), step.si("e")], collect.s()).delay()
    run_all(runtime)

    assert len(traced.trace_ids) == 1
    assert len(traced.named("run/proj.step")) == 5
    (collected,) = traced.named("run/proj.collect")
    step_by_step = ["apply_async/proj.step", "run/proj.step"]
    assert traced.way(collected) == [
        "request", *step_by_step, "apply_async/proj.collect", "run/proj.collect"
    ]  # fmt: skip
    ways = sorted(traced.way(each) for each in traced.named("run/proj.step"))
    assert ways.count(["request", *step_by_step]) == 3
    assert ways.count(["request", *step_by_step, *step_by_step]) == 2


@pytest.mark.parametrize("way", ["delay_many", "batch"])
def test_of_many_messages_each_has_a_parent_of_its_own(runtime, traced, way):
    @runtime.task(name="proj.send")
    def send(n: int) -> None:
        pass

    with traced.request():
        if way == "delay_many":
            delay_many(send, ((n,) for n in range(12)))
        else:
            with batch():
                for n in range(12):
                    send.delay(n)
    assert runtime.deliver(12).all_deleted

    runs = traced.named("run/proj.send")
    published = [traced.parent(each) for each in runs]
    assert len({each.context.span_id for each in published}) == len(runs) == 12
    for ran, call in zip(runs, published, strict=True):
        assert ran.attributes is not None
        assert call.attributes is not None
        assert ran.attributes["messaging.message.id"] == call.attributes["messaging.message.id"]
        assert traced.parent(call).name == "request"
    assert len(traced.trace_ids) == 1


def test_what_a_schedule_sends_is_in_the_trace_of_the_call(make_runtime, traced, faults):
    group_name = f"test-{uuid.uuid4().hex[:12]}"
    runtime = make_runtime(
        lambda_schedule_group=group_name,
        lambda_schedule_role_arn="arn:aws:iam::000000000000:role/scheduler",
    )
    scheduler.ensure_group(runtime.settings)
    created = faults.watch(runtime.settings, "scheduler", "CreateSchedule")

    @runtime.task(name="proj.send")
    def send() -> None:
        pass

    with traced.request():
        send.apply_async(countdown=86_400)
    # When: its day has come
    envelope = json.loads(base64.b64decode(created[0]["Target"]["Input"]))
    envelope["headers"]["eta"] = datetime.now(UTC).isoformat()
    runtime.send_copy({"Body": base64.b64encode(json.dumps(envelope).encode()).decode()})
    assert runtime.deliver().all_deleted

    (ran,) = traced.named("run/proj.send")
    assert traced.way(ran) == ["request", "apply_async/proj.send", "run/proj.send"]


@pytest.fixture
def xrays_propagator() -> Iterator[None]:
    aws = pytest.importorskip("opentelemetry.propagators.aws")
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(aws.AwsXRayPropagator())
    yield
    propagate.set_global_textmap(before)


@pytest.mark.usefixtures("xrays_propagator")
def test_xrays_propagator_names_the_trace_to_sqs_as_well(runtime, traced):
    @runtime.task(name="proj.send")
    def send() -> None:
        pass

    with traced.request():
        send.delay()
    (message,) = runtime.receive()
    assert runtime.hand_over([message]).all_deleted

    (ran,) = traced.named("run/proj.send")
    assert traced.way(ran) == ["request", "apply_async/proj.send", "run/proj.send"]
    (trace_id,) = (f"{each:032x}" for each in traced.trace_ids)
    header = message["Attributes"]["AWSTraceHeader"]
    assert header.startswith(f"Root=1-{trace_id[:8]}-{trace_id[8:]};Parent=")


def test_a_call_by_name_is_in_the_trace_although_its_span_ends_early(runtime, web, traced):
    @runtime.task(name="proj.send")
    def send() -> None:
        pass

    with traced.request():
        web.send_task("proj.send")
    assert runtime.deliver().all_deleted
    (ran,) = traced.named("run/proj.send")
    assert traced.way(ran) == ["request", "apply_async/proj.send", "run/proj.send"]


@pytest.mark.parametrize("is_async", [False, True], ids=["threads", "event loop"])
def test_tasks_that_run_at_the_same_time_keep_their_spans_apart(make_runtime, traced, is_async):
    runtime = make_runtime(lambda_concurrency=4)
    inside: dict[str, int] = {}

    def note(task: Any) -> None:
        inside[task.request.id] = trace.get_current_span().get_span_context().span_id
        with traced.tracer.start_as_current_span("work"):
            pass

    @runtime.task(name="proj.threaded", bind=True)
    def threaded(self: Any) -> None:
        note(self)

    @runtime.task(name="proj.looped", bind=True)
    async def looped(self: Any) -> None:
        note(self)

    task = looped if is_async else threaded
    for _ in range(8):
        with traced.request():
            task.delay()
    assert runtime.deliver(8).all_deleted

    runs = traced.named(f"run/{task.name}")
    assert len(runs) == 8
    assert len(traced.trace_ids) == 8
    for each in runs:
        assert each.attributes is not None
        assert inside[str(each.attributes["messaging.message.id"])] == each.context.span_id
    for each in traced.named("work"):
        assert traced.way(each) == [
            "request",
            f"apply_async/{task.name}",
            f"run/{task.name}",
            "work",
        ]


@pytest.mark.parametrize("concurrency", [1, 2])
def test_what_ends_a_body_is_the_spans_error_and_leaves_no_span_behind(
    make_runtime, traced, concurrency
):
    runtime = make_runtime(lambda_max_receive_count=1, lambda_concurrency=concurrency)

    @runtime.task(name="proj.hang", time_limit=0.3)
    def hang() -> None:
        while True:
            time.sleep(0.01)  # on a thread, a limit strikes between two of them

    @runtime.task(name="proj.end")
    def end() -> None:
        raise SystemExit("the end")

    for task in (hang, end):
        with traced.request():
            task.delay()
        assert runtime.deliver().all_deleted
        assert not trace.get_current_span().get_span_context().is_valid

    for name, error in (("proj.hang", "TimeLimitExceeded"), ("proj.end", "SystemExit")):
        (ran,) = traced.named(f"run/{name}")
        assert not ran.status.is_ok
        assert error in str(ran.status.description)


class TestBotocore:
    """Each request to AWS is a client's span, of the trace that it is made in."""

    @pytest.fixture(autouse=True)
    def requests(self, traced) -> Iterator[None]:
        BotocoreInstrumentor().instrument(tracer_provider=traced.provider)
        yield
        BotocoreInstrumentor().uninstrument()

    def test_the_request_that_sends_is_a_child_of_the_publish(self, runtime, traced):
        @runtime.task(name="proj.send")
        def send() -> None:
            pass

        with traced.request():
            send.delay()
        published = traced.named("apply_async/proj.send")
        requests = [each for each in traced.exporter.get_finished_spans() if is_send(each)]
        assert [traced.parent(each) for each in requests] == published
        assert runtime.deliver().all_deleted
        assert len(traced.named("run/proj.send")) == 1

    def test_requests_that_serve_several_tasks_are_in_none_of_their_traces(
        self, make_runtime, traced
    ):
        runtime = make_runtime(lambda_concurrency=4)

        @runtime.task(name="proj.send")
        def send() -> None:
            pass

        for _ in range(4):
            with traced.request():
                send.delay()
        traced.exporter.clear()
        assert runtime.deliver(4).all_deleted

        runs = traced.named("run/proj.send")
        traces = {each.context.trace_id for each in runs}
        assert len(traces) == len(runs) == 4
        spans = traced.exporter.get_finished_spans()
        of_table = [each for each in spans if each.name.startswith("DynamoDB.")]
        assert of_table
        assert traces.isdisjoint(each.context.trace_id for each in of_table)

    def test_the_requests_of_a_batch_are_in_its_trace(self, runtime, traced):
        @runtime.task(name="proj.send")
        def send(n: int) -> None:
            pass

        with traced.request():
            send.delay(0)  # asks once how long a message may be
            delay_many(send, ((n,) for n in range(12)))
        requests = [each for each in traced.exporter.get_finished_spans() if is_send(each)]
        assert len(requests) == 3
        (asked_by_itself, *of_the_batch) = map(traced.parent, requests)
        assert asked_by_itself.name == "apply_async/proj.send"
        assert {each.name for each in of_the_batch} == {"request"}


def is_send(span: ReadableSpan) -> bool:
    assert span.attributes is not None
    return str(span.attributes.get("rpc.method", "")).startswith("SendMessage")
