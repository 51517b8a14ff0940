"""Log lines of several processes on one standard output."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time

import pytest

from lambda_runtime.processes.lines import Lines, share_standard_output

LINES = 30
#: More than a pipe takes at once.
CHARACTERS = 200_000


@pytest.mark.parametrize("name", [None, "celery.task"])
def test_the_handlers_on_standard_output_write_whole_lines(name):
    handlers = [logging.StreamHandler(each) for each in (sys.stdout, sys.stderr)]
    logger = logging.getLogger(name)
    for each in handlers:
        logger.addHandler(each)
    try:
        shared = share_standard_output()
    finally:
        for each in handlers:
            logger.removeHandler(each)
    assert isinstance(shared, Lines)
    assert handlers[0].stream is shared
    assert handlers[1].stream is sys.stderr


def write(letter: str, lines: Lines) -> None:
    for _ in range(LINES):
        lines.write(letter * CHARACTERS + "\n")


def test_long_lines_of_several_processes_stay_whole():
    reading, writing = os.pipe()
    children = []
    with tempfile.TemporaryFile() as lock:
        for letter in "ab":
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    with os.fdopen(writing, "w") as stream:
                        write(letter, Lines(stream, lock))
                    code = 0
                finally:
                    os._exit(code)
            children.append(child)
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            time.sleep(0.1)  # until both have begun
            found = stream.read().decode().splitlines()
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sorted(found) == ["a" * CHARACTERS] * LINES + ["b" * CHARACTERS] * LINES
