"""The commands where what they need is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: Runs celery as if one module were not installed.
PROGRAM = """
import sys
sys.modules[{missing!r}] = None
from celery.__main__ import main
sys.argv = ["celery", "-A", "proj", "lambda", *{command!r}]
main()
"""


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (["check"], "packaging"),
        (["check"], "rich"),
        (["init", "--yes"], "packaging"),
        (["init", "--yes"], "tomlkit"),
        (["init", "--yes"], "yaml"),
        (["init", "--yes", "--form", "terraform"], "hcl2"),
        (["package"], "packaging"),
        (["dashboard"], "starlette"),
        (["dashboard"], "uvicorn"),
    ],
)
def test_a_missing_extra_is_told_in_a_sentence(
    tmp_path: Path, command: list[str], missing: str
) -> None:
    (tmp_path / "proj.py").write_text("from celery import Celery\napp = Celery('proj')\n")

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(missing=missing, command=command)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    extra = "dashboard" if command == ["dashboard"] else "deploy"
    assert f"pip install 'lambda-celery[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert [each.name for each in tmp_path.iterdir() if each.name != "__pycache__"] == ["proj.py"]
