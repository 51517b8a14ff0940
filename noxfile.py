"""The tests with the oldest versions that are allowed, with the newest, and with those between.

``nox -s oldest``, ``nox -s newest`` and ``nox -s django``, or ``make test-oldest``,
``make test-newest`` and ``make test-django``. A session whose interpreter is not on this machine is
skipped.
"""

from __future__ import annotations

import re
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False

_SIDE_BY_SIDE = ("-n", "2", "--dist", "loadfile")
#: Without the end-to-end tests and the emulated event source mapping: nothing in these hangs on
#: the versions.
_TESTS = ("tests/unit", "tests/contract", "tests/functional/runtime", "tests/fuzz")
#: What hangs on the version of Django.
_OF_DJANGO = (
    "tests/unit/django_mail", "tests/unit/test_django_tasks.py",
    "tests/functional/test_django_suite.py", "tests/functional/test_django_mail_packages.py",
    "tests/functional/test_django_admin.py", "tests/functional/test_django_task_dashboards.py",
    "tests/functional/test_django_state.py", "tests/functional/test_django_check.py",
    "tests/functional/runtime/test_django_mail.py", "tests/functional/runtime/test_django_tasks.py",
)  # fmt: skip


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """Run the tests with the lower bounds of what users install."""
    # Not create_tmp(): from then on all temporary files would be in there, and so in a repository.
    lowest = Path(session.virtualenv.location) / "lowest.txt"
    session.run(
        "uv", "pip", "compile", "--quiet", "--resolution", "lowest-direct", "--no-deps",
        "--python-version", str(session.python), "--extra", "local", "--extra", "django",
        "--extra", "async", "setup.cfg", "--output-file", str(lowest),
    )  # fmt: skip
    # The emulator asks for one version of botocore, and works with others. It is boto3's here.
    boto3 = re.search(r"^boto3==(\d+\.\d+)", lowest.read_text(), re.MULTILINE)
    assert boto3, "boto3 is no requirement any longer."
    botocore = lowest.with_name("botocore.txt")
    botocore.write_text(f"botocore=={boto3[1]}.*\n")
    session.install(".[dev]", "--constraint", str(lowest), "--override", str(botocore))
    session.run("python", "-m", "pytest", *_SIDE_BY_SIDE, *(session.posargs or _TESTS))


@nox.session(python="3.13")
def newest(session: nox.Session) -> None:
    """Run the tests with the newest versions within the bounds."""
    session.install("--upgrade", ".[dev]")
    session.run("python", "-m", "pytest", *_SIDE_BY_SIDE, *(session.posargs or _TESTS))


@nox.session(python="3.12")
def django(session: nox.Session) -> None:
    """Run the tests of Django with 6.0: the oldest have 5.2, and the newest have 6.1."""
    # pip fetches Django's sources, which have its own tests.
    session.install(".[dev]", "Django~=6.0.0", "pip")
    session.run("python", "-m", "pytest", *_SIDE_BY_SIDE, *(session.posargs or _OF_DJANGO))
