"""Tasks in processes of their own: ``lambda_processes``."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import time
from pathlib import Path

import pytest
from celery import chain, chord
from celery.result import AsyncResult
from celery.signals import worker_process_init

from lambda_celery.failures.record import EXCEPTION_ATTRIBUTE
from lambda_celery.signals import batch_finished

#: Only a test that fails waits for so long.
WAIT_SECONDS = 20


class Notes:
    """What tasks tell of themselves, from whichever process: lines of a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def add(self, *words: object) -> None:
        line = " ".join(map(str, words)) + "\n"
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    @property
    def lines(self) -> list[str]:
        return self._path.read_text().splitlines()

    def wait_for(self, count: int) -> None:
        end = time.monotonic() + WAIT_SECONDS
        while len(self.lines) < count:
            assert time.monotonic() < end, f"{self.lines}: not {count} lines"
            time.sleep(0.01)


@pytest.fixture
def notes(tmp_path):
    return Notes(tmp_path / "notes")


@pytest.fixture
def make(make_runtime, results_table):
    def make_with_processes(processes=2, **conf):
        results = f"lambda-dynamodb:///{results_table}"
        conf = {"lambda_time_reserve_seconds": 2, "result_backend": results} | conf
        return make_runtime(lambda_processes=processes, **conf)

    return make_with_processes


def block_in_c() -> None:
    """Wait where no signal and no exception reaches: as a library in C may."""
    libc = ctypes.PyDLL(None)  # it keeps the interpreter's lock
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        libc.usleep(900_000)


def test_each_task_runs_once_in_another_process(make, notes):
    runtime = make()

    @runtime.task(bind=True)
    def send(self, n):
        notes.add(n, os.getpid(), self.request.id)
        return n

    results = {n: send.delay(n) for n in range(8)}
    assert runtime.deliver(8).all_deleted

    ran = [each.split() for each in notes.lines]
    assert sorted((int(n), task_id) for n, _, task_id in ran) == [
        (n, result.id) for n, result in results.items()
    ]
    assert str(os.getpid()) not in {process_id for _, process_id, _ in ran}
    assert [each.result for each in results.values()] == list(range(8))
    assert [each["status"] for each in runtime.records()] == ["COMPLETED"] * 8


def test_two_processes_share_a_batch(make, notes):
    runtime = make()

    @runtime.task
    def send(before):
        notes.add(os.getpid())
        notes.wait_for(before + 2)  # for one in the other process

    for before in (0, 0, 2, 2):
        send.delay(before)
    assert runtime.deliver(4).all_deleted
    assert len(set(notes.lines)) == 2


def test_processes_stay_for_the_next_batch(make, notes):
    runtime = make(processes=1)

    @runtime.task
    def send():
        notes.add(os.getpid())

    for _ in range(2):
        send.delay()
        assert runtime.deliver().all_deleted
    assert len(set(notes.lines)) == 1


def test_a_process_knows_the_trace_of_each_invocation(make, notes, monkeypatch):
    runtime = make(processes=1)

    @runtime.task
    def send():
        notes.add(os.environ.get("_X_AMZN_TRACE_ID"))

    for trace_id in ("Root=1-2", "Root=1-3"):
        monkeypatch.setenv("_X_AMZN_TRACE_ID", trace_id)
        send.delay()
        assert runtime.deliver().all_deleted
    monkeypatch.delenv("_X_AMZN_TRACE_ID")
    send.delay()
    assert runtime.deliver().all_deleted
    assert notes.lines == ["Root=1-2", "Root=1-3", "None"]


def test_a_body_in_s3_is_fetched_and_deleted(make, notes):
    runtime = make(lambda_payload_threshold_bytes=0)

    @runtime.task
    def send(text):
        notes.add(len(text))

    send.delay("x" * 1000)
    assert runtime.deliver().all_deleted
    assert notes.lines == ["1000"]
    bucket = runtime.settings.payload_bucket
    assert not runtime.stack.s3.list_objects_v2(Bucket=bucket).get("Contents")


def test_by_default_tasks_run_in_the_functions_own_process(make, notes):
    runtime = make(processes=0)

    @runtime.task
    def send():
        notes.add(os.getpid())

    send.delay()
    assert runtime.deliver().all_deleted
    assert notes.lines == [str(os.getpid())]


@pytest.mark.parametrize("end", [lambda: os._exit(0), lambda: os.kill(os.getpid(), signal.SIGKILL)])
def test_a_task_that_ends_its_process_comes_back_alone(make, notes, end):
    runtime = make(processes=1)

    @runtime.task
    def send(n):
        notes.add(n)
        if n == "killer" and notes.lines.count("killer") == 1:
            end()

    for n in ("killer", *range(5)):
        send.delay(n)
    messages = runtime.receive(6)
    messages.sort(key=lambda each: "killer" not in runtime.arguments(each))
    answer = runtime.hand_over(messages, seconds=8)

    assert answer.failed == [messages[0]["MessageId"]]
    assert sorted(notes.lines) == ["0", "1", "2", "3", "4", "killer"]
    # It is hidden until its run's lock ends, and its first run is known to be lost.
    assert not runtime.stack.messages()
    assert runtime.hand_over(runtime.receive(wait_seconds=15)).all_deleted
    assert notes.lines[-1] == "killer"


def test_what_runs_in_another_process_than_the_one_that_dies_goes_on(make, notes):
    runtime = make()

    @runtime.task
    def send(n):
        notes.add(n)
        notes.wait_for(2)
        if n == "killer":
            os._exit(1)
        notes.wait_for(3)
        return n

    results = [send.delay(n) for n in ("killer", "neighbour")]

    @runtime.task
    def send_after():
        notes.add("after")  # in the process that takes the dead one's place

    send_after.delay()
    messages = runtime.receive(3)
    messages.sort(key=lambda each: "after" in runtime.envelope(each)["headers"]["task"])
    answer = runtime.hand_over(messages)

    assert len(answer.failed) == 1
    assert [each.state for each in results] == ["PENDING", "SUCCESS"]


def test_with_threads_what_has_completed_beside_a_task_that_ends_its_process_is_done(make, notes):
    runtime = make(processes=1, lambda_concurrency=3)

    @runtime.task
    def send(n):
        notes.add(n)
        if n == "killer" and notes.lines.count("killer") == 1:
            end = time.monotonic() + WAIT_SECONDS
            while [each["status"] for each in runtime.records()].count("COMPLETED") < 5:
                assert time.monotonic() < end
            os._exit(1)

    for n in ("killer", *range(5)):
        send.delay(n)
    messages = runtime.receive(6)
    answer = runtime.hand_over(messages, seconds=8)

    (killer,) = (each for each in messages if "killer" in runtime.arguments(each))
    assert killer["MessageId"] in answer.failed
    again = runtime.receive(len(answer.failed), wait_seconds=15)
    assert runtime.hand_over(again).all_deleted
    assert sorted(notes.lines) == ["0", "1", "2", "3", "4", "killer", "killer"]


def test_a_killer_runs_last_and_its_last_attempt_is_a_failure(make, notes):
    runtime = make(lambda_max_receive_count=2)

    @runtime.task
    def send(n):
        notes.add(n)
        if n == "killer":
            os._exit(1)

    killer = send.delay("killer")
    assert runtime.hand_over(runtime.receive(), seconds=5).all_returned
    (message,) = runtime.receive(wait_seconds=15)
    for n in range(3):
        send.delay(n)
    answer = runtime.hand_over([message, *runtime.receive(3)], seconds=5)

    # By its receives it is spent: so it is sent on, for its loss to be told.
    assert answer.all_deleted
    assert notes.lines[-1] == "killer"
    assert runtime.hand_over(runtime.receive(wait_seconds=15)).all_deleted
    assert notes.lines.count("killer") == 2
    assert AsyncResult(killer.id, app=runtime.app).state == "FAILURE"
    (dead,) = runtime.stack.dead_letters()
    assert "WorkerLostError" in dead["MessageAttributes"][EXCEPTION_ATTRIBUTE]["StringValue"]


def test_what_follows_a_killer_in_its_message_group_comes_back_with_it(make_stack, make, notes):
    runtime = make(lambda_queue_url=make_stack(suffix=".fifo").queue_url)

    @runtime.task
    def send(group, n):
        notes.add(group, n)
        if (group, n) == ("a", 1) and notes.lines.count("a 1") == 1:
            os._exit(1)

    for group, n in [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]:
        send.apply_async((group, n), MessageGroupId=group)
    messages = runtime.receive(5)
    groups = {each["MessageId"]: each["Attributes"]["MessageGroupId"] for each in messages}
    answer = runtime.hand_over(messages, seconds=5)

    assert [groups[each] for each in answer.failed] == ["a", "a"]
    assert [each for each in notes.lines if each < "b"] == ["a 0", "a 1"]
    assert [each for each in notes.lines if each > "b"] == ["b 0", "b 1"]
    assert runtime.hand_over(runtime.receive(2, wait_seconds=15)).all_deleted
    assert notes.lines[-2:] == ["a 1", "a 2"]


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_hard_limit_ends_what_blocks_in_c(make, notes, concurrency):
    runtime = make(processes=1, lambda_concurrency=concurrency)

    @runtime.task(time_limit=1)
    def send():
        notes.add("begun")
        if notes.lines.count("begun") == 1:
            block_in_c()

    @runtime.task
    def send_after():
        notes.add("after")

    result = send.delay()
    send_after.delay()
    messages = runtime.receive(2)
    messages.sort(key=lambda each: "after" in runtime.envelope(each)["headers"]["task"])
    answer = runtime.hand_over(messages)

    assert answer.failed == [messages[0]["MessageId"]]
    assert notes.lines.count("after") == 1
    assert result.state == "RETRY"
    # Its claim is given up: it comes back by its back-off.
    assert runtime.deliver().all_deleted
    assert notes.lines.count("begun") == 2
    assert result.state == "SUCCESS"


def test_a_hard_limit_at_the_last_attempt_is_a_failure(make, notes):
    runtime = make(lambda_max_receive_count=1)

    @runtime.task(time_limit=1)
    def send():
        notes.add("begun")
        block_in_c()

    @runtime.task
    def send_error(request, exc, traceback):
        notes.add("errback")

    result = send.apply_async(link_error=send_error.s())
    assert runtime.deliver().all_deleted
    assert result.state == "FAILURE"
    (dead,) = runtime.stack.dead_letters()
    assert "TimeLimitExceeded" in dead["MessageAttributes"][EXCEPTION_ATTRIBUTE]["StringValue"]
    assert notes.lines == ["begun", "errback"]


def test_a_task_that_ends_within_its_hard_limit_is_left_alone_afterwards(make, notes):
    runtime = make(processes=1)

    @runtime.task(time_limit=1, on_success=lambda *_: time.sleep(4))
    def send():
        notes.add("begun")

    result = send.delay()
    assert runtime.deliver().all_deleted
    assert result.state == "SUCCESS"


@pytest.mark.parametrize("concurrency", [1, 2])
def test_the_answer_leaves_in_time_although_all_processes_hang(make, notes, concurrency):
    runtime = make(lambda_concurrency=concurrency, lambda_time_reserve_seconds=1)

    @runtime.task
    def send():
        notes.add("begun")
        if len(notes.lines) <= 2:
            block_in_c()

    send.delay()
    send.delay()
    messages = runtime.receive(2)
    ends_at = time.monotonic() + 10
    assert len(runtime.hand_over(messages, seconds=10).failed) == 2
    assert time.monotonic() < ends_at
    # The next invocation has processes of its own.
    send.delay()
    assert runtime.deliver().all_deleted


def test_what_failed_is_in_the_answer(make):
    runtime = make()

    @runtime.task
    def send(n):
        if n % 2:
            raise ValueError("not yet")

    results = [send.delay(n) for n in range(4)]
    answer = runtime.deliver(4)
    assert len(answer.failed) == 2
    assert [each.state for each in results] == ["SUCCESS", "RETRY"] * 2


def test_what_is_spent_is_parked(make):
    runtime = make(lambda_max_receive_count=1)

    @runtime.task
    def send():
        raise ValueError("never")

    result = send.delay()
    assert runtime.deliver().all_deleted
    assert result.state == "FAILURE"
    assert len(runtime.stack.dead_letters()) == 1


def test_callbacks_chains_and_chords(make, notes):
    runtime = make()

    @runtime.task
    def add(x, y):
        return x + y

    @runtime.task
    def total(numbers):
        notes.add("total", sum(numbers))

    @runtime.task
    def note(result):
        notes.add("note", result)

    add.apply_async((1, 1), link=note.s())
    chain(add.s(2, 2), add.s(4), note.s()).delay()
    chord([add.s(n, n) for n in range(3)], total.s()).delay()
    for count in (5, 3, 1):
        assert runtime.deliver(count).all_deleted
    assert sorted(notes.lines) == ["note 2", "note 8", "total 6"]


def test_asynchronous_tasks_run_beside_the_others(make, notes):
    runtime = make(processes=1, lambda_async_concurrency=2)

    @runtime.task
    def send():
        notes.add("ordinary")
        notes.wait_for(3)

    @runtime.task
    async def asend():
        notes.add("asynchronous", os.getpid() != runtime_process)
        notes.wait_for(1)

    runtime_process = os.getpid()
    send.delay()
    asend.delay()
    asend.delay()
    assert runtime.deliver(3).all_deleted
    assert sorted(notes.lines) == ["asynchronous True"] * 2 + ["ordinary"]


def test_receivers_in_a_process(make, notes):
    runtime = make(processes=1)
    told = []

    @worker_process_init.connect(weak=False)
    def start(**_):
        notes.add("process", os.getpid())

    @batch_finished.connect(weak=False)
    def finish(context, **_):
        notes.add("batch", os.getpid(), context.get_remaining_time_in_millis() > 0)
        told.append(context)

    @runtime.task
    def send():
        notes.add("task", os.getpid())

    try:
        send.delay()
        assert runtime.deliver().all_deleted
    finally:
        worker_process_init.disconnect(start)
        batch_finished.disconnect(finish)
    (child,) = {each.split()[1] for each in notes.lines} - {str(os.getpid())}
    lines = [f"process {child}", f"task {child}", f"batch {child} True"]
    assert [each for each in notes.lines if child in each] == lines
    assert len(told) == 1  # and this one, the function's own


def test_processes_that_end_at_once_are_not_forked_for_ever(make, notes):
    runtime = make(processes=1)

    @worker_process_init.connect(weak=False)
    def start(**_):
        notes.add("process")
        os._exit(1)

    @runtime.task
    def send():
        """It is never run."""

    try:
        send.delay()
        assert runtime.deliver().all_returned
    finally:
        worker_process_init.disconnect(start)
    assert len(notes.lines) == 3


def test_a_process_ends_with_its_parent(make, notes):
    runtime = make(processes=1)

    @runtime.task
    def send():
        notes.add(os.getpid())

    send.delay()
    assert runtime.deliver().all_deleted
    (process_id,) = map(int, notes.lines)
    runtime.restart()
    gc.collect()  # the parent's end of the socket
    assert os.waitpid(process_id, 0)[0] == process_id
