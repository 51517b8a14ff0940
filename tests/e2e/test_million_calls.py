"""The demo of examples/million_calls, small: it goes on, lists failures, survives a kill."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).parents[2] / "examples" / "million_calls" / "demo.py"
#: For a machine that is busy.
TIMEOUT_SECONDS = 240
CALLS = 2000


def run_demo(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, str(DEMO), *arguments),
            *("--picture", str(tmp_path / "calls.png"), "--log", str(tmp_path / "function.log")),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def figure(output: str, name: str) -> str:
    """Return the figure behind *name*."""
    found = re.search(rf"^ *{re.escape(name)}: +(.*)$", output, re.MULTILINE)
    assert found, output
    return found[1]


def test_the_demo_keeps_its_promises(tmp_path):
    run = run_demo(
        tmp_path,
        *("--calls", str(CALLS), "--timeout", "4"),
        *("--bounds", "1100", "--processes", "0", "2"),
    )

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
    assert (tmp_path / "calls.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_run_ends_in_one_line(tmp_path):
    """The service and the emulator are its children, and end with it."""
    written = ["--picture", str(tmp_path / "calls.png"), "--log", str(tmp_path / "function.log")]
    with subprocess.Popen(
        [sys.executable, str(DEMO), *written],
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
    run = run_demo(tmp_path, "--calls", "3")

    assert run.returncode == 2
    assert "--calls must be" in run.stderr
