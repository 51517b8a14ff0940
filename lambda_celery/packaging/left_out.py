"""What is left out of a package: nothing of it is run on Lambda."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

#: Of the project's own files, at any depth: what tools have made for themselves. Docker's words for
#: all of these are made of them.
CACHES = (
    "*.pyc", "*.pyo", "*.swp", ".DS_Store", ".aws-sam", ".git", ".hypothesis", ".idea",
    ".ipynb_checkpoints", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache", ".serverless",
    ".terraform", ".tox", ".vscode", "__pycache__", "cdk.out", "node_modules",
)  # fmt: skip
#: At any depth: what tells them from other modules is that nothing else imports them.
TESTS = ("conftest.py", "test", "test_*.py", "tests", "tests.py")
#: At any depth, and tracked or not: by their names, they are made for secrets.
SECRETS = (
    "*.env", "*.jks", "*.keystore", "*.p12", "*.pfx", "*.tfstate*", "*.tfvars*", ".aws", ".docker",
    ".env", ".env.*", ".envrc", ".git-credentials", ".htpasswd", ".kube", ".netrc", ".npmrc",
    ".pgpass", ".pypirc", ".ssh", "id_dsa*", "id_ecdsa*", "id_ed25519*", "id_rsa*",
)  # fmt: skip
#: At any depth, but only where git does not track them: a certificate has such a name, too.
KEYS = ("*.key", "*.pem")
DATABASES = ("*.dump", "*.sqlite3*", "dump*.sql*")
#: At the top of the project alone, and only what is no package.
TOP_DIRECTORIES = (".github", "build", "dist", "docs", "htmlcov")
TOP_FILES = (
    "*.egg-info", "*.log", "*.md", "*.rst", "*.sqlite3*", "*.tf", "*.zip", ".coverage",
    ".dockerignore", ".editorconfig", ".gitattributes", ".gitignore", ".gitlab-ci.yml",
    ".gitmodules", ".pre-commit-config.yaml", ".terraform.lock.hcl",
    "Dockerfile*", "Makefile", "Pipfile*", "cdk.json", "compose*.yaml", "compose*.yml",
    "docker-compose*", "noxfile.py", "poetry.lock", "pyproject.toml", "pytest.ini",
    "requirements*.txt", "ruff.toml", "samconfig.toml", "serverless.y*ml", "setup.cfg", "setup.py",
    "template.y*ml", "tox.ini", "uv.lock",
)  # fmt: skip
#: What Django's users upload. At the top alone, and only where git does not track it.
UPLOADS = "media"
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


def is_named(path: str, patterns: Iterable[str]) -> bool:
    """Whether *path*'s name, or that of a directory above it, matches one of the globs."""
    return any(fnmatchcase(part, each) for part in PurePosixPath(path).parts for each in patterns)


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
