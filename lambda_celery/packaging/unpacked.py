"""A package, unpacked as Lambda does, with what Lambda's runtime has beside it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.inputs import STANZA
from lambda_celery.local.function import lambda_environment
from lambda_celery.packaging.errors import PackagingError

#: What Lambda's runtime has, and this environment must have to play it.
_RUNTIME_CLIENT = "awslambdaric"
_SDK = "boto3"
_TOLD_LINES = 15
_IMPORT_TIME = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| +(\S+)")


@dataclass(frozen=True)
class ImportTime:
    """How long a top-level package's modules took, without what these imported, in milliseconds."""

    package: str
    own_ms: float


@dataclass(frozen=True)
class Initialisation:
    """What the handler's initialisation has done.

    Attributes:
        tasks: the names of the tasks that are registered then.
        import_times: of each top-level package, the longest first.
        total_ms: all of them.
    """

    tasks: tuple[str, ...]
    import_times: tuple[ImportTime, ...]
    total_ms: float


@dataclass(frozen=True)
class Unpacked:
    """A package in an empty place.

    Attributes:
        directory: the package.
        runtime_packages: a directory that stands for what Lambda's runtime has.
    """

    directory: Path
    runtime_packages: Path

    def initialise(self, handler: str, environment: Mapping[str, str]) -> Initialisation:
        """Initialise *handler* in a process of its own, which measures the imports.

        Arguments:
            handler: ``module.function``.
            environment: variables besides those of AWS and of the machine.

        Raises:
            PackagingError: it fails.
        """
        script = Path(__file__).with_name("_handler_init.py")
        packages = json.dumps([str(self.runtime_packages)])
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-I", "-S", "-X", "importtime", str(script), packages, handler],
            cwd=self.directory,
            env=lambda_environment(handler, self.directory, environment, is_alone=True),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        times, others = [], []
        for line in done.stderr.splitlines():
            match = _IMPORT_TIME.fullmatch(line.rstrip())
            if match:
                times.append((match[2].partition(".")[0], int(match[1])))
            elif not line.startswith("import time:"):
                others.append(line)
        if done.returncode != 0:
            raise PackagingError(
                f"The handler {handler} cannot be initialised in the package:\n"
                + "\n".join(others[-_TOLD_LINES:])
                + "\nAs on Lambda, it has none of this shell's variables: what it needs belongs in "
                f"[{STANZA}.environment], or in parameters."
            )
        tasks = json.loads(done.stdout.strip().splitlines()[-1])["tasks"]
        total_us = sum(us for _, us in times)
        return Initialisation(tuple(tasks), _by_package(times), total_us / 1000)


def _by_package(times: list[tuple[str, int]]) -> tuple[ImportTime, ...]:
    own: Counter[str] = Counter()
    for package, us in times:
        own[package] += us
    return tuple(ImportTime(package, us / 1000) for package, us in own.most_common())


@contextmanager
def unpacked(package: Path) -> Iterator[Unpacked]:
    """Unpack the zip *package* to an empty place, as long as the context lasts.

    Raises:
        ConfigurationError: awslambdaric is not installed here.
    """
    with tempfile.TemporaryDirectory(prefix="lambda-celery-") as name:
        directory, runtime_packages = Path(name) / "task", Path(name) / "runtime"
        with zipfile.ZipFile(package) as archive:
            archive.extractall(directory)
        runtime_packages.mkdir()
        names = [_RUNTIME_CLIENT]
        if not (directory / _SDK).exists():
            names.append(_SDK)
        for each in _with_required(names):
            _link_files(each, runtime_packages)
        yield Unpacked(directory, runtime_packages)


def _with_required(names: list[str]) -> list[Distribution]:
    """Return the distributions *names* of this environment, and all that they require."""
    found: dict[str, Distribution] = {}
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError as exc:
            raise ConfigurationError(
                f"{name} is missing, which Lambda's runtime has: install `lambda-celery[local]`."
            ) from exc
        for text in found[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(requirement.name)
    return list(found.values())


def _link_files(installed: Distribution, directory: Path) -> None:
    for file in installed.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        place = directory / file
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            os.symlink(Path(str(file.locate())), place)
