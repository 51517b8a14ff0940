"""A chord's body runs once, with all of its parts' results, whatever is delivered twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from celery import Celery, chain, chord, group, signals
from celery.exceptions import BackendGetMetaError, BackendStoreError
from celery.result import AsyncResult

from lambda_celery.envelope import read_envelope
from lambda_celery.results import DynamoDBBackend

DAY_SECONDS = 86_400
#: What makes or describes tables: none of it is the runtime's to call.
TABLE_OPERATIONS = ("CreateTable", "DescribeTable", "DescribeTimeToLive", "UpdateTimeToLive")


@pytest.fixture
def on_dynamodb(make_runtime, results_table) -> Any:
    return make_runtime(result_backend=f"lambda-dynamodb:///{results_table}")


@pytest.fixture
def on_redis(make_runtime, redis_url) -> Any:
    return make_runtime(result_backend=redis_url)


@pytest.fixture(params=["redis", "redis, unordered", "dynamodb"])
def runtime(request, make_runtime) -> Iterator[Any]:
    """A runtime for each result back end whose chords count a part once."""
    if request.param == "dynamodb":
        return request.getfixturevalue("on_dynamodb")
    ordered = request.param == "redis"
    return make_runtime(
        result_backend=request.getfixturevalue("redis_url"),
        result_backend_transport_options={"result_chord_ordered": ordered},
    )


@pytest.fixture
def bodies() -> list[list[Any]]:
    """The arguments of each run of a chord's body."""
    return []


@pytest.fixture
def start(runtime, bodies) -> Callable[[int], AsyncResult]:
    """Start a chord of as many parts, with a body that is noted in *bodies*."""
    runs: list[int] = []

    @runtime.task
    def part(number):
        runs.append(number)
        # A run again has another result, as where a time or an id is in it.
        return f"{number}, run {runs.count(number)}"

    @runtime.task(name="proj.body")
    def body(results):
        bodies.append(sorted(results))

    return lambda n: chord([part.s(number) for number in range(n)])(body.s())


def die_and_come_again(runtime: Any, messages: list[dict[str, Any]], task: str = "part") -> Any:
    """Deliver *messages* once more, as if the process had died before it noted the task's run."""
    for each in runtime.records():
        if each["id"].partition("#")[0].endswith(f".{task}"):
            runtime.stack.dynamodb.delete_item(
                TableName=runtime.settings.idempotency_table, Key={"id": {"S": each["id"]}}
            )
    for message in messages:
        message["Attributes"]["ApproximateReceiveCount"] = "2"
    return runtime.hand_over(messages)


def queued(runtime: Any) -> int:
    return int(runtime.stack.depth())


class TestEveryBackEnd:
    def test_the_body_runs_once_with_all_results(self, runtime, start, bodies):
        result = start(3)

        assert runtime.deliver(3).all_deleted
        assert runtime.deliver().all_deleted  # the body

        assert bodies == [["0, run 1", "1, run 1", "2, run 1"]]
        assert AsyncResult(result.id, app=runtime.app).state == "SUCCESS"
        assert queued(runtime) == 0

    def test_the_body_does_not_start_early_when_a_part_that_was_counted_runs_again(
        self, runtime, start, bodies
    ):
        start(3)
        messages = runtime.receive(3)

        runtime.invoke(messages[:2])
        assert die_and_come_again(runtime, messages[:2]).all_deleted
        assert queued(runtime) == 1  # the third part

        assert runtime.hand_over(messages[2:]).all_deleted
        assert runtime.deliver().all_deleted
        assert bodies == [["0, run 1", "1, run 1", "2, run 1"]]
        assert queued(runtime) == 0

    def test_the_body_is_not_published_again_when_a_part_comes_after_its_end(
        self, runtime, start, bodies
    ):
        start(2)
        messages = runtime.receive(2)
        runtime.invoke(messages)

        assert die_and_come_again(runtime, messages).all_deleted

        assert runtime.deliver().all_deleted
        assert bodies == [["0, run 1", "1, run 1"]]
        assert queued(runtime) == 0

    def test_a_body_that_cannot_be_published_parks_the_last_part(
        self, runtime, start, bodies, faults
    ):
        """Celery fails the chord then, although its parts have all succeeded."""
        result = start(2)
        assert runtime.deliver().all_deleted
        (message,) = runtime.receive()
        asked = faults.watch(runtime.settings, "sqs", "SendMessage")
        refuse = "before-send.sqs.SendMessage"

        def fail_for_the_queue(request: Any, **_: Any) -> None:
            if runtime.stack.dead_letter_queue_url not in str(request.body):
                raise EndpointConnectionError(endpoint_url="the queue")

        events = runtime.stack.sqs.meta.events
        events.register(refuse, fail_for_the_queue)
        assert runtime.hand_over([message]).all_deleted
        events.unregister(refuse, fail_for_the_queue)

        assert asked
        (parked,) = runtime.stack.dead_letters()
        reason = parked["MessageAttributes"]["LambdaCeleryReason"]["StringValue"]
        assert reason == "ran to its end, but what follows it failed"
        assert AsyncResult(result.id, app=runtime.app).state == "FAILURE"
        assert bodies == []

    def test_a_chord_that_is_published_twice_goes_on_counting(self, runtime, bodies):
        """The step before it ran, published the chord, died, and runs again."""

        @runtime.task
        def first():
            """The step before."""

        @runtime.task
        def part(number):
            return number

        @runtime.task
        def body(results):
            bodies.append(sorted(results))

        chain(first.si(), group(part.si(n) for n in range(3)), body.s()).delay()
        step = runtime.receive()
        runtime.invoke(step)
        parts = runtime.receive(3)
        runtime.hand_over(parts[:2])

        die_and_come_again(runtime, step, "first")
        copies = runtime.receive(3)
        runtime.hand_over([*parts[2:], *copies])

        assert runtime.deliver().all_deleted
        assert bodies == [[0, 1, 2]]
        assert queued(runtime) == 0

    def test_a_failed_part_fails_the_body_once(self, runtime, bodies):
        errors = []

        @runtime.task(max_retries=0)
        def part(number):
            if number == 1:
                raise ValueError("part 1")
            return number

        @runtime.task
        def body(results):
            bodies.append(results)

        @runtime.task
        def on_error(request, exc, traceback):
            errors.append(str(exc))

        result = chord(part.s(n) for n in range(2))(body.s().on_error(on_error.s()))
        messages = runtime.receive(2)
        runtime.invoke(messages)
        die_and_come_again(runtime, messages)

        assert AsyncResult(result.id, app=runtime.app).state == "FAILURE"
        assert bodies == []
        assert len(errors) == 1


def throttle(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Answer each BatchGetItem with nothing but what is left to read."""
    reads: list[Any] = []

    class Throttled:
        def batch_get_item(self, RequestItems: Any) -> Any:  # noqa: N803
            reads.append(RequestItems)
            return {"Responses": {}, "UnprocessedKeys": RequestItems}

    monkeypatch.setattr(type(runtime.app.backend), "client", Throttled())
    return reads


class TestDynamoDB:
    @pytest.fixture
    def runtime(self, on_dynamodb):
        return on_dynamodb

    @pytest.fixture
    def items(self, runtime, results_table):
        """Return what is in the table, by the beginning of the key."""

        def items(prefix: str) -> list[dict[str, Any]]:
            found = boto3.client("dynamodb").scan(TableName=results_table)["Items"]
            return [item for item in found if item["id"]["S"].startswith(f"b'{prefix}")]

        return items

    def test_results_that_cannot_be_read_park_the_last_part(self, runtime, start, faults):
        faults.fail(
            runtime.settings, "dynamodb", "BatchGetItem", "ProvisionedThroughputExceededException"
        )
        start(2)
        assert runtime.deliver(2).all_deleted

        (parked,) = runtime.stack.dead_letters()
        reason = parked["MessageAttributes"]["LambdaCeleryReason"]["StringValue"]
        assert reason == "ran to its end, but what follows it failed"

    def test_a_throttled_read_is_given_up_in_the_end(self, runtime, monkeypatch):
        backend = runtime.app.backend
        pauses: list[float] = []
        monkeypatch.setattr("lambda_celery.results.time.sleep", pauses.append)
        reads = throttle(runtime, monkeypatch)

        with pytest.raises(BackendGetMetaError):
            backend.mget(["a", "b"])

        assert len(reads) == len(pauses) + 1
        assert pauses == sorted(set(pauses))

    def test_the_table_is_neither_made_nor_described(self, runtime, start, faults):
        calls = {
            operation: faults.watch(runtime.settings, "dynamodb", operation)
            for operation in (*TABLE_OPERATIONS, "UpdateItem")
        }
        start(2)
        runtime.deliver(2)
        runtime.deliver()

        assert calls.pop("UpdateItem")  # it is the client that is watched
        assert calls == {operation: [] for operation in TABLE_OPERATIONS}

    def test_every_item_expires(self, runtime, start, items):
        start(2)
        runtime.deliver()
        now = time.time()

        found = [*items("celery-task-meta-"), *items("celery-taskset-meta-"), *items("chord-")]

        assert len(found) == 3
        for item in found:
            assert now + DAY_SECONDS - 60 < int(item["ttl"]["N"]) < now + DAY_SECONDS + 60

    def test_nothing_expires_where_results_do_not(self, runtime, start, bodies, items):
        runtime.app.conf.result_expires = None
        start(2)
        runtime.deliver(2)
        runtime.deliver()

        assert bodies == [["0, run 1", "1, run 1"]]
        assert items("celery-task-meta-")
        assert not any("ttl" in item for item in [*items("celery-"), *items("chord-")])

    def test_all_reads_are_consistent(self, runtime, results_table, start, faults):
        """A part may start before its group is to be read everywhere, and the body likewise."""
        single = faults.watch(runtime.settings, "dynamodb", "GetItem")
        batches = faults.watch(runtime.settings, "dynamodb", "BatchGetItem")
        start(2)
        runtime.deliver(2)

        reads = [each for each in single if each["TableName"] == results_table]
        reads += [each["RequestItems"][results_table] for each in batches]

        assert batches
        assert all(each["ConsistentRead"] for each in reads)

    @pytest.fixture
    def die_with_the_body_published(self, runtime, faults):
        """Deliver the last part of a chord; nothing more is written when its body has left."""

        def deliver(message: dict[str, Any]) -> None:
            undo = []

            def stop_writing(sender, **kwargs):
                if sender == "proj.body":
                    refused = ("dynamodb", "UpdateItem", "InternalServerError")
                    undo.append(faults.fail(runtime.settings, *refused))

            signals.after_task_publish.connect(stop_writing)
            with pytest.warns(RuntimeWarning, match="Exception raised outside body"):
                runtime.invoke([message])
            signals.after_task_publish.disconnect(stop_writing)
            undo.pop()()

        return deliver

    def test_a_last_part_whose_process_died_while_ending_the_chord_ends_it(
        self, runtime, start, bodies, die_with_the_body_published
    ):
        start(2)
        first, last = runtime.receive(2)
        runtime.hand_over([first])
        die_with_the_body_published(last)

        assert die_and_come_again(runtime, [last]).all_deleted

        assert runtime.deliver(2).all_deleted  # the body, and a copy that is dropped
        assert bodies == [["0, run 1", "1, run 1"]]
        assert queued(runtime) == 0

    def test_another_part_that_comes_again_leaves_the_end_to_the_last_one(
        self, runtime, start, die_with_the_body_published
    ):
        start(2)
        first, last = runtime.receive(2)
        runtime.invoke([first])
        die_with_the_body_published(last)
        before = queued(runtime)

        assert die_and_come_again(runtime, [first]).all_deleted

        assert queued(runtime) == before - 1  # the part is deleted; no other body

    def test_a_part_may_run_while_the_others_are_still_being_published(
        self, runtime, start, bodies
    ):
        early = []

        def run_at_once(sender, **kwargs):
            if not early:
                early.append(sender)
                assert runtime.deliver().all_deleted

        signals.after_task_publish.connect(run_at_once)
        start(3)
        signals.after_task_publish.disconnect(run_at_once)

        runtime.deliver(2)
        runtime.deliver()
        assert bodies == [["0, run 1", "1, run 1", "2, run 1"]]

    def test_a_plain_result_is_read_by_celerys_own_back_end(self, runtime, results_table):
        @runtime.task
        def add(x, y):
            return x + y

        result = add.delay(1, 2)
        runtime.deliver()

        stock = f"dynamodb://@{runtime.settings.region}/{results_table}"
        theirs = Celery("web", backend=stock, set_as_current=False)

        assert AsyncResult(result.id, app=theirs).result == 3

    def test_many_results_are_read_in_batches(self, runtime, faults):
        @runtime.task
        def double(n):
            return 2 * n

        result = group(double.s(n) for n in range(101))()
        for _ in range(11):
            runtime.deliver(min(10, runtime.stack.depth()))
        reads = faults.watch(runtime.settings, "dynamodb", "BatchGetItem")

        assert result.join_native(disable_sync_subtasks=False) == [2 * n for n in range(101)]
        assert len(reads) == 2

    def test_a_chord_that_does_not_fit_is_refused_before_any_part_is_sent(self, runtime, start):
        with pytest.raises(BackendStoreError, match="split the chord"):
            start(8000)

        assert queued(runtime) == 0

    def test_the_url_may_name_region_endpoint_table_and_life(self, runtime, aws_endpoint):
        runtime.app.conf.result_expires = 60
        port = aws_endpoint.rpartition(":")[2]

        by_url = DynamoDBBackend(
            app=runtime.app, url=f"dynamodb://key:secret@127.0.0.1:{port}/mine?ttl_seconds=3600"
        )
        in_region = DynamoDBBackend(app=runtime.app, url="dynamodb://@us-west-2/mine")
        bare = DynamoDBBackend(app=runtime.app, url="dynamodb:///mine")

        assert by_url.table_name == "mine"
        assert by_url.time_to_live_seconds == 3600
        assert by_url.client.meta.endpoint_url == f"http://127.0.0.1:{port}"
        assert in_region.client.meta.region_name == "us-west-2"
        assert bare.client.meta.region_name == runtime.settings.region
        assert bare.time_to_live_seconds == 60


class TestRedis:
    @pytest.fixture
    def runtime(self, on_redis):
        return on_redis

    def test_a_last_part_whose_process_died_while_ending_the_chord_ends_it(
        self, runtime, start, bodies
    ):
        start(2)
        messages = runtime.receive(2)
        backend = runtime.app.backend
        runtime.hand_over(messages[:1])
        group_id = read_envelope(messages[1]["Body"])["headers"]["group"]
        # Celery's claim on the chord; that of a dead process has expired when SQS delivers again.
        claim = backend.get_key_for_group(group_id, ".c")
        backend.client.set(claim, "a process that died")
        runtime.invoke(messages[1:])
        assert queued(runtime) == 1  # the part; no body
        backend.client.delete(claim)

        assert die_and_come_again(runtime, messages[1:]).all_deleted

        assert runtime.deliver().all_deleted
        assert bodies == [["0, run 1", "1, run 1"]]
