"""What a deployment is made of: ``[tool.lambda-celery]`` in ``pyproject.toml``, checked.

A key of the stanza is a field here, a variable of the Terraform module, and an argument in Python.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from lambda_celery.conf import APP_VARIABLE, ENV_PREFIX
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.runtimes import RUNTIMES

STANZA = "tool.lambda-celery"
#: Keys of the stanza that are no inputs of the infrastructure: other commands read them.
KEYS_OF_OTHERS = ("check", "form", "output", "package")
#: What CloudWatch Logs takes.
RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
)  # fmt: skip
#: Variables of the function that follow from the rest.
OWN_VARIABLES = (
    APP_VARIABLE,
    *(
        ENV_PREFIX + each
        for each in (
            "QUEUE_URL", "QUEUES", "DEAD_LETTER_QUEUE_URL", "MAX_RECEIVE_COUNT",
            "IDEMPOTENCY_TABLE", "IDEMPOTENCY_TTL_SECONDS", "PAYLOAD_BUCKET", "SCHEDULE_GROUP",
            "SCHEDULE_ROLE_ARN",
        )
    ),
    "CELERY_RESULT_BACKEND",
)  # fmt: skip

#: Variables that Lambda sets itself, and lets nobody else set:
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
RESERVED_VARIABLES = (
    "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API", "AWS_REGION", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
)  # fmt: skip
#: What a template, or Terraform, calls something else: no parameter may be called so.
_TAKEN_PARAMETERS = (
    "CodeBucket", "CodeKey", "ImageUri",
    "source", "version", "providers", "count", "for_each", "lifecycle", "depends_on", "locals",
)  # fmt: skip
#: What Lambda takes as the name of a variable (Lambda API, Environment).
_VARIABLE = r"[A-Za-z][A-Za-z0-9_]+"

_Parse = Callable[[Any], Any]


def _whole(minimum: int, maximum: int) -> _Parse:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise ValueError(f"a whole number from {minimum} to {maximum}")
        return value

    return parse


def _one_of(*allowed: Any) -> _Parse:
    def parse(value: Any) -> Any:
        if isinstance(value, bool) or value not in allowed:
            raise ValueError(" or ".join(map(repr, allowed)))
        return value

    return parse


def _matching(pattern: str, what: str) -> _Parse:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(what)
        return value

    return parse


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _all_matching(pattern: str, what: str, most: int | None = None) -> _Parse:
    """Let each text of a list match *pattern*: *what* says what they are then, all together."""
    what += f", {most} at most" if most else ""

    def parse(value: Any) -> tuple[str, ...]:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise ValueError(what)
        texts = tuple(value)
        if not all(isinstance(each, str) and re.fullmatch(pattern, each) for each in texts):
            raise ValueError(what)
        if len(texts) > (most or len(texts)):
            raise ValueError(what)
        return texts

    return parse


def _table(pattern: str, what: str) -> _Parse:
    def parse(value: Any) -> dict[str, str]:
        if not isinstance(value, Mapping):
            raise ValueError(what)
        for key, each in value.items():
            if not isinstance(key, str) or not re.fullmatch(pattern, key):
                raise ValueError(f"{what}: {key!r} is none")
            if not isinstance(each, str):
                raise ValueError(f"{what}: put {each!r} between quotes")
        return dict(value)

    return parse


#: What CDK has in the place of a text that is known on AWS alone.
_ON_AWS = r"[$]\{Token\[[^]]+\]\}"


def _arn(service: str, what: str, rest: str = ".+") -> _Parse:
    return _matching(rf"arn:[a-z-]+:{service}:{rest}|{_ON_AWS}", f"the ARN of {what}")


_queue_arn = _matching(
    r"arn:[a-z-]+:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]+",
    'the ARN of an SQS queue, such as "arn:aws:sqs:eu-central-1:123456789012:mail"',
)


def _input(
    parse: _Parse,
    default: Any = MISSING,
    *,
    factory: Callable[[], Any] | None = None,
    unset: str = "",
    becomes: str,
) -> Any:
    """Define an input: how it is read, and in Markdown what it becomes on AWS.

    *unset* says what holds where there is no default.
    """
    metadata = {"parse": parse, "unset": unset, "becomes": becomes}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


class _Table:
    """A table of the stanza: each value is read by its field's parser, however it is made."""

    #: Where the table stands, for messages.
    place: ClassVar[str] = STANZA
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None or each.default is MISSING:
                object.__setattr__(self, each.name, _parsed(self.place, each, value))

    @classmethod
    def parse(cls, table: Any) -> Self:
        """Make one of a table in TOML.

        Raises :exc:`ConfigurationError` for a key that there is not, or a value that cannot be.
        """
        if isinstance(table, cls):
            return table
        if not isinstance(table, Mapping):
            raise ConfigurationError(f"[{cls.place}] is {table!r}: make it a table.")
        known = [each.name for each in fields(cls)]
        for key in table:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, 1)
                hint = f"Did you mean {close[0]}?" if close else f"It may have {_and(known)}."
                raise ConfigurationError(f"{key} in [{cls.place}] is no key of it. {hint}")
        for each in fields(cls):
            is_needed = each.default is MISSING and each.default_factory is MISSING
            if is_needed and each.name not in table:
                raise ConfigurationError(f"Add {each.name} to [{cls.place}].")
        return cls(**table)


def _and(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _parsed(place: str, each: Field[Any], value: Any) -> Any:
    try:
        return each.metadata["parse"](value)
    except ValueError as exc:
        raise ConfigurationError(
            f"{each.name} in [{place}] is {value!r}, but must be {exc}."
        ) from None


@dataclass(frozen=True)
class QueueInput(_Table):
    """A queue, and what is its own. What is ``None`` is everybody's."""

    place: ClassVar[str] = f"{STANZA}.queues"

    fifo: bool = _input(_flag, False, becomes="a FIFO queue with a FIFO dead-letter queue")
    timeout: int | None = _input(
        _whole(1, 900), None, becomes='with `functions = "each"`, its own function\'s `Timeout`'
    )
    batch_size: int | None = _input(
        _whole(1, 10_000), None, becomes="`BatchSize` of its mapping; 10 at most on a FIFO queue"
    )
    maximum_concurrency: int | None = _input(
        _whole(2, 1000), None, becomes="`MaximumConcurrency` of its mapping"
    )
    max_receive_count: int | None = _input(
        _whole(5, 1000), None, becomes="`maxReceiveCount` of its redrive policy"
    )
    message_retention_seconds: int | None = _input(
        _whole(60, 1_209_600), None, becomes="`MessageRetentionPeriod`"
    )
    queue_arn: str | None = _input(
        _queue_arn, None, becomes="nothing is made: the queue is there already"
    )
    dead_letter_queue_arn: str | None = _input(
        _queue_arn, None, becomes="nothing is made: the dead-letter queue is there already"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queue_arn and not self.dead_letter_queue_arn:
            raise ConfigurationError(
                f"A queue with queue_arn needs dead_letter_queue_arn in [{self.place}], too: its "
                "redrive policy is its owner's."
            )
        for arn in filter(None, (self.queue_arn, self.dead_letter_queue_arn)):
            if arn.endswith(".fifo") != self.fifo:
                raise ConfigurationError(
                    f"{arn} in [{self.place}] does not go with fifo = {str(self.fifo).lower()}: "
                    'say fifo = true where the ARN ends in ".fifo", and only there.'
                )
        if self.fifo and (self.batch_size or 1) > 10:
            raise ConfigurationError(
                f"batch_size in [{self.place}] is {self.batch_size}, but a FIFO queue gives 10 "
                "messages at most."
            )


@dataclass(frozen=True)
class Pollers(_Table):
    """Event pollers that are always there, and how many there may be."""

    place: ClassVar[str] = f"{STANZA}.provisioned_pollers"

    minimum: int = _input(_whole(2, 200), becomes="`MinimumPollers`")
    maximum: int = _input(_whole(2, 2000), becomes="`MaximumPollers`")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.minimum > self.maximum:
            raise ConfigurationError(
                f"minimum in [{self.place}] is more than maximum: swap them, or raise maximum."
            )


@dataclass(frozen=True)
class Vpc(_Table):
    """The subnets and security groups that the function is in."""

    place: ClassVar[str] = f"{STANZA}.vpc"

    subnet_ids: tuple[str, ...] = _input(
        _all_matching(rf"subnet-[0-9a-z]+|{_ON_AWS}", 'a list of ids that begin with "subnet-"'),
        becomes="`SubnetIds`",
    )
    security_group_ids: tuple[str, ...] = _input(
        _all_matching(rf"sg-[0-9a-z]+|{_ON_AWS}", 'a list of ids that begin with "sg-"'),
        becomes="`SecurityGroupIds`",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.subnet_ids or not self.security_group_ids:
            raise ConfigurationError(
                f"[{self.place}] must name one subnet and one security group at least: add them."
            )


@dataclass(frozen=True)
class WarmThroughput(_Table):
    """What the idempotency table takes at once, in units a second."""

    place: ClassVar[str] = f"{STANZA}.warm_throughput"

    # So much has every table on demand.
    read: int = _input(_whole(12_000, 10**9), becomes="`ReadUnitsPerSecond`")
    write: int = _input(_whole(4000, 10**9), becomes="`WriteUnitsPerSecond`")


@dataclass(frozen=True)
class Parameter(_Table):
    """A value that is asked for at each deployment, and reaches the function as a variable."""

    place: ClassVar[str] = f"{STANZA}.parameters"

    variable: str = _input(
        _matching(_VARIABLE, "the name of an environment variable"),
        becomes="the variable of the function",
    )
    description: str = _input(_matching(r".*", "a text"), "", becomes="`Description`")
    default: str | None = _input(
        _matching(r".*", "a text"), None, unset="it is asked for", becomes="`Default`"
    )
    secret: bool = _input(_flag, False, becomes="`NoEcho`: it is not shown")


def _queues(value: Any) -> dict[str, QueueInput]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError("a list of names of queues, or a table")
    tables = dict(value) if isinstance(value, Mapping) else {each: {} for each in value}
    if not tables:
        raise ValueError("one queue at least")
    for name in tables:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.:-]{1,50}", name):
            raise ValueError(
                'names of queues of letters, digits, "_", "-", "." and ":", with 50 characters at '
                "most"
            )
    return {name: QueueInput.parse(table) for name, table in tables.items()}


def _parameters(value: Any) -> dict[str, Parameter]:
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name) for name in value
    ):
        raise ValueError("a table of names of letters and digits")
    return {name: Parameter.parse(table) for name, table in value.items()}


@dataclass(frozen=True)
class Deployment(_Table):
    """Everything that can be said of a project's infrastructure.

    Raises :exc:`ConfigurationError` for what cannot be, with a sentence that says what to do.
    """

    app: str = _input(
        _matching(
            r"[A-Za-z_][\w.]*(:[A-Za-z_][\w.]*)?", 'written as after celery -A: "proj.celery:app"'
        ),
        becomes="the variable `LAMBDA_CELERY_APP` of the function",
    )
    name: str = _input(
        _matching(
            r"[a-z][a-z0-9-]{0,23}",
            "a small letter, followed by small letters, digits and hyphens, with 24 characters at "
            "most: AWS limits the names that begin with it",
        ),
        becomes="the beginning of every name",
    )
    runtime: str = _input(
        _one_of(*RUNTIMES),
        "python3.13",
        unset="the newest of Lambda's that `requires-python` allows",
        becomes="`Runtime`; an image brings its own",
    )
    architecture: str = _input(_one_of("arm64", "x86_64"), "arm64", becomes="`Architectures`")
    package_type: str = _input(_one_of("zip", "image"), "zip", becomes="`PackageType`")
    handler: str = _input(
        _matching(r"[\w.]+\.\w+", 'a module and a function, such as "lambda_runtime.handler"'),
        "lambda_runtime.handler",
        becomes="`Handler`",
    )
    memory_size: int = _input(_whole(128, 10_240), 1024, becomes="`MemorySize`, in MB")
    timeout: int = _input(
        _whole(1, 900),
        60,
        becomes="`Timeout`, in seconds; the queues' visibility time-out follows from it",
    )
    batch_size: int = _input(_whole(1, 10_000), 10, becomes="`BatchSize` of the mappings")
    maximum_batching_window_in_seconds: int = _input(
        _whole(0, 300),
        0,
        becomes="`MaximumBatchingWindowInSeconds`; 1 at least with a `batch_size` over 10",
    )
    maximum_concurrency: int | None = _input(
        _whole(2, 1000),
        None,
        unset="10, unless there are `provisioned_pollers`",
        becomes="`MaximumConcurrency` of the mappings: invocations at the same time, for each "
        "queue",
    )
    provisioned_pollers: Pollers | None = _input(
        Pollers.parse,
        None,
        unset="none",
        becomes="`ProvisionedPollerConfig`: `{minimum, maximum}`, in the place of "
        "`maximum_concurrency`. They cost by the hour",
    )
    functions: str = _input(
        _one_of("one", "each"), "one", becomes="one function for all queues, or one for each"
    )
    queues: Mapping[str, QueueInput] = _input(
        _queues,
        factory=lambda: {"celery": {}},
        becomes="a queue with a dead-letter queue for each: a list of Celery's names for them, or "
        "a table with what is their own (below)",
    )
    message_retention_seconds: int = _input(
        _whole(60, 1_209_600), 345_600, becomes="`MessageRetentionPeriod` of the queues"
    )
    dlq_message_retention_seconds: int = _input(
        _whole(60, 1_209_600),
        1_209_600,
        becomes="`MessageRetentionPeriod` of the dead-letter queues",
    )
    max_receive_count: int = _input(
        _whole(5, 1000),
        5,
        becomes="`maxReceiveCount`. Throttled invocations count too: fewer would park what has "
        "not run",
    )
    results: bool = _input(
        _flag, False, becomes="a table for results, and `CELERY_RESULT_BACKEND` of the function"
    )
    schedules: bool = _input(
        _flag, True, becomes="a group of EventBridge Scheduler, and the role that it sends with"
    )
    ses_rate: bool = _input(
        _flag,
        False,
        becomes="what the role needs to learn [the rate of SES](django-mail.md#the-rate-of-ses)",
    )
    alarm_topic_arn: str | None = _input(
        _arn("sns", "an SNS topic"), None, unset="none", becomes="the topic that alarms go to"
    )
    alarm_email: str | None = _input(
        _matching(r"[^@\s]+@[^@\s]+", "an e-mail address"),
        None,
        unset="none",
        becomes="a topic with this subscription, which AWS asks the address to confirm",
    )
    oldest_message_age_seconds: int = _input(
        _whole(60, 1_209_600), 900, becomes="the threshold of the alarm of that name"
    )
    kms_key_arn: str | None = _input(
        # An alias is no resource of a policy, and may be another key's tomorrow.
        _arn("kms", 'a KMS key, with ":key/"', "[a-z0-9-]+:[0-9]{12}:key/.+"),
        None,
        unset="AWS's own keys",
        becomes="the key of queues, tables, bucket, log and variables, and what the roles need "
        "to use it",
    )
    vpc: Vpc | None = _input(
        Vpc.parse,
        None,
        unset="none",
        becomes="`VpcConfig`: `{subnet_ids, security_group_ids}`, and what the role needs for it",
    )
    layers: tuple[str, ...] = _input(
        _all_matching(
            rf"arn:[a-z-]+:lambda:[a-z0-9-]+:[0-9]{{12}}:layer:[\w-]+:[0-9]+|{_ON_AWS}",
            "a list of ARNs of layers' versions",
            5,
        ),
        (),
        becomes="`Layers`",
    )
    permissions_boundary: str | None = _input(
        _arn("iam", "a policy"), None, unset="none", becomes="`PermissionsBoundary` of the roles"
    )
    tags: Mapping[str, str] = _input(
        _table(r"(?!(?i:aws:)).{1,128}", 'a table of texts by names that do not begin with "aws:"'),
        factory=dict,
        becomes="`Tags` of everything that takes them",
    )
    snap_start: bool = _input(_flag, False, becomes="`SnapStart` of published versions")
    alias: str = _input(
        _matching(
            r"[A-Za-z_][A-Za-z0-9_-]{0,127}",
            'a letter, followed by letters, digits, "_" and "-"',
        ),
        "live",
        becomes="the alias that the mappings name",
    )
    warm_throughput: WarmThroughput | None = _input(
        WarmThroughput.parse,
        None,
        unset="the table grows with the load",
        becomes="`WarmThroughput` of the idempotency table: `{read, write}`, a second. It is paid "
        "for once",
    )
    environment: Mapping[str, str] = _input(
        _table(
            _VARIABLE,
            "a table of texts by names of two characters or more: a letter, then letters, digits "
            'and "_"',
        ),
        factory=dict,
        becomes="variables of the function",
    )
    parameters: Mapping[str, Parameter] = _input(
        _parameters,
        factory=dict,
        becomes="a parameter of the template for each: "
        "`{variable, description, default, secret}` (below)",
    )
    log_retention_days: int = _input(
        _one_of(*RETENTION_DAYS), 30, becomes="`RetentionInDays` of the function's log"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for problem in self._contradictions():
            raise ConfigurationError(f"{problem} Change [{self.place}].")

    def _contradictions(self) -> Iterable[str]:
        queues = self.queues.values()
        if self.provisioned_pollers and (
            self.maximum_concurrency or any(each.maximum_concurrency for each in queues)
        ):
            yield "maximum_concurrency and provisioned_pollers exclude each other: leave one out."
        if self.alarm_topic_arn and self.alarm_email:
            yield (
                "alarm_topic_arn and alarm_email exclude each other: subscribe the address to "
                "the topic."
            )
        if self.layers and self.package_type == "image":
            yield 'layers go with package_type = "zip": an image holds everything itself.'
        if self.snap_start and self.package_type == "image":
            yield 'snap_start goes with package_type = "zip": Lambda takes no snapshot of an image.'
        if self.snap_start and self.runtime == "python3.11":
            yield 'snap_start goes with runtime = "python3.12" or newer.'
        for queue in queues:
            retention = queue.message_retention_seconds or self.message_retention_seconds
            # On a FIFO dead-letter queue, a message's age begins anew.
            if retention + (0 if queue.fifo else 1) > self.dlq_message_retention_seconds:
                yield (
                    "dlq_message_retention_seconds must be more than message_retention_seconds: "
                    "a message's age goes on counting on a standard dead-letter queue. On a FIFO "
                    "one, it may be the same."
                )
        variables = [*self.environment, *(each.variable for each in self.parameters.values())]
        for name in variables:
            if name in OWN_VARIABLES:
                yield f"{name} is computed: leave it out of environment and parameters."
            if name in RESERVED_VARIABLES:
                yield f"{name} is Lambda's own: leave it out of environment and parameters."
            if variables.count(name) > 1:
                yield f"{name} is given twice: leave it in environment or in parameters."
        for name in self.parameters:
            if name in _TAKEN_PARAMETERS:
                yield f"{name} in parameters has a meaning of its own: rename the parameter."
        for name_of_queue in self.queues:
            # A queue's name has 80 characters, a function's 64: this one is the longest.
            most = 80 - len("--dead-letters.fifo")
            if len(self.name) + len(name_of_queue) > most:
                yield (
                    f"name and {name_of_queue!r} are too long together: AWS takes {most} "
                    "characters."
                )
        if self.functions == "each" and "all" in self.queues:
            yield 'functions = "each" takes no queue called "all": rename it.'

    @classmethod
    def parse(cls, table: Any) -> Self:
        """Make one of the stanza; what other commands read there is passed over.

        Raises :exc:`ConfigurationError` as the class does, and for a key that there is not.
        """
        if isinstance(table, Mapping):
            table = {key: each for key, each in table.items() if key not in KEYS_OF_OTHERS}
        return super().parse(table)

    @classmethod
    def from_pyproject(cls, path: str | Path = "pyproject.toml") -> Self:
        """Read the stanza in the file *path*.

        The runtime that it does not name is the newest that ``requires-python`` allows. Raises
        :exc:`ConfigurationError` as the class does, and if there is no such file or stanza.
        """
        return cls.from_document(read_toml(Path(path)), path)

    @classmethod
    def from_document(
        cls, document: Mapping[str, Any], path: str | Path = "pyproject.toml"
    ) -> Self:
        """Read the stanza in *document*, which is what the file *path* has, or is to have.

        It is as :meth:`from_pyproject`, and raises the same.
        """
        stanza = document.get("tool", {}).get("lambda-celery")
        if stanza is None:
            raise ConfigurationError(
                f"{path} has no [{STANZA}]: let `celery -A proj lambda init` write it."
            )
        if isinstance(stanza, Mapping) and "runtime" not in stanza:
            stanza = {**stanza, "runtime": newest_runtime(document)}
        return cls.parse(stanza)


def read_toml(path: Path) -> dict[str, Any]:
    """Return what is in the TOML file *path*; raise :exc:`ConfigurationError` if it is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no {path}: let `celery -A proj lambda init` write it, with [{STANZA}] in it."
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigurationError(f"{path} cannot be read as TOML: {exc}. Mend it.") from None


def newest_runtime(document: Mapping[str, Any]) -> str:
    """Return the newest of Lambda's runtimes that ``requires-python`` of *document* allows.

    Raises :exc:`ConfigurationError` if it allows none.
    """
    text = document.get("project", {}).get("requires-python", "")
    try:
        allowed = SpecifierSet(text)
    except InvalidSpecifier:
        raise ConfigurationError(
            f"requires-python is {text!r}, which is no range of versions: mend it."
        ) from None
    shared = [
        name
        for name, each in RUNTIMES.items()
        if f"{each.version}.0" in allowed or f"{each.version}.99" in allowed
    ]
    if not shared:
        versions = _and(each.version for each in RUNTIMES.values())
        raise ConfigurationError(
            f"requires-python is {text!r}, but Lambda has Python {versions}: widen it."
        )
    return shared[-1]


def takes(each: Field[Any]) -> str:
    """Return in words which values the input *each* takes, as its parser has them."""
    try:
        each.metadata["parse"](object())  # which none takes
    except ValueError as exc:
        return str(exc)
    except ConfigurationError:
        return "a table"
    raise AssertionError(f"{each.name} takes anything.")


def resource_name(queue: str) -> str:
    """Return what of the Celery queue's name may stand in names on AWS."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", queue)
