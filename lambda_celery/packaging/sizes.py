"""What each distribution takes of a package, and what could be left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lambda_celery.packaging.archive import files_in
from lambda_celery.packaging.distributions import Installed
from lambda_celery.packaging.left_out import RUNTIMES_OWN

#: The name of what is no distribution's.
OWN = "(the project)"

#: What nobody imports in a function, by whom it is for.
_NOT_FOR_FUNCTIONS = {
    "a developer": {
        "black", "build", "coverage", "debugpy", "django-debug-toolbar", "flake8", "hypothesis",
        "ipdb", "ipython", "isort", "jupyter", "mypy", "nox", "pip", "pre-commit", "pylint",
        "pytest", "ruff", "setuptools", "tox", "uv", "virtualenv", "watchdog", "watchfiles",
        "wheel",
    },
    "a local run": {"awslambdaric", "ministack", "moto", "localstack"},
    "a web process": {"daphne", "flower", "gunicorn", "uvicorn", "uwsgi", "waitress", "whitenoise"},
}  # fmt: skip
_WORTH_TELLING_BYTES = 5_000_000


@dataclass(frozen=True)
class Size:
    """What one distribution takes, in bytes."""

    name: str
    version: str
    unzipped_bytes: int
    zipped_bytes: int


def sizes(
    directory: Path, distributions: Iterable[Installed], zipped: Mapping[str, int]
) -> list[Size]:
    """Return what each distribution takes, the biggest first.

    Arguments:
        directory: the package, unpacked.
        distributions: what was unpacked there.
        zipped: the compressed size of each file, by its path.
    """
    owners = {file: each.name for each in distributions for file in each.files}
    versions = {each.name: each.version for each in distributions}
    unzipped: dict[str, int] = {}
    compressed: dict[str, int] = {}
    for path in files_in(directory):
        name = path.relative_to(directory).as_posix()
        owner = owners.get(_source(name), OWN)
        unzipped[owner] = unzipped.get(owner, 0) + path.stat().st_size
        compressed[owner] = compressed.get(owner, 0) + zipped.get(name, 0)
    found = [
        Size(name, versions.get(name, ""), size, compressed[name])
        for name, size in unzipped.items()
    ]
    return sorted(found, key=lambda each: (-each.unzipped_bytes, each.name))


def advice(found: Iterable[Size], directory: Path) -> list[str]:
    """Return sentences that say what could be left out of the package in *directory*."""
    by_name = {each.name: each for each in found}
    sentences = []
    if "botocore" in by_name:
        taken = sum(by_name[name].unzipped_bytes for name in RUNTIMES_OWN if name in by_name)
        sentences.append(
            f"boto3 and what belongs to it take {megabytes(taken)}, and Lambda's runtime has them: "
            "leave them out with --without-boto3. What Lambda has can be older than what you "
            "have tested, and AWS renews it."
        )
    for whom, names in _NOT_FOR_FUNCTIONS.items():
        if here := sorted(names & by_name.keys()):
            taken = sum(by_name[name].unzipped_bytes for name in here)
            sentences.append(
                f"{', '.join(here)} ({megabytes(taken)}): for {whom}, and not for a function. "
                "Leave out of the requirements what nothing else here needs."
            )
    for path in sorted(each for each in directory.rglob("locale") if each.is_dir()):
        taken = sum(each.stat().st_size for each in files_in(path))
        if taken > _WORTH_TELLING_BYTES:
            name = path.relative_to(directory).as_posix()
            sentences.append(
                f"{name} takes {megabytes(taken)}: leave out each language that your tasks do not "
                f"speak with --exclude '{name}/LANGUAGE'."
            )
    return sentences


def megabytes(size: int) -> str:
    """Return *size*, in bytes, as text for people."""
    return f"{size / 1_000_000:.1f} MB"


def _source(name: str) -> str:
    """Return the path of the source of *name*, if that is compiled, else *name*."""
    path = Path(name)
    if path.parent.name != "__pycache__":
        return name
    return (path.parent.parent / f"{path.name.partition('.')[0]}.py").as_posix()
