"""Where a package is to run: a Python, a processor, a C library."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass

from packaging.tags import Tag, compatible_tags, cpython_tags, sys_tags

from lambda_celery.infrastructure.runtimes import RUNTIMES
from lambda_celery.packaging.errors import PackagingError

#: Lambda's name for an architecture, and Linux's.
MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}

#: No wheel asks for less: what pip and uv call manylinux2014.
_OLDEST_GLIBC_MINOR = 17


@dataclass(frozen=True)
class Target:
    """A Python on a machine.

    Attributes:
        python: its version, such as ``(3, 13)``.
        machine: what Linux calls its processor: ``aarch64`` or ``x86_64``.
        glibc_minor: of its C library; ``None``: this very machine, whatever that has.
    """

    python: tuple[int, int]
    machine: str
    glibc_minor: int | None

    @classmethod
    def of(cls, runtime: str, architecture: str) -> Target:
        """Return where a function with *runtime* and *architecture* runs.

        Raises :exc:`PackagingError` if Lambda has no such runtime or architecture.
        """
        if runtime not in RUNTIMES:
            raise PackagingError(
                f"The runtime is {runtime!r}, which is none of Lambda's that can run this: "
                f"choose one of {', '.join(RUNTIMES)}."
            )
        if architecture not in MACHINES:
            raise PackagingError(
                f"The architecture is {architecture!r}: choose one of {', '.join(MACHINES)}."
            )
        of_lambda = RUNTIMES[runtime]
        return cls(of_lambda.python, MACHINES[architecture], of_lambda.glibc_minor)

    @classmethod
    def here(cls) -> Target:
        """Return this interpreter on this machine."""
        return cls(sys.version_info[:2], platform.machine(), None)

    @property
    def version(self) -> str:
        """The Python's version as text, such as ``3.13``."""
        return ".".join(map(str, self.python))

    @property
    def runs_here(self) -> bool:
        """Whether this interpreter can run what is built for it."""
        if self.glibc_minor is None:
            return True
        here = Target.here()
        library, version = platform.libc_ver()
        return (
            (self.python, self.machine) == (here.python, here.machine)
            and sys.platform == "linux"
            and library == "glibc"
            and int(version.split(".")[1]) >= self.glibc_minor
        )

    @property
    def uv_platform(self) -> str:
        """The platform as uv calls it: the newest that it knows, and the target has."""
        minor = 34 if self._glibc >= 34 else _OLDEST_GLIBC_MINOR
        return f"{self.machine}-manylinux_2_{minor}"

    @property
    def platforms(self) -> list[str]:
        """The platform's tags, the newest C library first, as wheels and pip call them."""
        tags = []
        for minor in range(self._glibc, _OLDEST_GLIBC_MINOR - 1, -1):
            tags.append(f"manylinux_2_{minor}_{self.machine}")
        return [*tags, f"manylinux2014_{self.machine}", f"linux_{self.machine}"]

    def tags(self) -> frozenset[Tag]:
        """Return the tags of the wheels that run there."""
        if self.glibc_minor is None:
            return frozenset(sys_tags())
        interpreter = f"cp{''.join(map(str, self.python))}"
        return frozenset(
            [
                *cpython_tags(self.python, [interpreter], self.platforms),
                *compatible_tags(self.python, interpreter, self.platforms),
            ]
        )

    def __str__(self) -> str:
        where = "this machine" if self.glibc_minor is None else "Lambda"
        return f"Python {self.version} on {self.machine} ({where})"

    @property
    def _glibc(self) -> int:
        return self.glibc_minor or _OLDEST_GLIBC_MINOR
