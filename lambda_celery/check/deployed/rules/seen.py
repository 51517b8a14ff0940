"""What was looked at, and is in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lambda_celery.check.deployed.rule import ACCESS, unseen
from lambda_celery.check.model import Finding, Grade, registry

if TYPE_CHECKING:
    from lambda_celery.check.facts import Facts


@registry.rule(ACCESS, "Something that could not be looked at")
def access(facts: Facts) -> Iterator[Finding]:
    """AWS refused to tell something, there are no credentials, or a service cannot be reached.

    The finding names the IAM action that is missing. What does not depend on it was compared, but
    of the rest nothing is known: it is amber, and red where that stands in the way of a whole
    service. Every rule that needed the answer tells it, so it is not green whatever rules are
    chosen. The policy that the check needs is read-only, and stands in
    [Permissions](operations/permissions.md#the-check-of-what-is-deployed).
    """
    if facts.deployed is not None:
        yield from unseen(facts.deployed)


@registry.rule("deployed-seen", "What is deployed as it must be")
def seen(facts: Facts) -> Iterator[Finding]:
    """Lists what was found on AWS and compared, and is in order.

    It is green: no other rule of `--deployed` has found fault with it, and nothing of it was
    refused.
    """
    if (deployed := facts.deployed) is None:
        return
    for subject, thing in deployed.reader.seen.items():
        if subject not in deployed.at_fault:
            yield Finding(
                "deployed-seen",
                Grade.GREEN,
                subject,
                "It is there, and nothing that was compared differs.",
                "There is nothing to do.",
                resource=thing.resource,
            )
