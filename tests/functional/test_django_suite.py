"""Django's own tests of mail and task back ends pass with ours."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import django
import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Django's source distribution, which has its tests."""
    directory = tmp_path_factory.mktemp("django")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        "Django",
    ]
    subprocess.run([*command, f"Django=={django.__version__}"], cwd=directory, check=True)
    [archive] = directory.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    [found] = (each for each in directory.iterdir() if each.is_dir())
    return found


@pytest.mark.parametrize(
    ("suite", "at_least"),
    [
        ("django_suite.py", 10),
        pytest.param(
            "django_tasks_suite.py",
            60,
            marks=pytest.mark.skipif(django.VERSION < (6, 0), reason="Django has no tasks yet"),
        ),
    ],
)
def test_our_back_end_passes_what_is_said_of_back_ends(source, suite, at_least):
    result = subprocess.run(
        [sys.executable, str(HERE / suite), str(source)],
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert result.returncode == 0, result.stderr[-3000:]
    ran = re.search(r"Ran (\d+) tests", result.stderr)
    assert ran is not None
    assert int(ran[1]) >= at_least
