"""What the rules look at: collected once, from the app and from the project's source."""

from __future__ import annotations

import ast
import inspect
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import Celery, Task

from lambda_celery.celery_hooks.apps import is_nobodys
from lambda_celery.check.bodies import Bodies, Body, Call, is_a
from lambda_celery.check.following import Followed, Follower, Step
from lambda_celery.check.model import CheckError, Finding, Grade, Place
from lambda_celery.check.sources import Source, Sources
from lambda_celery.conf import Settings
from lambda_celery.exceptions import ConfigurationError

if TYPE_CHECKING:
    from lambda_celery.check.deployed.deployment import Deployed

#: The table of ``pyproject.toml`` that is ours.
STANZA = "lambda-celery"
#: What calls a task, or makes a signature of it.
_CALLING = {"delay", "apply_async", "adelay", "aapply_async", "delay_on_commit",
            "apply_async_on_commit", "delay_many", "apply_async_many"}  # fmt: skip
_SIGNING = {"s", "si", "subtask", "signature", "set", "chunks", "map", "starmap", "retry"}


@dataclass(frozen=True)
class TaskFacts:
    """A task of the app.

    :ivar place: where its function, or its class, is defined; ``None`` if that is not found.
    :ivar steps: the bodies that it reaches, its own first.
    :ivar is_readable: whether the source of its own body was found.
    :ivar is_whole: whether all that it reaches was looked at.
    """

    name: str
    task: Task
    place: Place | None
    steps: tuple[Step, ...]
    is_readable: bool
    is_whole: bool

    @property
    def calls(self) -> Iterator[tuple[Step, Call]]:
        """Each call that the task reaches, with the step that it is in."""
        for step in self.steps:
            for call in step.body.calls:
                yield step, call

    @cached_property
    def options(self) -> Mapping[str, Any]:
        """The options that were given: in the decorator, or by its base classes."""
        found: dict[str, Any] = {}
        for cls in type(self.task).__mro__:
            if cls is Task or cls is object:
                break
            for name, value in vars(cls).items():
                found.setdefault(name, value)
        return found

    def finding(
        self,
        rule: str,
        grade: Grade,
        sentence: str,
        remedy: str,
        place: Place | None = None,
        step: Step | None = None,
    ) -> Finding:
        """Return a finding about this task, at *place*, or where the task is.

        :param step: where on the way from the task that is, for the sentence.
        """
        if step is not None and step.route:
            way = [*step.route[1:], step.body.name]
            shown = way if len(way) <= 4 else [*way[:2], "…", way[-1]]
            sentence += f" The task gets there by way of {' → '.join(shown)}."
        return Finding(rule, grade, self.name, sentence, remedy, place or self.place)


@dataclass(frozen=True)
class CallSite:
    """Where the project calls a task, or makes a signature of one.

    :ivar task: the task's name; ``None`` if it cannot be told which.
    """

    call: Call
    task: str | None

    @property
    def is_call(self) -> bool:
        """Whether the task is called here, and not only a signature of it made."""
        return self.call.attribute in _CALLING or self.call.attribute == "send_task"

    @property
    def options(self) -> Mapping[str, ast.expr]:
        """The options of the call; empty where its keywords are the task's arguments."""
        if self.call.attribute in ("delay", "s", "si", "adelay", "delay_on_commit", "delay_many"):
            return {}
        return {each.arg: each.value for each in self.call.node.keywords if each.arg}


@dataclass
class Facts:
    """What is known of the project.

    :ivar app: finalised, with its tasks imported.
    :ivar app_name: what ``-A`` says; empty if that is not known.
    :ivar settings: those of Lambda Celery.
    :ivar settings_error: why *settings* are the defaults although some are set.
    :ivar root: the folder of the project.
    :ivar stanza: ``[tool.lambda-celery]`` in its ``pyproject.toml``.
    :ivar deployed: what is on AWS; ``None`` if that is not to be looked at.
    """

    app: Celery
    settings: Settings
    root: Path
    app_name: str = ""
    settings_error: str | None = None
    stanza: Mapping[str, Any] = field(default_factory=dict)
    deployed: Deployed | None = None

    def __post_init__(self) -> None:
        self.sources = Sources(self.root)
        self.bodies = Bodies(self.sources)

    @classmethod
    def collect(cls, app: Celery, root: Path, app_name: str = "") -> Facts:
        """Import the tasks of *app*, and read what the rules need.

        Raises :exc:`CheckError` if a module of the project cannot be imported, or its
        ``pyproject.toml`` cannot be read.
        """
        try:
            app.loader.import_default_modules()
            app.finalize()
        except Exception as exc:
            raise CheckError(
                f"The app's modules cannot be imported: {type(exc).__name__}: {exc}. "
                "Make `celery -A … report` work first."
            ) from exc
        try:
            settings, error = Settings.from_app(app), None
        except ConfigurationError as exc:
            settings, error = Settings(), str(exc)
        return cls(app, settings, root, app_name, error, read_stanza(root))

    @cached_property
    def written_settings(self) -> frozenset[str]:
        """The settings that somebody has written, by Celery's lower-case names."""
        prefix = str(self.app.conf.prefix or "")
        return frozenset(each.removeprefix(prefix).lower() for each in self.spelt_settings)

    @cached_property
    def spelt_settings(self) -> frozenset[str]:
        """The settings that somebody has written, as they are spelt."""
        # Not by table(), which reads the values: Django's settings name some that they have not.
        conf = self.app.conf.finalize().without_defaults()
        return frozenset(
            name
            for name in map(str, conf.keys())
            if not name.startswith("_") and name not in dir(dict)
        )

    @cached_property
    def tasks(self) -> tuple[TaskFacts, ...]:
        """The app's tasks, by their names, without Celery's own."""
        follower = Follower(self.bodies)
        return tuple(
            self._task(name, task, follower)
            for name, task in sorted(self.app.tasks.items())
            if not is_nobodys(task)
        )

    @cached_property
    def project(self) -> tuple[Source, ...]:
        """The project's files."""
        return tuple(self.sources.of_project())

    @cached_property
    def project_bodies(self) -> tuple[Body, ...]:
        """Every function of the project's files, and what runs when they are imported."""
        return tuple(body for source in self.project for body in self.bodies.of_source(source))

    @cached_property
    def task_places(self) -> frozenset[Place]:
        """Where the calls are that tasks reach."""
        return frozenset(call.place for task in self.tasks for _, call in task.calls)

    @property
    def project_calls(self) -> Iterator[Call]:
        """Each call in the project's files that no task reaches."""
        for body in self.project_bodies:
            for call in body.calls:
                if call.place not in self.task_places:
                    yield call

    @cached_property
    def call_sites(self) -> tuple[CallSite, ...]:
        """Where the project calls its tasks."""
        return tuple(
            CallSite(call, task)
            for body in self.project_bodies
            for call in body.calls
            for task in self.called_task(call)
        )

    def source_at(self, place: Place) -> Source | None:
        """Return the source that *place*, of a task, is in."""
        return self._by_path.get(place.path)

    @cached_property
    def _by_path(self) -> Mapping[str, Source]:
        # Those of the tasks are among them once the tasks are there.
        return {each.place(1).path: each for each in self.sources.read()} if self.tasks else {}

    def _task(self, name: str, task: Task, follower: Follower) -> TaskFacts:
        followed: Followed = follower.follow(task)
        own = next((each for each in followed.steps if not each.route), None)
        return TaskFacts(
            name=name,
            task=task,
            place=self._place_of(task, own, followed),
            steps=followed.steps,
            is_readable=_is_own(task, followed),
            is_whole=followed.is_whole,
        )

    def _place_of(self, task: Task, own: Step | None, followed: Followed) -> Place | None:
        run = task.run
        # A decorator without functools.wraps puts its own function in the place of the task's.
        declared = str(task.name).rpartition(".")[2]
        for step in followed.steps if getattr(run, "__wrapped__", None) is None else ():
            if getattr(step.body.node, "name", "") == declared and len(step.route) <= 2:
                return step.body.place
        while (wrapped := getattr(run, "__wrapped__", None)) is not None:
            run = wrapped
        code = getattr(run, "__code__", None)
        source = self.sources.get(getattr(code, "co_filename", None))
        if source is not None:
            for node in source.functions.get(getattr(code, "co_firstlineno", 0), []):
                return source.place(node.lineno)
        return own.body.place if own is not None else None

    def called_task(self, call: Call) -> Iterator[str | None]:
        """Yield the task that *call* is for, ``None`` for an unknown one; nothing if for none."""
        if call.attribute == "send_task":
            name = call.constant(call.argument(0, "name"))
            yield name if isinstance(name, str) else None
            return
        if call.attribute not in _CALLING | _SIGNING or call.receiver is None:
            return
        if call.attribute == "retry":
            if call.body.place in self._by_place:
                yield self._by_place[call.body.place]
            return
        receiver: ast.expr = call.receiver
        while True:
            if own := self._own_task(call.body, receiver):
                yield own
                return
            meaning = call.body.meaning(receiver)
            if is_a(meaning.value, Task):
                yield meaning.value.name
                return
            if named := self._by_function.keys() & meaning.names:
                yield self._by_function[min(named)]
                return
            if isinstance(receiver, ast.Call):
                receiver = receiver.func
            elif isinstance(receiver, ast.Attribute):
                receiver = receiver.value
            else:
                break
        if call.attribute in _CALLING:
            yield None

    def _own_task(self, body: Body, receiver: ast.expr) -> str | None:
        """Return the task that *receiver* is as the ``self`` of its own body, if it is that."""
        parameters = body.parameters
        if not isinstance(receiver, ast.Name) or not parameters or receiver.id != parameters[0].arg:
            return None
        owner: Any = body.owner
        is_method = isinstance(owner, type) and issubclass(owner, Task)
        name = str(owner.name) if is_method else self._by_place.get(body.place)
        task = self.app.tasks.get(name)
        # What is not bound is a static method of its task's class.
        run = inspect.getattr_static(type(task), "run", None)
        return name if task is not None and not isinstance(run, staticmethod) else None

    @cached_property
    def _by_place(self) -> Mapping[Place, str]:
        return {each.place: each.name for each in self.tasks if each.place is not None}

    @cached_property
    def _by_function(self) -> Mapping[str, str]:
        found = {}
        for each in self.tasks:
            run = each.task.run
            found[f"{run.__module__}.{getattr(run, '__qualname__', '')}"] = each.name
            found[each.name] = each.name
        return found


def _is_own(task: Task, followed: Followed) -> bool:
    """Whether the body that *task* was declared with is among those that were read."""
    run = task.run
    while (wrapped := getattr(run, "__wrapped__", None)) is not None:
        run = wrapped
    line = getattr(getattr(run, "__code__", None), "co_firstlineno", None)
    name = getattr(getattr(run, "__code__", None), "co_name", None)
    return any(
        str(step.body.source.path) == run.__code__.co_filename
        and getattr(step.body.node, "name", "<lambda>") == name
        for step in followed.steps
        if line is not None
    )


def read_stanza(root: Path) -> Mapping[str, Any]:
    """Return ``[tool.lambda-celery]`` of the ``pyproject.toml`` in *root*, empty if there is none.

    Raises :exc:`CheckError` if the file is no TOML, or the stanza no table.
    """
    path = root / "pyproject.toml"
    try:
        with path.open("rb") as stream:
            read = tomllib.load(stream)
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise CheckError(f"{path.name} cannot be read: {exc}. Repair it.") from exc
    stanza = read.get("tool", {}).get(STANZA, {})
    if not isinstance(stanza, Mapping):
        raise CheckError(f"[tool.{STANZA}] in {path.name} must be a table.")
    return stanza
