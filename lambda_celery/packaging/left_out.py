"""What is left out of a package: nothing of it is run on Lambda."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

#: Of the project's own files. Docker's words for the same are made of these.
OWN_DIRECTORIES = (
    ".aws-sam", ".git", ".github", ".hypothesis", ".idea", ".mypy_cache", ".nox", ".pytest_cache",
    ".ruff_cache", ".serverless", ".terraform", ".tox", ".venv", ".vscode", "__pycache__",
    "cdk.out", "htmlcov", "node_modules", "test", "tests", "venv",
)  # fmt: skip
#: The same, but at the top of the project alone.
OWN_TOP_DIRECTORIES = ("build", "dist", "docs", "env")
OWN_FILES = (
    "*.egg-info", "*.log", "*.md", "*.pyc", "*.pyo", "*.rst", "*.sqlite3", "*.swp", "*.tf",
    "*.tfstate*", "*.tfvars", "*.zip", ".coverage", ".dockerignore", ".DS_Store", ".editorconfig",
    ".env", ".env.*", ".envrc", ".gitattributes", ".gitignore", ".gitlab-ci.yml",
    ".pre-commit-config.yaml",
    "Dockerfile*", "Makefile", "Pipfile*", "cdk.json", "compose*.yaml", "compose*.yml",
    "conftest.py", "docker-compose*", "noxfile.py", "poetry.lock", "pyproject.toml", "pytest.ini",
    "requirements*.txt", "ruff.toml", "samconfig.toml", "serverless.y*ml", "setup.cfg", "setup.py",
    "template.y*ml", "test_*.py", "tests.py", "tox.ini", "uv.lock",
)  # fmt: skip
#: Lambda's Python runtimes have these. What else they have, others may need in another version.
RUNTIMES_OWN = ("boto3", "botocore", "jmespath", "s3transfer")

_DEPENDENCY_DIRECTORIES = {"__pycache__", "tests"}
_DEPENDENCY_SUFFIXES = {".a", ".exe", ".pxd", ".pyc", ".pyi", ".pyo", ".pyx"}
#: They name the machine that has installed, or what is left out.
_DEPENDENCY_METADATA = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json"}
_IMPORTS_TESTS = re.compile(rb"^\s*(?:from|import)\s[^#\n]*\btests\b", re.MULTILINE)


def is_matched(path: str, patterns: Iterable[str]) -> bool:
    """Whether *path* in the package, or a directory above it, matches one of the globs."""
    pure = PurePosixPath(path)
    names = [str(pure), *(str(each) for each in pure.parents if each.name)]
    return any(fnmatchcase(name, each.rstrip("/")) for name in names for each in patterns)


def is_own_useless(path: str) -> bool:
    """Whether *path*, of a file of the project's, is none that its tasks need."""
    parts = PurePosixPath(path).parts
    return (
        any(part in OWN_DIRECTORIES for part in parts[:-1])
        or (len(parts) > 1 and parts[0] in OWN_TOP_DIRECTORIES)
        or any(fnmatchcase(part, each) for part in parts for each in OWN_FILES)
    )


def prune(directory: Path, keep: Iterable[str]) -> None:
    """Delete from *directory*, where wheels were unpacked, what they bring for developers.

    These are type stubs, sources of extension modules, scripts, what the installer notes, and
    directories ``tests``, but for those that a module from outside of them imports.

    Arguments:
        directory: with the wheels' files.
        keep: globs of what stays all the same.
    """
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    wanted = {_top_of(path.relative_to(directory)) for path in files if _imports_tests(path)}
    keep = list(keep)
    for path in files:
        relative = path.relative_to(directory)
        in_wanted_tests = "tests" in relative.parts and _top_of(relative) in wanted
        useless = _is_useless(relative, {"tests"} if in_wanted_tests else set())
        if useless and not is_matched(relative.as_posix(), keep):
            path.unlink()
    remove_empty(directory)


def remove_empty(directory: Path) -> None:
    """Delete the directories in *directory* in which there is no file."""
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _is_useless(relative: Path, allowed: set[str]) -> bool:
    parts = relative.parts
    return (
        bool((_DEPENDENCY_DIRECTORIES - allowed) & set(parts[:-1]))
        or relative.suffix in _DEPENDENCY_SUFFIXES
        or (len(parts) == 2 and parts[0] == "bin")
        or relative.name == ".lock"
        or (parts[0].endswith(".dist-info") and relative.name in _DEPENDENCY_METADATA)
    )


def _imports_tests(path: Path) -> bool:
    if path.suffix != ".py" or "tests" in path.parts:
        return False
    return _IMPORTS_TESTS.search(path.read_bytes()) is not None


def _top_of(relative: Path) -> str:
    return relative.parts[0]
