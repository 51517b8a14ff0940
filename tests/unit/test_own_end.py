"""A process ends itself with its invocation where Lambda does not end it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import sys, time
from lambda_runtime.deadline import Deadline
from lambda_runtime.running.limits.own_end import ended_with


class Context:
    @staticmethod
    def get_remaining_time_in_millis():
        return 200


def hang():
    time.sleep(float(sys.argv[1]))


with ended_with(Deadline(Context(), 0)):
    hang()
time.sleep(0.5)
"""


def run(hangs_seconds: float, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE, str(hangs_seconds)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_what_hangs_is_ended_and_told_where_it_was() -> None:
    done = run(600, AWS_LAMBDA_MAX_CONCURRENCY="2")

    assert done.returncode == 1
    assert "in hang" in done.stderr


@pytest.mark.parametrize(
    ("hangs_seconds", "environment"),
    [(0, {"AWS_LAMBDA_MAX_CONCURRENCY": "2"}), (0.5, {})],
    ids=["ends in time", "Lambda would end it"],
)
def test_nothing_else_is_ended(hangs_seconds: float, environment: dict[str, str]) -> None:
    done = run(hangs_seconds, **environment)

    assert (done.returncode, done.stderr) == (0, "")
