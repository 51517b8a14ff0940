"""The examples' demos, run as their users run them, and what their tables say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: What a killed process had is hidden for a while; the rest is for a machine that is busy.
TIMEOUT_SECONDS = 240


def run_demo(command: list[str], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with *command*; the picture and the log go to *tmp_path*."""
    written = ["--picture", str(tmp_path / "picture.png"), "--log", str(tmp_path / "function.log")]
    return subprocess.run(
        [sys.executable, *command, *written],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "120"},  # a table whose lines do not wrap
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def figure(output: str, name: str) -> str:
    """Return the figure in the table's line *name*."""
    found = re.search(rf"^│ +{re.escape(name)} +│ +(.*?) +│", output, re.MULTILINE)
    assert found, output
    return found[1]
