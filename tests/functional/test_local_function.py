"""LocalFunction drives real awslambdaric processes."""

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

from lambda_celery.exceptions import ConfigurationError, LambdaCeleryError
from lambda_celery.local.function import MAXIMUM_EVENT_BYTES, LocalFunction
from lambda_celery.local.runtime_api import MAXIMUM_RESPONSE_BYTES

MakeFunction = Callable[..., LocalFunction]

HANDLER = """
import os, signal, subprocess, sys, time

def handler(event, context):
    what = event["do"]
    if what == "answer":
        return event["answer"]
    if what == "pid":
        return os.getpid()
    if what == "raise":
        raise ValueError("no such mail")
    if what == "exit":
        os._exit(3)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        time.sleep(600)
    if what == "large":
        return "x" * event["bytes"]
    if what == "context":
        return {
            "arn": context.invoked_function_arn,
            "request_id": context.aws_request_id,
            "remaining_ms": context.get_remaining_time_in_millis(),
            "name": context.function_name,
            "environment": dict(os.environ),
            "cwd": os.getcwd(),
        }
    if what == "grandchild":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        return child.pid
    if what == "alone":
        os.close(os.open(event["file"], os.O_CREAT | os.O_EXCL))
        time.sleep(0.05)
        os.remove(event["file"])
    if what == "meet":
        # Answers when as many others are here: proves that they run at the same time.
        here = event["directory"]
        open(os.path.join(here, str(os.getpid())), "w").close()
        while len(os.listdir(here)) < event["others"]:
            time.sleep(0.01)
        return os.getpid()
"""


@pytest.fixture
def function(tmp_path: Path, local_function: MakeFunction) -> LocalFunction:
    (tmp_path / "lambda_module.py").write_text(HANDLER)
    return local_function("lambda_module.handler", timeout_seconds=20)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # gone, or gone while being read
        return False
    # A process that nobody has reaped yet does not run any more.
    return state != "Z"


@pytest.mark.parametrize("answer", [{"batchItemFailures": []}, None, "text", [1, 2], "žluťoučký"])
def test_the_answer_is_the_payload(function: LocalFunction, answer: Any) -> None:
    result = function.invoke({"do": "answer", "answer": answer})

    assert result.error is None
    assert result.payload == answer
    assert result.duration_seconds > 0


def test_a_warm_process_is_used_again(function: LocalFunction) -> None:
    first = function.invoke({"do": "pid"}).payload

    assert function.invoke({"do": "pid"}).payload == first
    assert function.process_ids() == [first]


def test_context_and_environment_are_lambdas(tmp_path: Path, local_function: MakeFunction) -> None:
    (tmp_path / "lambda_module.py").write_text(HANDLER)
    function = local_function(
        "lambda_module.handler",
        timeout_seconds=20,
        environment={"AWS_DEFAULT_REGION": "eu-north-1", "COLOUR": "blue"},
    )

    seen = function.invoke({"do": "context"}).payload

    assert seen["arn"].startswith("arn:aws:lambda:eu-north-1:")
    assert seen["request_id"]
    assert 0 < seen["remaining_ms"] <= 20_000
    assert seen["name"] == seen["environment"]["AWS_LAMBDA_FUNCTION_NAME"]
    assert seen["environment"]["AWS_REGION"] == "eu-north-1"
    assert seen["environment"]["COLOUR"] == "blue"
    assert seen["environment"]["LAMBDA_TASK_ROOT"] == seen["cwd"] == str(tmp_path.resolve())
    assert seen["environment"]["_HANDLER"] == "lambda_module.handler"


def test_an_exception_is_the_error_and_the_process_lives(function: LocalFunction) -> None:
    pid = function.invoke({"do": "pid"}).payload

    result = function.invoke({"do": "raise"})

    assert result.error == "ValueError: no such mail"
    assert result.payload is None
    assert function.process_ids() == [pid]


@pytest.mark.parametrize(
    ("crash", "error"),
    [
        ("exit", "process exited with status 3"),
        ("kill", "process exited with signal SIGKILL"),
    ],
)
def test_a_crash_is_an_error_and_restarts(function: LocalFunction, crash: str, error: str) -> None:
    pid = function.invoke({"do": "pid"}).payload

    assert function.invoke({"do": crash}).error == error

    assert function.invoke({"do": "pid"}).payload != pid
    assert len(function.process_ids()) == 1


def test_a_time_out_kills_and_restarts(tmp_path: Path, local_function: MakeFunction) -> None:
    (tmp_path / "lambda_module.py").write_text(HANDLER)
    function = local_function("lambda_module.handler", timeout_seconds=1)
    pid = function.invoke({"do": "pid"}).payload

    result = function.invoke({"do": "hang"})

    assert result.error == "timed out after 1 s"
    assert result.duration_seconds >= 1
    assert not is_running(pid)
    assert function.invoke({"do": "pid"}).payload != pid


def test_a_process_killed_while_idle_costs_no_invocation(function: LocalFunction) -> None:
    for _ in range(5):
        pid = function.invoke({"do": "pid"}).payload
        os.kill(pid, signal.SIGKILL)
        wait_until_ended(pid)

        result = function.invoke({"do": "pid"})

        assert result.error is None
        assert result.payload != pid


def test_children_of_a_killed_process_end_with_it(function: LocalFunction) -> None:
    grandchild = function.invoke({"do": "grandchild"}).payload
    assert is_running(grandchild)

    function.close()

    assert not is_running(grandchild)


def test_an_answer_of_more_than_6_mb_is_refused(function: LocalFunction) -> None:
    quotes = 2
    largest = MAXIMUM_RESPONSE_BYTES - quotes
    assert len(function.invoke({"do": "large", "bytes": largest}).payload) == largest

    result = function.invoke({"do": "large", "bytes": largest + 1})

    assert result.error is not None
    assert result.error.startswith("Function.ResponseSizeTooLarge")
    assert function.invoke({"do": "answer", "answer": 1}).payload == 1


def test_an_event_of_more_than_6_mb_is_refused(function: LocalFunction) -> None:
    overhead = len('{"do":"answer","answer":""}')
    largest = "x" * (MAXIMUM_EVENT_BYTES - overhead)
    assert function.invoke({"do": "answer", "answer": largest}).payload == largest

    with pytest.raises(LambdaCeleryError, match="send fewer records"):
        function.invoke({"do": "answer", "answer": largest + "x"})


@pytest.mark.parametrize(
    ("module", "error"),
    [
        (None, "init error Runtime.ImportModuleError: Unable to import module 'lambda_module'"),
        (
            "raise RuntimeError('set lambda_queue_url')",
            "init error RuntimeError: set lambda_queue_url",
        ),
        ("x = 1", "init error Runtime.HandlerNotFound: Handler 'handler' missing"),
        ("def", "init error Runtime.UserCodeSyntaxError: Syntax error in module"),
        ("import os; os._exit(7)", "init error process exited with status 7 before"),
    ],
)
def test_an_init_error_says_what_the_module_raised(
    tmp_path: Path, local_function: MakeFunction, module: str | None, error: str
) -> None:
    if module is not None:
        (tmp_path / "lambda_module.py").write_text(module)
    function = local_function("lambda_module.handler")

    result = function.invoke({})

    assert result.error is not None
    assert result.error.startswith(error)
    assert function.process_ids() == []


def test_an_init_error_does_not_spin(tmp_path: Path, local_function: MakeFunction) -> None:
    starts = tmp_path / "starts"
    (tmp_path / "lambda_module.py").write_text(
        f"open({str(starts)!r}, 'a').write('.')\nraise RuntimeError('broken')"
    )
    function = local_function("lambda_module.handler")

    durations = [function.invoke({}).duration_seconds for _ in range(3)]

    assert starts.read_text() == "..."  # one start for each invocation
    assert durations[1] >= 0.5  # each waits, and each longer than the one before
    assert durations[2] >= 1.0


def test_recycle_ends_the_wait_after_an_init_error(
    tmp_path: Path, local_function: MakeFunction
) -> None:
    module = tmp_path / "lambda_module.py"
    module.write_text("raise RuntimeError('broken')")
    function = local_function("lambda_module.handler", timeout_seconds=20)
    assert function.invoke({}).error == "init error RuntimeError: broken"
    module.write_text(HANDLER + "\n# mended")

    function.recycle()

    assert function.invoke({"do": "answer", "answer": 1}).payload == 1


def test_concurrency_is_reached_and_not_exceeded(
    tmp_path: Path, local_function: MakeFunction
) -> None:
    (tmp_path / "lambda_module.py").write_text(HANDLER)
    together = tmp_path / "together"
    together.mkdir()
    function = local_function("lambda_module.handler", timeout_seconds=60, maximum_concurrency=3)
    event = {"do": "meet", "directory": str(together), "others": 3}

    with ThreadPoolExecutor(9) as executor:
        results = list(executor.map(function.invoke, [event] * 9))

    # Three processes met, so three ran at a time; and nine invocations needed no fourth.
    assert [each.error for each in results] == [None] * 9
    assert {each.payload for each in results} == set(function.process_ids())
    assert len(function.process_ids()) == 3


def test_recycle_replaces_idle_and_busy_processes(
    tmp_path: Path, local_function: MakeFunction
) -> None:
    (tmp_path / "lambda_module.py").write_text(HANDLER)
    together = tmp_path / "together"
    together.mkdir()
    function = local_function("lambda_module.handler", timeout_seconds=60, maximum_concurrency=2)
    with ThreadPoolExecutor(1) as executor:
        busy = executor.submit(
            function.invoke, {"do": "meet", "directory": str(together), "others": 2}
        )
        idle = function.invoke({"do": "pid"}).payload
        while not list(together.iterdir()):
            threading.Event().wait(0.01)

        function.recycle()

        new = function.invoke({"do": "pid"}).payload
        assert not is_running(idle)
        assert not busy.done()
        (together / "the-other").touch()
        result = busy.result()
    assert result.error is None  # it was let finish
    assert new not in (idle, result.payload)
    assert function.process_ids() == [new]


def test_close_ends_busy_processes_and_refuses_more(function: LocalFunction) -> None:
    function.invoke({"do": "pid"})
    [pid] = function.process_ids()
    with ThreadPoolExecutor(1) as executor:
        hanging = executor.submit(function.invoke, {"do": "hang"})

        function.close()

        error: str | None
        try:
            error = hanging.result().error
        except LambdaCeleryError as exc:  # the thread came later than close
            error = str(exc)
    assert error in {
        "process exited with signal SIGKILL",
        "The local function has been closed: make a new one.",
    }
    assert not is_running(pid)
    assert function.process_ids() == []
    with pytest.raises(LambdaCeleryError, match="closed"):
        function.invoke({"do": "pid"})


def test_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "lambda_module.py").write_text(HANDLER)
    program = """
        import sys
        from lambda_celery.local.emulator import ministack
        from lambda_celery.local.function import LocalFunction

        with ministack() as url, LocalFunction("lambda_module.handler") as function:
            print(function.invoke({"do": "pid"}).payload, flush=True)
            function.invoke({"do": "hang"})
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        children = children_of(parent.pid)
        assert pid in children
        assert len(children) == 2  # the emulator, too

        parent.kill()

    for child in children:
        wait_until_ended(child)


def children_of(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def wait_until_ended(pid: int) -> None:
    deadline = 30 / 0.05
    while is_running(pid):
        assert deadline > 0, f"process {pid} still runs"
        deadline -= 1
        threading.Event().wait(0.05)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"timeout_seconds": 0}, "time-out is 0 s"),
        ({"timeout_seconds": 901}, "time-out is 901 s"),
        ({"maximum_concurrency": 0}, "concurrency is 0"),
    ],
)
def test_impossible_numbers_are_refused(options: Mapping[str, int], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        LocalFunction("lambda_module.handler", **options)
