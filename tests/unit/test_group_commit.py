"""Writes of several threads share a request, and each thread hears of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from lambda_runtime.table import group_commit
from lambda_runtime.table.group_commit import GroupCommit, Written

#: Only a test that fails waits for so long.
WAIT_SECONDS = 30
Answer = Callable[[list[str]], list[dict[str, Any]]]


def all_written(keys: list[str]) -> list[dict[str, Any]]:
    return [{} for _ in keys]


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
def write(table, monkeypatch):
    """Hand in a write for each key; the first alone, the others while it is under way."""
    monkeypatch.setattr(group_commit, "_REQUESTS_AT_A_TIME", 1)
    monkeypatch.setattr(group_commit, "_PATIENCE_SECONDS", WAIT_SECONDS)
    commit = GroupCommit(table.batch_execute_statement)

    def write_one(key: str) -> Written:
        return commit.write(key, "INSERT", [{"S": key}])

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


def test_what_comes_while_a_request_is_under_way_shares_the_next(table, write):
    assert results(write("a", "b", "c", "d")) == [Written.YES] * 4
    assert table.requests == [["a"], ["b", "c", "d"]]


def test_a_request_has_25_statements_at_most(table, write):
    assert results(write("first", *map(str, range(30)))) == [Written.YES] * 31
    assert [len(each) for each in table.requests] == [1, 25, 5]


def test_two_writes_of_one_record_are_never_in_one_request(table, write):
    assert results(write("first", "a", "b", "a", "c", "a")) == [Written.YES] * 6
    assert table.requests == [["first"], ["a", "b", "c"], ["a"], ["a"]]


def test_one_that_is_refused_is_its_own_thread_s_affair(table, write):
    table.answers = [all_written, lambda keys: [{}, {"Error": {"Code": "DuplicateItem"}}, {}]]
    written = results(write("first", "a", "b", "c"))
    assert written == [Written.YES, Written.YES, Written.NO, Written.YES]


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
    commit = GroupCommit(table.batch_execute_statement)
    with ThreadPoolExecutor(31) as threads:
        hanging = threads.submit(commit.write, "first", "INSERT", [{"S": "first"}])
        assert table.first_has_come.wait(WAIT_SECONDS)
        monkeypatch.setattr(group_commit, "_REQUESTS_AT_A_TIME", 1)
        others = [
            threads.submit(commit.write, str(n), "INSERT", [{"S": str(n)}]) for n in range(30)
        ]
        assert [each.result(WAIT_SECONDS) for each in others] == [Written.YES] * 30
        assert not hanging.done()
        table.first_may_go.set()
        assert hanging.result() is Written.YES
    assert commit._sending == 0
    assert not commit._waiting


class _Interrupted(BaseException):
    """What a signal's handler raises."""


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_thread_that_is_interrupted_while_it_waits_leaves_nobody_behind(
    table, monkeypatch, handed_over
):
    monkeypatch.setattr(group_commit, "_REQUESTS_AT_A_TIME", 1)
    monkeypatch.setattr(group_commit, "_PATIENCE_SECONDS", WAIT_SECONDS)
    commit = GroupCommit(table.batch_execute_statement)
    made = group_commit._Write

    class Interrupted(made):
        def __init__(self, key: str, *args: Any) -> None:
            super().__init__(key, *args)
            if key == "interrupted":
                self.done = SimpleNamespace(acquire=self.interrupt, release=self.done.release)

        def interrupt(self, timeout: float) -> bool:
            others.append(threads.submit(commit.write, "other", "INSERT", [{"S": "other"}]))
            while len(commit._waiting) < 2:
                assert not others[0].done()
            if handed_over:
                table.first_may_go.set()
                while not self.group:
                    assert not others[0].done()
            raise _Interrupted

    monkeypatch.setattr(group_commit, "_Write", Interrupted)
    others: list[Future[Written]] = []
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(commit.write, "first", "INSERT", [{"S": "first"}])
        assert table.first_has_come.wait(WAIT_SECONDS)
        with pytest.raises(_Interrupted):
            commit.write("interrupted", "INSERT", [{"S": "interrupted"}])
        table.first_may_go.set()
        assert results([first, *others]) == [Written.YES, Written.YES]
    assert commit._sending == 0
    assert not commit._waiting


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
