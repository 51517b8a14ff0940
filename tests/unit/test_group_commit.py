"""Writes of several threads share a request, and each thread hears of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from lambda_runtime import group_commit
from lambda_runtime.group_commit import GroupCommit, Written

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
    commit = GroupCommit(table)

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


def test_a_request_that_fails_is_heard_of_by_each_of_its_threads_and_no_other(table, write):
    def fails(keys: list[str]) -> list[dict[str, Any]]:
        raise ReadTimeoutError(endpoint_url="http://dynamodb")

    table.answers = [fails]
    first, *others = write("first", "a", "b")
    with pytest.raises(ReadTimeoutError):
        first.result()
    assert results(others) == [Written.YES, Written.YES]


def test_an_answer_that_is_none_is_no_success(table, write):
    table.answers = [all_written, lambda keys: [{}]]
    first, *others = write("first", "a", "b")
    assert first.result() is Written.YES
    for each in others:
        assert each.exception() is not None


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
