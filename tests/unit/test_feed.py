"""The stream by which a function tells the local runner what it does."""

from __future__ import annotations

import os
import subprocess
import sys

from lambda_celery.conf import FEED_VARIABLE
from lambda_runtime import feed


def test_a_program_that_a_task_starts_has_no_part_in_it(monkeypatch):
    # Given
    read, write = os.pipe()
    os.set_inheritable(write, True)
    monkeypatch.setenv(FEED_VARIABLE, str(write))
    stream = feed.opened()
    assert stream is not None

    # When
    look = f"import os; assert '{FEED_VARIABLE}' not in os.environ; os.fstat({write})"
    done = subprocess.run(
        [sys.executable, "-c", look], close_fds=False, capture_output=True, check=False
    )
    stream.write("half of a character: \ud800\n")
    stream.flush()
    os.close(write)

    # Then
    assert b"Bad file descriptor" in done.stderr
    with open(read) as lines:
        assert lines.read() == "half of a character: \\ud800\n"


def test_where_no_runner_asks_there_is_none(monkeypatch):
    monkeypatch.delenv(FEED_VARIABLE, raising=False)
    assert feed.opened() is None
