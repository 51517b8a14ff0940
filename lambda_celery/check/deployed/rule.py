"""How a rule of ``--deployed`` is written: it looks at what is deployed, and yields differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from lambda_celery.check.deployed.deployment import Deployed
from lambda_celery.check.deployed.reading import Thing
from lambda_celery.check.model import Finding, Grade, registry

if TYPE_CHECKING:
    from lambda_celery.check.facts import Facts

#: The rule of everything that could not be looked at.
ACCESS = "deployed-access"


class Wrong(Enum):
    """Which of the two is to be changed."""

    AWS = "AWS is wrong"
    SETTINGS = "The settings are wrong"


@dataclass(frozen=True)
class Difference:
    """Something on AWS that is not as it must be.

    :ivar remedy: what to do to that which is *wrong*; it begins with a small letter.
    """

    grade: Grade
    thing: Thing
    sentence: str
    wrong: Wrong
    remedy: str


Compare = Callable[[Deployed], Iterable[Difference]]


def deployed_rule(rule_id: str, title: str) -> Callable[[Compare], Compare]:
    """Enter the decorated function as a rule, which finds nothing unless AWS is looked at.

    What it could not look at is found, too: that is never green.
    """

    def enter(compare: Compare) -> Compare:
        def find(facts: Facts) -> Iterator[Finding]:
            deployed = facts.deployed
            if deployed is None:
                return
            for each in compare(deployed):
                deployed.at_fault.add(each.thing.subject)
                yield Finding(
                    rule_id,
                    each.grade,
                    each.thing.subject,
                    each.sentence,
                    f"{each.wrong.value}: {each.remedy}",
                    resource=each.thing.resource,
                )
            yield from unseen(deployed)

        find.__doc__ = compare.__doc__
        registry.rule(rule_id, title)(find)
        return compare

    return enter


def unseen(deployed: Deployed) -> Iterator[Finding]:
    """Yield a finding for each thing that could not be looked at since the last time."""
    for each in deployed.reader.take_unseen():
        deployed.at_fault.add(each.thing.subject)
        yield Finding(
            ACCESS,
            Grade.RED if each.is_general else Grade.AMBER,
            each.thing.subject,
            f"It could not be looked at. {each.sentence}",
            "Nothing of it is known to be right. docs/operations/permissions.md has the policy "
            "that the check needs.",
            resource=each.thing.resource,
        )
