"""The main path: from what the app and the stanza say to the changes of a project's files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from celery import Celery

from lambda_celery.infrastructure.forms.registry import FORMS, Form, form_of
from lambda_celery.infrastructure.inputs import STANZA, Deployment
from lambda_celery.infrastructure.resources import resources
from lambda_celery.infrastructure.runtimes import RUNTIMES
from lambda_celery.init import other_sam, settings
from lambda_celery.init.changes import Change, Changes, add_generated
from lambda_celery.init.errors import InitError
from lambda_celery.init.reading import AppFacts, is_fifo
from lambda_celery.init.settings import LooseSettings
from lambda_celery.init.stanza import Stanza

#: Where SAM's files are in the project of another SAM app.
BESIDE_ANOTHER_APP = "infrastructure"
#: Of no project: for what holds where the stanza says nothing.
DEFAULTS = Deployment(app="app", name="app")


@dataclass(frozen=True)
class Answers:
    """What was answered, or given by options.

    :ivar queues: Celery's names; ``None`` where the stanza has them.
    :ivar output: the directory of the files, from the project's; ``None``: the form's own.
    """

    app: str
    form: str
    name: str
    queues: Sequence[str] | None
    output: str | None


@dataclass(frozen=True)
class Draft:
    """What would be done.

    :ivar settings: the change of the app's settings, or what to write by hand; ``None`` if nothing
        is needed.
    :ivar commands: what deploys it.
    """

    deployment: Deployment
    changes: Changes
    settings: Change | LooseSettings | None
    commands: Sequence[str]


def proposed_name(stanza: Stanza, app_name: str) -> str:
    """Return what the infrastructure's names could begin with: the project's name, or the app's."""
    for each in (stanza.project_name, app_name.partition(":")[0].partition(".")[0]):
        name = re.sub(r"[^a-z0-9]+", "-", (each or "").lower()).lstrip("-0123456789")
        if name := name[:24].rstrip("-"):
            return name
    return "celery"


def check_stanza(stanza: Stanza) -> None:
    """Raise :exc:`ConfigurationError` for what *stanza* says already and cannot be meant."""
    if "form" in stanza.values:
        form_of(stanza.values["form"])
    output = stanza.values.get("output", "")
    if not isinstance(output, str):
        raise InitError(f"output in [{STANZA}] is {output!r}, but must be a directory's path.")
    Deployment.parse({"app": "app", "name": "app", **stanza.values})


def draft(app: Celery, root: Path, stanza: Stanza, facts: AppFacts, answers: Answers) -> Draft:
    """Return what is to be done in the project at *root*. Nothing is written.

    Raises:
        InitError: a file cannot be read, or cannot be added to.
        ConfigurationError: the stanza and the answers make no deployment.
    """
    form = form_of(answers.form)
    text = stanza.with_values(_values(stanza, facts, answers, form))
    deployment = Deployment.from_document(stanza.document(text), stanza.path.name)
    resources(deployment)  # what has the name of something else shows when all is made
    changes = Changes(notes=[*facts.notes, *_differences(stanza, facts, answers.app)])
    changes.notes += _other_python(deployment)
    if answers.output is None and form.directory == ".":
        others = other_sam.files_of(root, form.files(deployment, "."))
        if others:
            answers = replace(answers, output=BESIDE_ANOTHER_APP)
            text = stanza.with_values(_values(stanza, facts, answers, form))
            changes.notes.append(
                f"{' and '.join(others)} in this directory: that is another SAM app, which "
                "`sam deploy` here goes on to deploy. The files of this one are in "
                f"{BESIDE_ANOTHER_APP}."
            )
    output = answers.output or form.directory
    directory = Path(os.path.normpath(root / output))
    if directory != root and deployment.name in other_sam.stacks_of(root):
        raise InitError(
            f"{deployment.name} is the stack of the SAM app in this directory: give what is "
            "written here another --name."
        )
    changes.add(stanza.path, stanza.text, text)
    project = PurePath(os.path.relpath(root, directory)).as_posix()
    earlier = {each.directory for each in FORMS.values()} | {BESIDE_ANOTHER_APP}
    earlier.add(str(stanza.values.get("output", ".")))
    add_generated(
        changes,
        directory,
        form.files(deployment, project),
        [Path(os.path.normpath(root / each)) for each in earlier],
    )
    wanted = settings.proposed(app, root, facts.tasks) if settings.are_missing(app) else None
    return Draft(deployment, changes, wanted, form.commands(deployment, output))


def _values(stanza: Stanza, facts: AppFacts, answers: Answers, form: Form) -> Mapping[str, Any]:
    """Return what the stanza is to say besides what it says, and what is not said by default."""
    there = stanza.values
    values: dict[str, Any] = {"name": answers.name, "form": form.name}
    if "app" not in there:
        values = {"app": answers.app, **values}
    if answers.output is not None and (
        "output" in there or PurePath(answers.output) != PurePath(form.directory)
    ):
        values["output"] = PurePath(answers.output).as_posix()
    if "timeout" not in there and facts.timeout != DEFAULTS.timeout:
        values["timeout"] = facts.timeout
    usual = list(DEFAULTS.queues)
    if answers.queues is not None and not usual == list(answers.queues) == list(facts.queues):
        values["queues"] = _queues(answers.queues)
    return values


def _queues(names: Sequence[str]) -> Any:
    if not any(map(is_fifo, names)):
        return list(names)
    return {name: {"fifo": True} if is_fifo(name) else {} for name in names}


def _other_python(deployment: Deployment) -> Iterator[str]:
    """Yield a sentence if the function has another Python than the one that runs this."""
    here = ".".join(map(str, sys.version_info[:2]))
    version = RUNTIMES[deployment.runtime].version
    if version != here:
        yield (
            f"The function has Python {version}, and this is {here}: what is tried here may fail "
            f'there. Write runtime = "python{here}" into [{STANZA}], or go on with {version} here.'
        )


def _differences(stanza: Stanza, facts: AppFacts, app_name: str) -> Iterator[str]:
    """Yield a sentence on each thing that the stanza says otherwise than the app."""
    named = stanza.values.get("queues", facts.queues)
    for queue in facts.queues:
        if queue not in named:
            yield (
                f"The app uses the queue {queue}, which queues in [{STANZA}] does not name: add it "
                "there, unless nothing is sent to it."
            )
    if stanza.values.get("app", app_name) != app_name:
        yield (
            f"app in [{STANZA}] is {stanza.values['app']}, and -A is {app_name}: the function "
            "loads the former."
        )
    timeout = stanza.values.get("timeout")
    if isinstance(timeout, int) and timeout < facts.timeout:
        yield (
            f"The tasks' limits need a time-out of {facts.timeout} s, but timeout in [{STANZA}] is "
            f"{timeout}: raise it, or lower the limits."
        )
