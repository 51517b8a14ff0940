"""What is deployed: found by way of the settings, and read when a rule asks for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from celery import Celery
from celery.backends.dynamodb import DynamoDBBackend

from lambda_celery import aws
from lambda_celery.check.deployed.reading import Answer, Reader, Thing
from lambda_celery.conf import Settings, setting_names
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.computed import Figures, FunctionFigures, QueueFigures, compute
from lambda_celery.infrastructure.inputs import Deployment

if TYPE_CHECKING:
    from lambda_celery.check.facts import Facts

#: How ``result_backend`` begins: by its entry point, or where a package has lost these.
_RESULTS = ("lambda-dynamodb:", "lambda_celery.results:DynamoDBBackend+")
_ROLE = re.compile(r"arn:[a-z-]+:iam::[0-9]{12}:role/\S+")


@dataclass(frozen=True)
class Queue:
    """A queue that is there.

    :ivar attributes: as SQS tells them.
    :ivar figures: what ``pyproject.toml`` makes of it; ``None`` if that says nothing of it.
    """

    thing: Thing
    url: str
    attributes: Mapping[str, str]
    figures: QueueFigures | None = None

    @property
    def arn(self) -> str:
        """Its ARN."""
        return self.attributes["QueueArn"]

    @property
    def name(self) -> str:
        """Its name."""
        return self.arn.rpartition(":")[2]

    @property
    def retention_seconds(self) -> int:
        """How long it keeps a message."""
        return int(self.attributes["MessageRetentionPeriod"])

    @property
    def visibility_timeout_seconds(self) -> int:
        """How long it hides a message that was received."""
        return int(self.attributes["VisibilityTimeout"])

    def document(self, attribute: str) -> dict[str, Any]:
        """Return the attribute that is a JSON object, empty if there is none."""
        read = json.loads(self.attributes.get(attribute) or "{}")
        return read if isinstance(read, dict) else {}

    @property
    def dead_letter_arn(self) -> str | None:
        """The target of its redrive policy."""
        return self.document("RedrivePolicy").get("deadLetterTargetArn")


@dataclass(frozen=True)
class Function:
    """The function of a mapping, as its configuration tells.

    :ivar arn: as the mapping names it: with an alias or a version, or without.
    """

    thing: Thing
    arn: str
    configuration: Mapping[str, Any]
    figures: FunctionFigures | None

    @property
    def name(self) -> str:
        """Its name, without alias or version."""
        return self.arn.split(":")[6]

    @property
    def qualifier(self) -> str | None:
        """The alias or version that the mapping names."""
        parts = self.arn.split(":")
        return parts[7] if len(parts) > 7 else None

    @property
    def timeout_seconds(self) -> int:
        """Its time-out."""
        return int(self.configuration["Timeout"])

    @property
    def variables(self) -> Mapping[str, str]:
        """Its environment variables."""
        variables: Mapping[str, str] = self.configuration.get("Environment", {}).get(
            "Variables", {}
        )
        return variables


@dataclass(frozen=True)
class SourceMapping:
    """An event source mapping from a queue; *said* is how Lambda tells it."""

    thing: Thing
    queue: Queue
    said: Mapping[str, Any]

    @property
    def window_seconds(self) -> int:
        """Its batching window."""
        return int(self.said.get("MaximumBatchingWindowInSeconds") or 0)

    @property
    def maximum_concurrency(self) -> int | None:
        """How many invocations it makes at the same time at most."""
        maximum: int | None = (self.said.get("ScalingConfig") or {}).get("MaximumConcurrency")
        return maximum


@dataclass(frozen=True)
class CalledFunction:
    """What the settings name for direct calls.

    :ivar configuration: as Lambda tells it; ``None`` if there is no such function, alias or
        version.
    """

    thing: Thing
    configuration: Mapping[str, Any] | None

    @property
    def arn(self) -> str:
        """The ARN that a call of it is on: with the alias or the version that the settings name."""
        assert self.configuration is not None
        own = str(self.configuration["FunctionArn"]).split(":")[:7]
        _, qualifier = aws.function_parts(self.thing.resource)
        return ":".join(own + ([qualifier] if qualifier else []))


@dataclass
class Deployed:
    """What of the project is on AWS. What cannot be read is left out, and noted by the reader.

    :ivar deployment: ``[tool.lambda-celery]``; ``None`` if the project has none.
    :ivar app_name: what ``-A`` says.
    :ivar producer_role: the ARN of a role that sends tasks, to be looked at too.
    :ivar caller_role: the ARN of a role that calls the function directly, as well.
    :ivar at_fault: the subjects of what was found.
    """

    app: Celery
    settings: Settings
    deployment: Deployment | None = None
    app_name: str = ""
    producer_role: str | None = None
    caller_role: str | None = None
    at_fault: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.reader = Reader(self.settings)
        self.figures: Figures | None = compute(self.deployment) if self.deployment else None

    @classmethod
    def of(
        cls, facts: Facts, producer_role: str | None = None, caller_role: str | None = None
    ) -> Deployed:
        """Prepare to look at what the settings of *facts* name.

        :raises ConfigurationError: the project's stanza says what cannot be, a role is no ARN of
            one, or there is a *caller_role* and no function that it could call.
        """
        for option, role in (("--producer-role", producer_role), ("--caller-role", caller_role)):
            if role is not None and not _ROLE.fullmatch(role):
                raise ConfigurationError(
                    f"{option} is {role!r}, but must be the ARN of a role, such as "
                    "arn:aws:iam::123456789012:role/web."
                )
        if caller_role is not None and facts.settings.function is None:
            raise ConfigurationError(
                f"--caller-role is for direct calls: set {setting_names('function')} to the "
                "function that they go to."
            )
        # There may be nothing but what is switched off in the check.
        has_inputs = "name" in facts.stanza
        path = facts.root / "pyproject.toml"
        deployment = Deployment.from_pyproject(path) if has_inputs else None
        return cls(
            facts.app, facts.settings, deployment, facts.app_name, producer_role, caller_role
        )

    def queue_things(self) -> Iterator[tuple[str, Thing]]:
        """Yield each queue that the settings name: its URL, and the thing."""
        for url in self.settings.queue_urls:
            setting = "queue_url" if url == self.settings.queue_url else "queues"
            yield url, Thing(f"queue {queue_name(url)}", url, setting)

    def queues(self) -> Iterator[Queue]:
        """Yield the queues that the settings name, and that are there."""
        for url, thing in self.queue_things():
            if attributes := self.look_at_queue(url, thing):
                arn = Thing(thing.subject, attributes["QueueArn"], thing.setting)
                yield Queue(arn, url, attributes, self._figures_of(url))

    def dead_letter_thing(self, queue: Queue) -> tuple[str, Thing] | None:
        """Return the URL and the thing of the target of *queue*'s redrive policy."""
        if (arn := queue.dead_letter_arn) is None:
            return None
        account, name = arn.split(":")[-2:]
        # SQS has both in one region, so that the addresses differ by these two alone.
        host = queue.url.rstrip("/").rsplit("/", 2)[0]
        return f"{host}/{account}/{name}", Thing(f"dead-letter queue {name}", arn)

    def dead_letter_queue(self, queue: Queue) -> Queue | None:
        """Return the dead-letter queue of *queue*, if it is there."""
        if (found := self.dead_letter_thing(queue)) is None:
            return None
        url, thing = found
        attributes = self.look_at_queue(url, thing)
        return Queue(thing, url, attributes) if attributes else None

    def all_queues(self) -> Iterator[Queue]:
        """Yield the queues and their dead-letter queues, each once."""
        found: dict[str, Queue] = {}
        for queue in self.queues():
            found.setdefault(queue.arn, queue)
            if (dead_letters := self.dead_letter_queue(queue)) is not None:
                found.setdefault(dead_letters.arn, dead_letters)
        yield from found.values()

    def mappings_of(self, queue: Queue) -> list[SourceMapping] | None:
        """Return the event source mappings from *queue*; ``None`` if they cannot be read."""
        subject = f"mapping of {queue.thing.subject}"
        answer = self.reader.look(
            "lambda",
            "list_event_source_mappings",
            Thing(subject, queue.arn),
            "lambda:ListEventSourceMappings",
            proves=False,
            EventSourceArn=queue.arn,
        )
        if answer is None:
            return None
        mappings = []
        for said in answer.said.get("EventSourceMappings", []):
            thing = Thing(subject, said.get("EventSourceMappingArn") or said["UUID"])
            self.reader.seen.setdefault(subject, thing)
            mappings.append(SourceMapping(thing, queue, said))
        return mappings

    def mappings(self) -> Iterator[SourceMapping]:
        """Yield the event source mappings of all queues."""
        for queue in self.queues():
            yield from self.mappings_of(queue) or ()

    def function_is_there(self, mapping: SourceMapping) -> bool | None:
        """Whether the function of *mapping* is there; ``None`` if it cannot be read."""
        answer = self._look_at_function(mapping)
        return answer.is_there if answer is not None else None

    def function_of(self, mapping: SourceMapping) -> Function | None:
        """Return the function of *mapping*, if it is there."""
        answer = self._look_at_function(mapping)
        if answer is None or not answer.is_there:
            return None
        figures = mapping.queue.figures
        return Function(
            _function_thing(mapping),
            str(mapping.said["FunctionArn"]),
            answer.said,
            self.figures.functions[figures.function] if self.figures and figures else None,
        )

    def _look_at_function(self, mapping: SourceMapping) -> Answer | None:
        thing = _function_thing(mapping)
        return self.reader.look(
            "lambda",
            "get_function_configuration",
            thing,
            "lambda:GetFunctionConfiguration",
            FunctionName=thing.resource,
        )

    def functions(self) -> Iterator[Function]:
        """Yield the functions of all mappings, each once."""
        found: dict[str, Function] = {}
        for mapping in self.mappings():
            if (function := self.function_of(mapping)) is not None:
                found.setdefault(function.arn, function)
        yield from found.values()

    @property
    def called_function(self) -> CalledFunction | None:
        """The function of direct calls; ``None`` if none is named, or it cannot be read."""
        if (called := self.settings.function) is None:
            return None
        thing = Thing(f"function {called} of direct calls", called, "function")
        answer = self.reader.look(
            "lambda",
            "get_function_configuration",
            thing,
            "lambda:GetFunctionConfiguration",
            FunctionName=called,
        )
        if answer is None:
            return None
        return CalledFunction(thing, answer.said if answer.is_there else None)

    @property
    def place(self) -> tuple[str, str, str] | None:
        """Partition, region and account of the queues; ``None`` if none was seen."""
        for queue in self.queues():
            _, partition, _, region, account, _ = queue.arn.split(":")
            return partition, region, account
        return None

    @property
    def bucket_arn(self) -> str | None:
        """The ARN of the payload bucket, if the settings name one."""
        bucket, place = self.settings.payload_bucket, self.place
        return f"arn:{place[0] if place else 'aws'}:s3:::{bucket}" if bucket else None

    @property
    def results_table(self) -> str | None:
        """The name of the results table, if ``result_backend`` is that of Lambda Celery."""
        if not str(self.app.conf.get("result_backend") or "").startswith(_RESULTS):
            return None
        backend = self.app.backend
        assert isinstance(backend, DynamoDBBackend)
        return str(backend.table_name)

    def functions_by_name(self) -> Mapping[str, Function]:
        """Return the functions by their names; of several aliases, the first."""
        found: dict[str, Function] = {}
        for function in self.functions():
            found.setdefault(function.name, function)
        return found

    def idempotency_table_thing(self) -> Thing | None:
        """Return the idempotency table that the settings name, unless it is known to be absent."""
        name = self.settings.idempotency_table
        return self._table_thing(
            Thing(f"table {name}", name, "idempotency_table") if name else None
        )

    def results_table_thing(self) -> Thing | None:
        """Return the results table, unless it is known to be absent."""
        name = self.results_table
        return self._table_thing(Thing(f"table {name}", name) if name else None)

    def look_at_table(self, thing: Thing) -> Answer | None:
        """Return what DynamoDB says of the table *thing*."""
        return self.reader.look(
            "dynamodb",
            "describe_table",
            thing,
            "dynamodb:DescribeTable",
            TableName=thing.resource,
        )

    def _table_thing(self, thing: Thing | None) -> Thing | None:
        answer = self.look_at_table(thing) if thing is not None else None
        return None if answer is not None and not answer.is_there else thing

    def settings_in(self, function: Function) -> Settings | None:
        """Return the settings as they are in *function*; ``None`` if a variable is no value."""
        try:
            return Settings.from_app(self.app, function.variables)
        except ConfigurationError:
            return None

    def look_at_queue(self, url: str, thing: Thing) -> Mapping[str, str] | None:
        """Return the attributes of the queue *url*: empty if there is none, ``None`` if unseen."""
        answer = self.reader.look(
            "sqs",
            "get_queue_attributes",
            thing,
            "sqs:GetQueueAttributes",
            QueueUrl=url,
            AttributeNames=["All"],
        )
        return answer.said.get("Attributes", {}) if answer is not None else None

    def _figures_of(self, url: str) -> QueueFigures | None:
        if self.figures is None:
            return None
        named = {each.url: name for name, each in self.settings.queues.items()}
        if url in named:
            return self.figures.queues.get(named[url])
        others = [each for name, each in self.figures.queues.items() if name not in named.values()]
        return others[0] if len(others) == 1 else None


def _function_thing(mapping: SourceMapping) -> Thing:
    arn = str(mapping.said["FunctionArn"])
    return Thing(f"function {arn.split(':')[6]}", arn)


def queue_name(url: str) -> str:
    """Return the name in a queue's URL."""
    return urlsplit(url).path.rpartition("/")[2]


def queue_names(settings: Settings, url: str) -> Iterator[str]:
    """Yield the names of the queue *url*: Celery's, and then SQS's."""
    yield from (name for name, each in settings.queues.items() if each.url == url)
    yield queue_name(url)
