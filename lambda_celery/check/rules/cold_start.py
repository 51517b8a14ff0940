"""What it takes until the first task of a new environment runs."""

from __future__ import annotations

from collections.abc import Iterator

from lambda_celery.check.facts import Facts
from lambda_celery.check.imports import measure
from lambda_celery.check.model import Finding, Grade, registry

#: Lambda gives the initialisation ten seconds, on slower CPUs than a developer's.
AMBER_SECONDS = 3.0
WORST = 5


@registry.rule("import-cost", "Imports at the cold start")
def import_cost(facts: Facts) -> Iterator[Finding]:
    """The app is imported in a new process, and that takes more than 3 s on this machine.

    Each new environment does it before its first task, and Lambda allows ten seconds before it
    starts anew. The five worst packages are named. Import what few tasks need in these
    tasks' bodies, and leave out of the function what it does not need.
    """
    if not facts.app_name:
        return
    cost = measure(facts.app_name, facts.root)
    if cost is None:
        yield Finding(
            "import-cost",
            Grade.AMBER,
            None,
            "The app could not be imported in a process of its own, so the cost is not known.",
            f"Look at what `python -c 'import {facts.app_name.partition(':')[0]}'` says.",
        )
    elif cost.seconds > AMBER_SECONDS:
        worst = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in cost.packages[:WORST])
        yield Finding(
            "import-cost",
            Grade.AMBER,
            None,
            f"Importing the app takes {cost.seconds:.1f} s here. The most of it: {worst}.",
            "Import what few tasks need in their bodies, and give the function more memory.",
        )
