"""The demo of examples/million_calls, small: it goes on, lists failures, survives a kill."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

from tests.demos import ROOT, TIMEOUT_SECONDS, run_demo

DEMO = str(ROOT / "examples" / "million_calls" / "demo.py")
CALLS = 2000


def figure(output: str, name: str) -> str:
    """Return the figure behind *name*."""
    found = re.search(rf"^ *{re.escape(name)}: +(.*)$", output, re.MULTILINE)
    assert found, output
    return found[1]


def test_the_demo_keeps_its_promises(tmp_path):
    options = ("--calls", str(CALLS), "--timeout", "4", "--bounds", "1100")
    run = run_demo([DEMO, *options, "--processes", "0", "2"], tmp_path)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "Broken" not in run.stdout
    # Of a hundred members one is missing every second time, and one broken every fifth.
    assert figure(run.stdout, "rows succeeded, failed") == "1,986, 14", run.stdout
    assert "row 4: 404 (/members/4)\n" in run.stdout
    assert "row 5: 500 (/members/5)\n" in run.stdout
    assert figure(run.stdout, "called again, alone") == "14 calls, 14 succeeded"
    assert int(figure(run.stdout, "times the task went on")) > 0
    assert figure(run.stdout, "rows answered 200") == "1,000"
    assert "The function: 1100 calls in flight want a file descriptor each" in run.stdout
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_run_ends_in_one_line(tmp_path):
    """The service and the emulator are its children, and end with it."""
    written = ["--picture", str(tmp_path / "calls.png"), "--log", str(tmp_path / "function.log")]
    with subprocess.Popen(
        [sys.executable, DEMO, *written],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        for line in run.stdout:
            if line.startswith("1. "):
                break
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        assert run.stdout.read() == "Interrupted.\n"
        assert run.wait(TIMEOUT_SECONDS) == 128 + signal.SIGINT


def test_too_few_calls_are_refused_before_anything_starts(tmp_path):
    run = run_demo([DEMO, "--calls", "3"], tmp_path)

    assert run.returncode == 2
    assert "--calls must be" in run.stderr
