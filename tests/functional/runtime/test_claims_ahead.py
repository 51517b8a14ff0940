"""Claims that are written ahead of their runs, and completions behind: the same promises."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from weakref import WeakSet

import pytest

from lambda_runtime import deadline, decision
from lambda_runtime.deadline import Deadline
from lambda_runtime.running import pipeline
from tests.chaos.outages import Outage, Proxy

#: Only a test that fails waits for so long.
WAIT_SECONDS = 30
CONCURRENCY = 4


@pytest.fixture
def runtime(make_runtime):
    return make_runtime(lambda_concurrency=CONCURRENCY, lambda_time_reserve_seconds=1)


def in_progress(runtime):
    return sum(each["status"] == "INPROGRESS" for each in runtime.records())


class Held:
    """Holds the first runs, and tells how many claims there are while they are held."""

    def __init__(self, runtime, **options):
        self.claims = []
        self.ran = Counter()
        together = threading.Barrier(CONCURRENCY, action=self.count)
        self._runtime = runtime

        @runtime.task(**options)
        def send(n):
            self.ran[n] += 1
            if sum(self.ran.values()) <= CONCURRENCY:
                together.wait(WAIT_SECONDS)

        self.send = send

    def count(self):
        self.claims.append(in_progress(self._runtime))


def test_no_more_are_claimed_than_can_be_run(runtime):
    held = Held(runtime)
    for n in range(3 * CONCURRENCY):
        held.send.delay(n)
    assert runtime.deliver(3 * CONCURRENCY).all_deleted
    assert held.claims == [CONCURRENCY]
    assert held.ran == Counter(range(3 * CONCURRENCY))


def test_more_are_claimed_ahead_of_short_runs(runtime, monkeypatch):
    # On a busy machine, what returns at once takes its time as well.
    monkeypatch.setattr(pipeline, "_SHORT_RUN_SECONDS", 2.0 * WAIT_SECONDS)
    second_round = threading.Event()
    counts = []
    lock = threading.Lock()
    ran = []

    @runtime.task
    def send(n):
        with lock:
            ran.append(n)
            is_first = len(ran) == 1
            is_late = len(ran) > CONCURRENCY
        if is_first:
            return  # a short one: from now on there may be more
        if is_late:
            second_round.wait(WAIT_SECONDS)
        else:
            while not counts:
                if (found := in_progress(runtime)) > CONCURRENCY:
                    counts.append(found)
                    second_round.set()

    for n in range(5 * CONCURRENCY):
        send.delay(n)
    assert runtime.deliver(5 * CONCURRENCY).all_deleted
    assert CONCURRENCY < counts[0] <= CONCURRENCY + pipeline._AHEAD
    assert sorted(ran) == list(range(5 * CONCURRENCY))


@pytest.mark.parametrize("option", ["reject_on_worker_lost", "retry_on_worker_lost"])
def test_of_what_is_not_to_run_twice_it_can_be_told_whether_it_began(runtime, option):
    """It is claimed when it begins: so a claim without a run is none that was lost."""
    value = option == "retry_on_worker_lost"
    begun = []
    counts = []
    # When all that run at a time have begun, nothing else is between its claim and its run.
    together = threading.Barrier(
        CONCURRENCY, action=lambda: counts.append((in_progress(runtime), len(begun)))
    )

    @runtime.task(**{option: value})
    def send():
        begun.append(1)
        together.wait(WAIT_SECONDS)

    for _ in range(3 * CONCURRENCY):
        send.delay()
    assert runtime.deliver(3 * CONCURRENCY).all_deleted
    assert len(counts) == 3
    assert all(claims <= begun_by_then for claims, begun_by_then in counts)
    assert len(begun) == 3 * CONCURRENCY


def test_a_claim_that_time_does_not_allow_is_released_and_counts_no_attempt(runtime, monkeypatch):
    ran = []
    claimed = threading.Event()

    @runtime.task
    def send():
        ran.append(1)

    allows = Deadline.allows

    def allows_until_claimed(self, seconds):
        return allows(self, seconds) and not claimed.is_set()

    runtime.handler  # noqa: B018 - it is made, and its table
    table = runtime.handler._decision._table
    claim = type(table).claim

    def claim_and_tell(self, *args, **options):
        claimed.set()
        return claim(self, *args, **options)

    for _ in range(3):
        send.delay()
    with monkeypatch.context() as patch:
        patch.setattr(Deadline, "allows", allows_until_claimed)
        patch.setattr(type(table), "claim", claim_and_tell)
        assert len(runtime.deliver(3).failed) == 3
    assert ran == []
    items = runtime.stack.dynamodb.scan(TableName=runtime.settings.idempotency_table)["Items"]
    assert items
    for item in items:
        assert item["attempts"] == item["in_progress_expiration"] == {"N": "0"}
    assert runtime.deliver(3).all_deleted
    assert ran == [1] * 3


def test_the_answer_waits_for_all_completions(runtime):
    @runtime.task
    def send():
        """It is quick."""

    for _ in range(40):
        send.delay()
    assert runtime.deliver(40).all_deleted
    assert [each["status"] for each in runtime.records()] == ["COMPLETED"] * 40


def test_what_is_near_its_last_receive_is_deleted_by_name_as_soon_as_it_is_settled(
    make_runtime, faults
):
    runtime = make_runtime(lambda_concurrency=CONCURRENCY, lambda_max_receive_count=1)
    deleted = faults.watch(runtime.settings, "sqs", "DeleteMessageBatch")
    gone = threading.Event()

    @runtime.task
    def send(n):
        if n == "waits":
            while not deleted:
                assert not gone.wait(0.001)

    send.delay("waits")
    send.delay("quick")
    assert runtime.deliver(2).all_deleted
    assert deleted


class TestWaitsWithItsClaim:
    """Behind runs that take longer than those before them."""

    @pytest.fixture
    def wait_behind(self, runtime):
        """Publish two short tasks, two that hold the threads, and some behind them."""

        def publish(apply_async, hold):
            late = []
            held = threading.Barrier(CONCURRENCY + 1, action=lambda: are_held.set())
            are_held = threading.Event()

            @runtime.task(name="proj.send")
            def send(what):
                if what == "holds":
                    held.wait(WAIT_SECONDS)
                    hold()
                elif are_held.is_set():
                    late.append(what)

            for what in ["short"] * CONCURRENCY + ["holds"] * CONCURRENCY:
                send.delay(what)
            for _ in range(3 * CONCURRENCY):  # of which some may come before all are held
                apply_async(send)
            count = 5 * CONCURRENCY
            messages = runtime.receive(count)
            kinds = ("short", "holds", "behind")

            def place(message):
                shown = runtime.envelope(message)["headers"]["argsrepr"]
                return next(n for n, kind in enumerate(kinds) if kind in shown)

            watching = threading.Thread(target=held.wait, args=(WAIT_SECONDS,))
            watching.start()
            answer = runtime.hand_over(sorted(messages, key=place))
            watching.join()
            return late, answer

        return publish

    def test_and_expires(self, runtime, wait_behind):
        expires = time.time() + 2.0

        def hold():
            while time.time() < expires + 0.1:
                time.sleep(0.01)

        late, answer = wait_behind(
            lambda send: send.apply_async(
                ("behind",), expires=datetime.fromtimestamp(expires, UTC)
            ),
            hold,
        )
        assert answer.all_deleted
        assert late == []

    def test_and_is_revoked(self, runtime, wait_behind):
        behind = []

        def hold():
            for each in behind:
                runtime.app.control.revoke(each)
            behind.clear()
            time.sleep(1.5)  # so seldom the table is asked

        def apply_async(send):
            result = send.apply_async(("behind",))
            behind.append(result.id)
            return result

        late, answer = wait_behind(apply_async, hold)
        assert answer.all_deleted
        assert late == []


def test_what_is_done_is_deleted_although_its_record_hangs(make_runtime, aws_endpoint):
    """The table stalls after the runs, until the invocation's end."""
    seconds = 6
    with Proxy(aws_endpoint).running() as proxy:
        runtime = make_runtime(
            lambda_concurrency=2, lambda_time_reserve_seconds=1, lambda_endpoint_url=proxy.url,
            lambda_idempotency_ttl_seconds=86_400,
        )  # fmt: skip
        ran = Counter()

        @runtime.task
        def send(n):
            ran[n] += 1
            if len(ran) == 8:
                proxy.outage = Outage("dynamodb", "stall")

        for n in range(40):
            send.delay(n)
        messages = runtime.receive(40)
        began = time.time()
        answer = runtime.invoke(messages, seconds=seconds)
        done = set(ran)
        proxy.outage = None

        assert 8 <= len(done) < 40
        assert len(answer.failed) == 40 - len(done)
        left = [each for each in messages if each["MessageId"] in answer.failed]
        time.sleep(max(began + seconds + 2 - time.time(), 0))  # until their locks end
        for _ in range(3):
            answer = runtime.invoke(left, seconds=30)
            left = [each for each in left if each["MessageId"] in answer.failed]
        assert ran == Counter(range(40))


@pytest.mark.parametrize("is_ahead", [True, False])
def test_an_error_of_a_hook_on_the_table_does_not_bring_back_what_is_done(
    runtime, monkeypatch, is_ahead
):
    ran = []

    @runtime.task
    def send():
        ran.append(1)

    runtime.handler  # noqa: B018 - it is made, and its table
    table = type(runtime.handler._decision._table)

    def fail(*_args, **_options):
        raise RuntimeError("of somebody's hook")

    def told_no(self, *_args, then, **_options):
        then(False)

    monkeypatch.setattr(table, "complete", fail)
    monkeypatch.setattr(deadline, "_PATIENCE_SECONDS", 0.0)
    if is_ahead:
        monkeypatch.setattr(table, "complete_behind", told_no)
    else:
        monkeypatch.setattr(table, "writes_together", False)
    for _ in range(3):
        send.delay()
    assert runtime.deliver(3).all_deleted
    assert len(ran) == 3


def test_arguments_are_kept_no_longer_than_they_are_needed(runtime):
    alive = []
    requests = WeakSet()
    read = decision.read_request

    def note(*args):
        request = read(*args)
        requests.add(request)
        return request

    @runtime.task
    def send():
        alive.append(len(requests))

    for _ in range(80):
        send.delay()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decision, "read_request", note)
        assert runtime.deliver(80).all_deleted
    assert max(alive) <= 2 * CONCURRENCY + pipeline._AHEAD + 1
    gc.collect()
    assert not requests
