"""Writes of several threads share a request, and each thread hears of its own."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Queue
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from lambda_runtime.table import group_commit
from lambda_runtime.table.group_commit import GroupCommit, Result, Statement, Written

#: Only a test that fails waits for so long.
WAIT_SECONDS = 30
Answer = Callable[[list[str]], list[dict[str, Any]]]


def all_written(keys: list[str]) -> list[dict[str, Any]]:
    return [{} for _ in keys]


def statement(key: str, *, is_urgent: bool = False) -> Statement:
    return Statement(key, "INSERT", [{"S": key}], is_urgent)


def refused(operation_error: str) -> ClientError:
    error = {"Error": {"Code": operation_error, "Message": "no"}, "ResponseMetadata": {}}
    return ClientError(error, "BatchExecuteStatement")


class Table:
    """Takes requests; the first one is held until the others have gathered."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.answers: list[Answer] = []
        self.retries = 0
        self.first_has_come = threading.Event()
        self.first_may_go = threading.Event()
        self._lock = threading.Lock()

    def batch_execute_statement(self, Statements: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        keys = [each["Parameters"][0]["S"] for each in Statements]
        with self._lock:
            self.requests.append(keys)
            number = len(self.requests)
        if number == 1:
            self.first_has_come.set()
            assert self.first_may_go.wait(WAIT_SECONDS)
        answer = self.answers[number - 1] if number <= len(self.answers) else all_written
        return {
            "Responses": answer(keys),
            "ResponseMetadata": {"RetryAttempts": self.retries if number > 1 else 0},
        }


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def one_at_a_time(monkeypatch):
    """Have one request under way, but for full ones."""
    monkeypatch.setattr(group_commit, "_REQUESTS_AT_A_TIME", 1)
    monkeypatch.setattr(group_commit, "_PATIENCE_SECONDS", WAIT_SECONDS)


@pytest.fixture
def one_in_all(one_at_a_time, monkeypatch):
    monkeypatch.setattr(group_commit, "_FULL_REQUESTS_AT_A_TIME", 1)


@pytest.fixture
def write(table, one_in_all):
    """Hand in a write for each key; the first alone, the others while it is under way."""
    commit = GroupCommit(table)

    def write_one(key: str) -> Written:
        return commit.write(statement(key)).written

    def write_all(*keys: str) -> list[Future[Written]]:
        first, *others = keys
        with ThreadPoolExecutor(len(keys)) as threads:
            made = [threads.submit(write_one, first)]
            assert table.first_has_come.wait(WAIT_SECONDS)
            for n, key in enumerate(others, 1):
                made.append(threads.submit(write_one, key))
                while len(commit._waiting) < n:  # in their order
                    assert not made[-1].done()
            table.first_may_go.set()
        return made

    write_all.one = write_one
    return write_all


def results(futures: list[Future[Written]]) -> list[Written]:
    return [each.result() for each in futures]


def told_to(queue: Queue[Written]) -> Callable[[Result], None]:
    return lambda result: queue.put(result.written)


def test_what_comes_while_a_request_is_under_way_shares_the_next(table, write):
    assert results(write("a", "b", "c", "d")) == [Written.YES] * 4
    assert table.requests == [["a"], ["b", "c", "d"]]


def test_a_request_has_25_statements_at_most(table, write):
    assert results(write("first", *map(str, range(30)))) == [Written.YES] * 31
    assert [len(each) for each in table.requests] == [1, 25, 5]


def test_enough_for_a_full_request_do_not_wait_for_those_under_way(table, one_at_a_time):
    told: Queue[Written] = Queue()
    commit = GroupCommit(table)
    commit.submit(statement("first"), told_to(told))
    assert table.first_has_come.wait(WAIT_SECONDS)
    for n in range(25):
        commit.submit(statement(str(n)), told_to(told))
    assert [told.get(timeout=WAIT_SECONDS) for _ in range(25)] == [Written.YES] * 25
    table.first_may_go.set()
    assert told.get(timeout=WAIT_SECONDS) is Written.YES
    assert list(map(len, table.requests)) == [1, 25]


def test_what_is_urgent_goes_first(table, one_in_all):
    told: Queue[Written] = Queue()
    commit = GroupCommit(table)
    commit.submit(statement("first"), told_to(told))
    assert table.first_has_come.wait(WAIT_SECONDS)
    for n in range(30):
        commit.submit(statement(str(n)), told_to(told))
    commit.submit(statement("urgent", is_urgent=True), told_to(told))
    table.first_may_go.set()
    assert [told.get(timeout=WAIT_SECONDS) for _ in range(32)] == [Written.YES] * 32
    assert table.requests[1][0] == "urgent"


def test_two_writes_of_one_record_are_never_in_one_request(table, write):
    assert results(write("first", "a", "b", "a", "c", "a")) == [Written.YES] * 6
    assert table.requests == [["first"], ["a", "b", "c"], ["a"], ["a"]]


def test_one_that_is_refused_is_its_own_thread_s_affair(table, write):
    table.answers = [all_written, lambda keys: [{}, {"Error": {"Code": "DuplicateItem"}}, {}]]
    written = results(write("first", "a", "b", "c"))
    assert written == [Written.YES, Written.YES, Written.NO, Written.YES]


@pytest.mark.parametrize(("retries", "written"), [(0, Written.NO), (1, Written.PERHAPS)])
@pytest.mark.parametrize("item", [{"id": {"S": "a"}}, None])
def test_what_stood_in_the_way_is_told_where_dynamodb_says_it(table, retries, written, item):
    error = {"Code": "DuplicateItem"} | ({"Item": item} if item else {})
    table.answers = [lambda keys: [{"Error": error}]]
    table.first_may_go.set()
    commit = GroupCommit(table)
    assert commit.write(statement("first")) == Result(Written.NO, item)
    table.answers = [all_written, *table.answers]
    table.retries = retries
    assert commit.write(statement("a")) == Result(written, item)


def test_only_who_wants_it_asks_for_what_stands_in_the_way():
    plain = {"Statement": "INSERT", "Parameters": [{"S": "a"}]}
    asking = plain | {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    assert statement("a").request() == plain
    assert statement("a")._replace(wants_item=True).request() == asking


def test_one_that_is_refused_when_the_request_was_repeated_may_be_there(table, write):
    table.answers = [all_written, lambda keys: [{"Error": {"Code": "DuplicateItem"}}, {}]]
    table.retries = 1
    assert results(write("first", "a", "b")) == [Written.YES, Written.PERHAPS, Written.YES]


def fails(keys: list[str]) -> list[dict[str, Any]]:
    raise ReadTimeoutError(endpoint_url="http://dynamodb")


def test_a_request_without_an_answer_may_have_written_all_of_it(table, write):
    table.answers = [fails]
    assert results(write("first", "a", "b")) == [Written.PERHAPS, Written.YES, Written.YES]


def test_an_answer_that_is_none_leaves_it_open(table, write):
    table.answers = [all_written, lambda keys: [{}]]
    first, *others = results(write("first", "a", "b"))
    assert first is Written.YES
    assert others == [Written.YES, Written.PERHAPS]


@pytest.mark.parametrize("code", ["InternalServerError", "SomethingNew"])
def test_an_error_that_leaves_it_open(table, write, code):
    table.answers = [all_written, lambda keys: [{"Error": {"Code": code}}, {}]]
    assert results(write("first", "a", "b")) == [Written.YES, Written.PERHAPS, Written.YES]


def test_nobody_waits_for_a_request_that_hangs(table, monkeypatch):
    """However many hang: what waits is sent, and each thread has its answer before they end."""
    monkeypatch.setattr(group_commit, "_PATIENCE_SECONDS", 0.001)
    commit = GroupCommit(table)
    with ThreadPoolExecutor(31) as threads:
        hanging = threads.submit(commit.write, statement("first"))
        assert table.first_has_come.wait(WAIT_SECONDS)
        monkeypatch.setattr(group_commit, "_REQUESTS_AT_A_TIME", 1)
        others = [threads.submit(commit.write, statement(str(n))) for n in range(30)]
        assert [each.result(WAIT_SECONDS).written for each in others] == [Written.YES] * 30
        assert not hanging.done()
        table.first_may_go.set()
        assert hanging.result().written is Written.YES
    assert not commit._under_way
    assert not commit._waiting


class _Interrupted(BaseException):
    """What a signal's handler raises."""


def test_a_thread_that_is_interrupted_while_it_waits_takes_its_write_back(table, one_at_a_time):
    commit = GroupCommit(table)

    def raise_it(*_: object) -> None:
        raise _Interrupted

    def interrupt() -> Future[Result]:
        while len(commit._waiting) < 1:
            assert not first.done()
        other = threads.submit(commit.write, statement("other"))
        while len(commit._waiting) < 2:
            assert not other.done()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        return other

    with ThreadPoolExecutor(3) as threads:
        before = signal.signal(signal.SIGUSR1, raise_it)
        first = threads.submit(commit.write, statement("first"))
        assert table.first_has_come.wait(WAIT_SECONDS)
        interrupting = threads.submit(interrupt)
        try:
            with pytest.raises(_Interrupted):
                commit.write(statement("interrupted"))
        finally:
            signal.signal(signal.SIGUSR1, before)
        table.first_may_go.set()
        through = [first.result(), interrupting.result().result()]
        assert through == [Result(Written.YES)] * 2
    assert not commit._under_way
    assert not commit._waiting
    assert table.requests == [["first"], ["other"]]


@pytest.mark.parametrize("code", ["AccessDeniedException", "UnknownOperationException"])
def test_where_it_is_not_allowed_it_is_said_once_and_not_asked_again(table, write, code, caplog):
    def denies(keys: list[str]) -> list[dict[str, Any]]:
        raise refused(code)

    table.answers = [all_written, denies, denies]
    assert results(write("first", "a", "b")) == [Written.YES, Written.NO, Written.NO]
    assert write.one("later") is Written.NO
    assert len(table.requests) == 2
    (said,) = caplog.messages
    assert "dynamodb:PartiQLInsert" in said


def test_a_statement_may_be_what_is_not_allowed(table, write, caplog):
    denied = {"Error": {"Code": "AccessDenied", "Message": "no"}}
    table.answers = [lambda keys: [denied]]
    table.first_may_go.set()
    assert write.one("a") is Written.NO
    assert write.one("b") is Written.NO
    assert table.requests == [["a"]]
    assert len(caplog.messages) == 1


def test_who_goes_on_is_told_on_another_thread(table):
    told: Queue[tuple[Written, int]] = Queue()
    table.first_may_go.set()
    commit = GroupCommit(table)
    commit.submit(statement("a"), lambda result: told.put((result.written, threading.get_ident())))
    written, thread = told.get(timeout=WAIT_SECONDS)
    assert written is Written.YES
    assert thread != threading.get_ident()


def test_what_follows_one_record_and_fails_leaves_the_others_alone(table, caplog):
    told: Queue[Written] = Queue()
    commit = GroupCommit(table)
    commit.submit(statement("first"), told_to(told))
    assert table.first_has_come.wait(WAIT_SECONDS)
    commit.submit(statement("a"), lambda _written: told.nothing)
    commit.submit(statement("b"), told_to(told))
    table.first_may_go.set()
    assert [told.get(timeout=WAIT_SECONDS) for _ in range(2)] == [Written.YES] * 2
    assert "What follows the record a has failed" in caplog.text


def test_an_error_of_the_clerk_s_leaves_nobody_waiting(table, monkeypatch, caplog):
    step = group_commit._Requests.step
    failed: list[int] = []

    def fail_once(self: Any, seconds: float | None) -> None:
        if table.first_has_come.is_set() and not failed:
            failed.append(1)
            raise OSError("of a socket")
        step(self, seconds)

    monkeypatch.setattr(group_commit._Requests, "step", fail_once)
    told: Queue[Written] = Queue()
    commit = GroupCommit(table)
    commit.submit(statement("first"), told_to(told))
    assert table.first_has_come.wait(WAIT_SECONDS)
    commit.submit(statement("second"), told_to(told))  # which wakes it
    table.first_may_go.set()
    told_of = {told.get(timeout=WAIT_SECONDS) for _ in range(2)}
    # Of the first nobody knows. The second was sent before, by the next clerk, or never.
    assert Written.PERHAPS in told_of
    assert failed
    assert commit.write(statement("third")).written is Written.YES
    assert not commit._under_way


def test_where_no_thread_can_be_started_each_makes_its_own_write(table, monkeypatch):
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    commit = GroupCommit(table)
    assert commit.write(statement("a")).written is Written.NO
    told: list[Result] = []
    commit.submit(statement("b"), told.append)
    assert told == [Result(Written.NO)]
    assert not commit._waiting


def test_where_no_selector_can_be_made_each_makes_its_own_write(table, monkeypatch):
    def refuse(_requests: object, _client: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(group_commit._Requests, "__init__", refuse)
    commit = GroupCommit(table)
    assert commit.write(statement("a")).written is Written.NO
    assert not commit._waiting


def test_an_error_that_comes_back_ends_each_clerk_and_keeps_nobody_waiting(table, monkeypatch):
    def fail(_requests: object, _seconds: float | None) -> None:
        raise OSError("of a socket")

    monkeypatch.setattr(group_commit._Requests, "step", fail)
    commit = GroupCommit(table)
    for key in ("a", "b"):
        assert commit.write(statement(key)).written is Written.PERHAPS
    assert commit._clerk is None
