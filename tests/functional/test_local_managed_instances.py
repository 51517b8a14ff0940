"""LocalFunction drives awslambdaric as Lambda Managed Instances do: by processes that it forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.local.function import LocalFunction
from tests.functional.test_local_function import HANDLER, children_of, is_running, wait_until_ended

MakeFunction = Callable[..., LocalFunction]


@pytest.fixture
def together(tmp_path: Path) -> Path:
    """Where the processes that run at the same time meet."""
    made = tmp_path / "together"
    made.mkdir()
    return made


@pytest.fixture
def managed(tmp_path: Path, local_function: MakeFunction) -> MakeFunction:
    """Make a function whose environments have two processes."""
    (tmp_path / "lambda_module.py").write_text(HANDLER)

    def make(**options: Any) -> LocalFunction:
        options = {
            "timeout_seconds": 60,
            "maximum_concurrency": 2,
            "per_execution_environment_max_concurrency": 2,
        } | options
        return local_function("lambda_module.handler", **options)

    return make


def meet(function: LocalFunction, together: Path, number: int) -> list[int]:
    """Have the function run *number* times at the same time; return the processes' ids."""
    event = {"do": "meet", "directory": str(together), "others": number}
    with ThreadPoolExecutor(number) as executor:
        results = list(executor.map(function.invoke, [event] * number))
    assert [each.error for each in results] == [None] * number
    return [each.payload for each in results]


def test_an_environment_runs_several_events_each_in_a_process_of_its_own(
    managed: MakeFunction, together: Path
) -> None:
    function = managed()

    processes = meet(function, together, 2)

    [environment] = function.process_ids()
    assert sorted(processes) == sorted(children_of(environment))


def test_another_environment_is_started_when_one_is_full(
    managed: MakeFunction, together: Path
) -> None:
    function = managed(maximum_concurrency=3)

    processes = meet(function, together, 3)

    environments = function.process_ids()
    assert len(environments) == 2
    assert set(processes) < {child for each in environments for child in children_of(each)}


def test_the_functions_concurrency_is_not_exceeded(managed: MakeFunction, together: Path) -> None:
    function = managed(maximum_concurrency=1)

    with ThreadPoolExecutor(4) as executor:
        events = [{"do": "alone", "file": str(together / "busy")}] * 4
        results = list(executor.map(function.invoke, events))

    assert [each.error for each in results] == [None] * 4


def test_the_environment_says_what_it_is(managed: MakeFunction) -> None:
    seen = managed().invoke({"do": "context"}).payload["environment"]

    assert seen["AWS_LAMBDA_MAX_CONCURRENCY"] == "2"
    assert seen["AWS_LAMBDA_INITIALIZATION_TYPE"] == "lambda-managed-instances"


def test_a_time_out_ends_no_process(managed: MakeFunction) -> None:
    function = managed(timeout_seconds=1)

    assert function.invoke({"do": "hang"}).error == "timed out after 1 s"

    [environment] = function.process_ids()
    hanging, free = children_of(environment)
    if function.invoke({"do": "pid"}).payload == hanging:
        hanging, free = free, hanging
    assert function.invoke({"do": "pid"}).payload == free  # the other one is busy still
    assert is_running(hanging)


@pytest.mark.parametrize("crash", ["exit", "kill"])
def test_a_process_that_ends_is_not_replaced_before_all_have(
    managed: MakeFunction, crash: str
) -> None:
    function = managed(timeout_seconds=2)

    # Nothing tells Lambda of its end.
    assert function.invoke({"do": crash}).error == "timed out after 2 s"

    [environment] = function.process_ids()
    [left] = [each for each in children_of(environment) if is_running(each)]
    assert function.invoke({"do": "pid"}).payload == left
    os.kill(left, signal.SIGKILL)
    wait_until_ended(environment)
    assert function.invoke({"do": "pid"}).payload != left
    assert function.process_ids() != [environment]


def test_an_init_error_is_that_of_all(tmp_path: Path, local_function: MakeFunction) -> None:
    module = tmp_path / "lambda_module.py"
    module.write_text("raise RuntimeError('broken')")
    function = local_function(
        "lambda_module.handler", timeout_seconds=20, per_execution_environment_max_concurrency=2
    )
    with ThreadPoolExecutor(2) as executor:
        errors = {each.error for each in executor.map(function.invoke, [{}] * 2)}
    assert errors == {"init error RuntimeError: broken"}
    module.write_text(HANDLER + "\n# mended")

    function.recycle()

    assert function.invoke({"do": "answer", "answer": 1}).payload == 1


def test_recycle_lets_all_of_an_environment_finish(managed: MakeFunction, together: Path) -> None:
    function = managed()
    event = {"do": "meet", "directory": str(together), "others": 3}
    with ThreadPoolExecutor(2) as executor:
        busy = [executor.submit(function.invoke, event) for _ in range(2)]
        while len(list(together.iterdir())) < 2:
            threading.Event().wait(0.01)
        [old] = function.process_ids()

        function.recycle()

        with ThreadPoolExecutor(1) as other:
            new = other.submit(function.invoke, {"do": "pid"})
            (together / "the-third").touch()
            assert [each.result().error for each in busy] == [None, None]
            assert new.result().error is None
    assert not is_running(old)
    [environment] = function.process_ids()
    assert new.result().payload in children_of(environment)


def test_what_awslambdaric_has_forked_ends_when_the_runner_is_killed(tmp_path: Path) -> None:
    (tmp_path / "lambda_module.py").write_text(HANDLER)
    program = """
        from lambda_celery.local.function import LocalFunction

        with LocalFunction(
            "lambda_module.handler", per_execution_environment_max_concurrency=2
        ) as function:
            function.invoke({"do": "pid"})
            print(*function.process_ids(), flush=True)
            function.invoke({"do": "hang"})
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, stdout=subprocess.PIPE
    ) as runner:
        assert runner.stdout is not None
        environment = int(runner.stdout.readline())
        processes = children_of(environment)
        assert len(processes) == 2

        runner.kill()

    for each in [environment, *processes]:
        wait_until_ended(each)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"timeout_seconds": 5401}, "is 5401 s: Lambda takes 1 to 5400\\."),
        ({"per_execution_environment_max_concurrency": 0}, "is 0: Lambda takes 1 to 1600"),
        ({"per_execution_environment_max_concurrency": 1601}, "is 1601: Lambda takes 1 to 1600"),
    ],
)
def test_impossible_numbers_are_refused(
    managed: MakeFunction, options: Mapping[str, int], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        managed(**options)


def test_a_longer_time_out_is_one_of_managed_instances(managed: MakeFunction) -> None:
    assert managed(timeout_seconds=5400).timeout_seconds == 5400
    with pytest.raises(ConfigurationError, match="1 to 900, and up to 5400 on Lambda Managed"):
        managed(timeout_seconds=5400, per_execution_environment_max_concurrency=None)
