"""Lambda's runtimes of Python: what is in them, and until when AWS keeps them.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html. A test compares the dates with
those of cfn-lint.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Runtime:
    """What a function with the runtime has.

    Attributes:
        python: its version, such as ``(3, 13)``.
        glibc_minor: of glibc 2: 26 on Amazon Linux 2, 34 on Amazon Linux 2023.
        deprecated_on: from then on it gets no security updates, and later no function can be
            created with it, or updated.
    """

    python: tuple[int, int]
    glibc_minor: int
    deprecated_on: date

    @property
    def version(self) -> str:
        """The Python's version as text, such as ``3.13``."""
        return ".".join(map(str, self.python))


#: By Lambda's names, the oldest first.
ALL_RUNTIMES = {
    f"python{each.version}": each
    for each in (
        Runtime((3, 8), 26, date(2024, 10, 14)),
        Runtime((3, 9), 26, date(2025, 12, 15)),
        Runtime((3, 10), 26, date(2026, 10, 31)),
        Runtime((3, 11), 26, date(2027, 6, 30)),
        Runtime((3, 12), 34, date(2028, 10, 31)),
        Runtime((3, 13), 34, date(2029, 6, 30)),
        Runtime((3, 14), 34, date(2029, 6, 30)),
    )
}
#: Those that Lambda Celery runs on.
RUNTIMES = {name: each for name, each in ALL_RUNTIMES.items() if each.python >= (3, 11)}
