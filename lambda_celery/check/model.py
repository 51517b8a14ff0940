"""What the check speaks of: grades, places, findings, and the rules that find them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from lambda_celery.exceptions import LambdaCeleryError

if TYPE_CHECKING:
    from lambda_celery.check.facts import Facts


class CheckError(LambdaCeleryError):
    """The check cannot be made as it was asked for."""


class Grade(IntEnum):
    """How a task does on Lambda; the higher, the worse."""

    #: Runs, and as on a worker.
    GREEN = 0
    #: Runs, but a person has to look: it may not do what it does on a worker.
    AMBER = 1
    #: Cannot work, or is refused, or is lost.
    RED = 2

    @property
    def word(self) -> str:
        """The grade as it is written: ``green``, ``amber`` or ``red``."""
        return self.name.lower()


@dataclass(frozen=True, order=True)
class Place:
    """A line of a file.

    :ivar path: as it is shown: below the working directory a relative one, with ``/``.
    :ivar line: from 1.
    """

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Finding:
    """What a rule has found.

    :ivar rule: the rule's id.
    :ivar subject: the task, the setting or the resource that it is about; ``None`` for the project.
    :ivar sentence: what is so, and what comes of it.
    :ivar remedy: what to do.
    :ivar place: where that is in the project's files.
    :ivar resource: where that is on AWS: an ARN, a URL or a name.
    """

    rule: str
    grade: Grade
    subject: str | None
    sentence: str
    remedy: str
    place: Place | None = None
    resource: str | None = None


@dataclass(frozen=True)
class Rule:
    """One thing that the check looks for.

    :ivar paragraph: what the documentation says of it, in Markdown.
    """

    id: str
    title: str
    paragraph: str
    find: Callable[[Facts], Iterable[Finding]]


@dataclass
class Registry:
    """All rules, each under an id of its own."""

    _rules: dict[str, Rule] = field(default_factory=dict)

    def rule(
        self, rule_id: str, title: str
    ) -> Callable[[Callable[[Facts], Iterable[Finding]]], Callable[[Facts], Iterable[Finding]]]:
        """Enter the decorated function as a rule; its docstring is the rule's paragraph."""

        def enter(
            find: Callable[[Facts], Iterable[Finding]],
        ) -> Callable[[Facts], Iterable[Finding]]:
            if rule_id in self._rules:
                raise ValueError(f"Two rules have the id {rule_id!r}.")
            paragraph = inspect.getdoc(find) or ""
            self._rules[rule_id] = Rule(rule_id, title, paragraph, find)
            return find

        return enter

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules.values())

    def __contains__(self, rule_id: object) -> bool:
        return rule_id in self._rules

    def get(self, rule_id: str, named_by: str) -> Rule:
        """Return the rule *rule_id*; raise :exc:`CheckError` with *named_by* if there is none."""
        try:
            return self._rules[rule_id]
        except KeyError:
            close = difflib.get_close_matches(rule_id, self._rules, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise CheckError(
                f"{named_by} names the rule {rule_id!r}, which there is not.{hint} "
                "docs/check.md lists the rules."
            ) from None


#: The rules of ``celery lambda check``. The modules in :mod:`lambda_celery.check.rules` enter them.
registry = Registry()
