"""The settings: one frozen value, read from Celery's configuration and the environment.

A field ``queue_url`` is ``lambda_queue_url`` in Celery's configuration,
``CELERY_LAMBDA_QUEUE_URL`` in Django's settings under the usual ``CELERY``
namespace, and ``LAMBDA_CELERY_QUEUE_URL`` in the environment. The environment
wins, so that a deployment can fill in what its stack created.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from celery import Celery

from lambda_celery.exceptions import ConfigurationError

logger = logging.getLogger(__name__)

_REGION = re.compile(r"[a-z]{2,3}(-[a-z]+)+-\d+")
#: What CloudWatch takes (API of PutMetricData).
_NAMESPACE = re.compile(r"(?!AWS/|:)[0-9A-Za-z.\-_/#:][0-9A-Za-z.\-_/#: ]{0,254}")

CONF_PREFIX = "lambda_"
ENV_PREFIX = "LAMBDA_CELERY_"
#: Names the function's app; read by ``lambda_runtime``, and no setting.
APP_VARIABLE = ENV_PREFIX + "APP"
#: The file descriptor on which a function tells the local runner of metrics and attempts. That
#: alone sets it.
FEED_VARIABLE = "_LAMBDA_CELERY_FEED"


def setting_names(field_name: str) -> str:
    """Return how a user may spell the setting *field_name*, for use in messages."""
    upper = field_name.upper()
    return (
        f"{CONF_PREFIX}{field_name} "
        f"(in Django: CELERY_LAMBDA_{upper}, in the environment: {ENV_PREFIX}{upper})"
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a non-empty string")
    return value.strip()


def _url(value: Any) -> str:
    text = _text(value)
    if urlsplit(text).scheme not in {"http", "https"}:
        raise ValueError("a URL that begins with http:// or https://")
    return text


def _number(kind: type, minimum: float) -> Callable[[Any], Any]:
    def parse(value: Any) -> Any:
        try:
            number = kind(value)
        except (TypeError, ValueError):
            number = None
        if isinstance(value, bool) or number is None or not number >= minimum:
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f"{what}, {minimum:g} or more")
        return number

    return parse


def _choice(*allowed: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in allowed:
            raise ValueError(" or ".join(map(repr, allowed)))
        return str(value)

    return parse


def _namespace(value: Any) -> str:
    """Read a CloudWatch namespace; what switches metrics off is empty."""
    if value is False or str(value).strip().lower() in {"", "off"}:
        return ""
    if not isinstance(value, str) or not _NAMESPACE.fullmatch(value := value.strip()):
        raise ValueError(
            '"off", or a name of letters, digits, spaces and any of . - _ / # : with 255 '
            'characters at most, which does not begin with "AWS/" or ":"'
        )
    return value


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).strip().lower() in {"1", "true", "yes", "on"}:
        return True
    if str(value).strip().lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError("true or false")


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(",")
    names = tuple(str(name).strip() for name in value)
    return tuple(name for name in names if name)


def _mapping(value: Any, of_what: str) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, Mapping):
        raise ValueError(f"a mapping of {of_what} (in the environment as JSON)")
    return {str(key): each for key, each in value.items()}


def _queues(value: Any) -> Mapping[str, QueueSettings]:
    return {
        name: QueueSettings.parse({"url": each} if isinstance(each, str) else each)
        for name, each in _mapping(value, "queue names to queue URLs").items()
    }


def _priority_queues(value: Any) -> Mapping[str, Mapping[int, str]]:
    what = "queue names to a mapping of the lowest priority to the queue for it"
    parsed = {}
    for name, each in _mapping(value, what).items():
        try:
            parsed[name] = {int(priority): _text(queue) for priority, queue in each.items()}
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f'a mapping of {what}, as {{"mail": {{6: "mail-urgent"}}}}') from None
    return parsed


def _setting(
    parse: Callable[[Any], Any],
    default: Any = None,
    *,
    factory: Callable[[], Any] | None = None,
    unset: str = "",
    about: str = "",
) -> Any:
    """Define a setting: how it is read, and what the reference says of it, in Markdown.

    *unset* says what holds where there is no default.
    """
    metadata = {"parse": parse, "unset": unset, "about": about}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class QueueSettings:
    """A queue, and the settings that are its own; those that are ``None`` are everybody's."""

    url: str = _setting(_url, "")
    dead_letter_queue_url: str | None = _setting(_url)
    max_receive_count: int | None = _setting(_number(int, 1))
    idempotency_ttl_seconds: int | None = _setting(_number(int, 60))
    retry_backoff_seconds: float | None = _setting(_number(float, 0))
    retry_backoff_max_seconds: float | None = _setting(_number(float, 0))
    retry_jitter: bool | None = _setting(_flag)

    @classmethod
    def parse(cls, value: Any) -> QueueSettings:
        """Read a mapping; raise :exc:`ValueError` with what it must be."""
        known = {each.name: each.metadata["parse"] for each in fields(cls)}
        if not isinstance(value, Mapping) or "url" not in value or not known.keys() >= set(value):
            raise ValueError(
                f"a mapping of queue names to queue URLs, or to mappings of {', '.join(known)}"
            )
        return cls(**{name: known[name](each) for name, each in value.items()})

    def own(self) -> dict[str, Any]:
        """Return the settings that are this queue's own."""
        names = [each.name for each in fields(self) if each.name != "url"]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True)
class Settings:
    """Everything that can be set; ``docs/configuration.md`` is made of these definitions."""

    enabled: bool = _setting(
        _flag,
        True,
        about="with `false` every task goes to the app's own broker, as if Lambda Celery were not "
        "there: the way back, a stage without AWS, tests with a worker. The function still runs "
        "what is on the queue",
    )
    queue_url: str | None = _setting(
        _url, about="the SQS queue for every Celery queue that `queues` does not name"
    )
    queues: Mapping[str, QueueSettings] = _setting(
        _queues,
        factory=dict,
        about="Celery queue name → SQS queue URL, or a mapping with `url` and settings of that "
        "queue's own (below); in the environment as JSON",
    )
    priority_queues: Mapping[str, Mapping[int, str]] = _setting(
        _priority_queues,
        factory=dict,
        about="Celery queue name → {lowest priority: Celery queue for it}. SQS has no "
        "priorities: a call with one is refused unless this names a queue",
    )
    tasks: tuple[str, ...] = _setting(
        _names,
        (),
        about="globs over task names: these go to SQS although their code says nothing; in the "
        "environment separated by commas. A task with `lambda_celery=False` goes to the app's "
        "own broker",
    )
    dead_letter_queue_url: str | None = _setting(
        _url, unset="the queue's redrive policy", about="where spent messages are parked"
    )
    max_receive_count: int | None = _setting(
        _number(int, 1),
        unset="the queue's redrive policy",
        about="receives before a message is spent",
    )
    idempotency_table: str | None = _setting(
        _text,
        unset="required by the function",
        about="DynamoDB table: partition key `id` (string), TTL attribute `expiration`",
    )
    idempotency_ttl_seconds: int | None = _setting(
        _number(int, 60),
        unset="from the queues' retention",
        about="how long a completed task is remembered. By default: twice the queue's "
        "retention, the dead-letter queue's, and a day",
    )
    payload_bucket: str | None = _setting(
        _text,
        about="S3 bucket for bodies that are too big for the queue: with SQS's 1 MiB, arguments "
        "of more than about 580 kB, since kombu's format takes 16 bytes for 9",
    )
    payload_threshold_bytes: int | None = _setting(
        _number(int, 0),
        unset="what the queue accepts (SQS: 1,048,576)",
        about="above this size, attributes counted, a message goes to S3",
    )
    extra_payload_buckets: tuple[str, ...] = _setting(
        _names,
        (),
        about="other S3 buckets that a message may point to; a body there is read, never "
        "deleted. A pointer to any other bucket is unreadable",
    )
    maximum_body_bytes: int = _setting(
        _number(int, 1),
        64 * 1024 * 1024,
        about="the largest body that is read, from S3 or decompressed: some hundred times what "
        "SQS takes, and little enough for a function of 512 MB. What is larger is unreadable. "
        "zlib, bzip2 and lzma are decompressed; other formats cannot be read up to a size, and "
        "are unreadable",
    )
    maximum_delay_seconds: int = _setting(
        _number(int, 1),
        366 * 86_400,
        about="how far off an `eta` may be (default: 366 days). What is later is refused when it "
        "is published, and unreadable. A body in S3 is stored anew while its message waits",
    )
    maximum_retries: int = _setting(
        _number(int, 1), 100_000, about="the highest retry number that is read"
    )
    maximum_stamps: int = _setting(
        _number(int, 1),
        100,
        about="the most stamp values of a message, because each can be a look-up in the table",
    )
    region: str | None = _setting(
        _text, unset="the queue URL's, then boto3's search", about="AWS region"
    )
    endpoint_url: str | None = _setting(
        _url, about="one endpoint for all AWS services, as for an emulator"
    )
    function: str | None = _setting(
        _text,
        unset="in the function itself: its own",
        about="the Lambda function that [direct calls](direct-calls.md) go to: its name or ARN, "
        "with an alias or a version where one is meant (`mail:live`)",
    )
    fast_requests: bool = _setting(
        _flag,
        True,
        about="make the frequent requests past most of botocore, where this version of it is "
        "known. Everything else, and everything with `false`, goes botocore's own way",
    )
    retry_backoff_seconds: float = _setting(
        _number(float, 0),
        5.0,
        about="how long a message is hidden after its first failure; it doubles with every receive",
    )
    retry_backoff_max_seconds: float = _setting(
        _number(float, 0), 600.0, about="where that doubling ends"
    )
    retry_jitter: bool = _setting(
        _flag, True, about="draw the delay from the upper half of its range"
    )
    time_reserve_seconds: float = _setting(
        _number(float, 0),
        5.0,
        about="the end of an invocation that is kept for settling the batch (a fifth of the "
        "invocation at most); no task starts in it, and a running one gets "
        "`SoftTimeLimitExceeded`",
    )
    concurrency: int = _setting(
        _number(int, 1),
        1,
        about="tasks that run at the same time in one environment, on threads "
        "([concurrency](operations/concurrency.md))",
    )
    async_concurrency: int | None = _setting(
        _number(int, 1),
        unset="what `concurrency` is",
        about="`async def` tasks that run at the same time beside them, on one event loop "
        "([asynchronous tasks](operations/concurrency.md#asynchronous-tasks))",
    )
    processes: int = _setting(
        _number(int, 0),
        0,
        about="processes that the function's process forks to run tasks in, `concurrency` in each: "
        "one for each vCPU, which takes 1,769 MB of memory, or one alone for its isolation "
        "([processes](operations/concurrency.md#processes)). With 0, tasks run in the function's "
        "own process",
    )
    report_batch_item_failures: bool = _setting(
        _flag,
        True,
        about="whether the event source mapping has `ReportBatchItemFailures`. Without it Lambda "
        "deletes every message of a batch, **the failed ones too**, unless this is off: then the "
        "handler raises when something failed, and the whole batch comes back. What has run is "
        "not run again",
    )
    redact_arguments: bool = _setting(
        _flag,
        False,
        about="put `<redacted>` in the place of `argsrepr` and `kwargsrepr`, so that no header "
        "holds arguments, and no log line shows them as arguments. The body still holds them; "
        "results and texts of exceptions, which may repeat them, are logged and stored as ever, "
        "and so are the arguments with `result_extended`",
    )
    log_format: str = _setting(
        _choice("json", "text"),
        "json",
        about='what the function\'s log lines are: `"json"` (Powertools\' fields), or `"text"` '
        "as a worker's",
    )
    metrics_namespace: str = _setting(
        _namespace,
        "LambdaCelery",
        about="the CloudWatch namespace of the function's own metrics "
        '([metrics](observability.md#metrics)). With `"off"` there are none; `lambda local` '
        "prints none unless the environment names one",
    )
    debug: bool = _setting(
        _flag,
        False,
        about="keep the exceptions of botocore and urllib3 behind those of Lambda Celery, with "
        "their tracebacks. By default an exception such as `PublishError` holds the cause as "
        "text",
    )
    schedule_group: str | None = _setting(
        _text,
        about="EventBridge Scheduler group of the project's schedules "
        "([schedules](operations/schedules.md))",
    )
    schedule_role_arn: str | None = _setting(
        _text,
        about="the role by which EventBridge Scheduler may send to the queues. With both set, "
        "what is due in more than 15 minutes becomes a one-time schedule instead of hopping",
    )

    @classmethod
    def from_app(cls, app: Celery, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings of *app*, overridden by *environ* (default: ``os.environ``).

        Raises :exc:`ConfigurationError` for a value that is not of its setting's kind.
        """
        environ = os.environ if environ is None else environ
        _warn_of_misspelt(app, environ, [each.name for each in fields(cls)])
        values: dict[str, Any] = {}
        for each in fields(cls):
            if (value := _read_setting(app, environ, each)) is not None:
                values[each.name] = value
        settings = cls(**values)
        settings._check_region()
        return settings

    @classmethod
    def log_format_of(cls, app: Celery) -> str:
        """Read that one setting of *app*: the others are read when there is a log to tell of them.

        Raises :exc:`ConfigurationError` as :meth:`from_app` does.
        """
        (log_format,) = (each for each in fields(cls) if each.name == "log_format")
        return str(_read_setting(app, os.environ, log_format) or log_format.default)

    def require(self, field_name: str, purpose: str) -> Any:
        """Return the value of *field_name*; raise a sentence with *purpose* if it is not set."""
        value = getattr(self, field_name)
        if not value:
            raise ConfigurationError(f"Set {setting_names(field_name)}: {purpose}.")
        return value

    def url_of(self, queue_name: str) -> str:
        """Return the SQS queue URL that the Celery queue *queue_name* stands for."""
        url = self.queues[queue_name].url if queue_name in self.queues else self.queue_url
        if url is None:
            if self.queues:
                raise ConfigurationError(
                    f"The Celery queue {queue_name!r} has no SQS queue: add it to "
                    f"{setting_names('queues')}, or set {setting_names('queue_url')} "
                    "for all that are not named there."
                )
            self.require("queue_url", "the SQS queue that tasks are sent to")
        return str(url)

    def of_queue(self, url: str) -> Settings:
        """Return the settings for the SQS queue *url*: its own where it has some, else these."""
        own = next((each.own() for each in self.queues.values() if each.url == url), {})
        return replace(self, **own)

    @property
    def loop_concurrency(self) -> int:
        """How many asynchronous tasks run at the same time in one environment."""
        return self.async_concurrency or self.concurrency

    @property
    def most_concurrency(self) -> int:
        """How many tasks of the kind of which more do run at the same time in one environment."""
        return max(self.concurrency, self.loop_concurrency)

    @property
    def queue_urls(self) -> tuple[str, ...]:
        """Every SQS queue named in the settings, without repeats."""
        urls = [each.url for each in self.queues.values()]
        return tuple(dict.fromkeys([*urls, *([self.queue_url] if self.queue_url else [])]))

    @property
    def aws_region(self) -> str | None:
        """The region to use: the setting, else the one in a queue URL, else ``None``."""
        return self.region or next(filter(None, map(region_of_queue, self.queue_urls)), None)

    def _check_region(self) -> None:
        for url in self.queue_urls:
            region = region_of_queue(url)
            if region and region != self.aws_region and not self.endpoint_url:
                raise ConfigurationError(
                    f"The queue {url} is in {region}, but {setting_names('region')}, or the "
                    f"first queue, says {self.aws_region!r}: they must be the same."
                )


def _read_setting(app: Celery, environ: Mapping[str, str], setting: Field[Any]) -> Any:
    """Return the value of *setting*, parsed; ``None`` if nobody has set it."""
    value = environ.get(ENV_PREFIX + setting.name.upper()) or app.conf.get(
        CONF_PREFIX + setting.name
    )
    if value is None:
        return None
    try:
        return setting.metadata["parse"](value)
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(
            f"{setting_names(setting.name)} is {value!r}, but must be {exc}."
        ) from exc


def settings_of(app: Celery) -> Settings:
    """Return the settings of *app*, read and checked at the first call."""
    if app not in _read:
        _read[app] = Settings.from_app(app)
    return _read[app]


@contextmanager
def other_settings(app: Celery, settings: Settings) -> Iterator[None]:
    """Have :func:`settings_of` return *settings* for *app* within the context: in its tests."""
    before = _read.get(app)
    _read[app] = settings
    try:
        yield
    finally:
        if before is None:
            del _read[app]
        else:
            _read[app] = before


_read: WeakKeyDictionary[Celery, Settings] = WeakKeyDictionary()


def _warn_of_misspelt(app: Celery, environ: Mapping[str, str], known: list[str]) -> None:
    prefixes = (ENV_PREFIX, "CELERY_LAMBDA_", CONF_PREFIX)
    for spelt in sorted({*map(str, app.conf), *environ}):
        prefix = next((each for each in prefixes if spelt.startswith(each)), None)
        if prefix is None or spelt == APP_VARIABLE:
            continue
        name = spelt.removeprefix(prefix).lower()
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {setting_names(close[0])}?" if close else ""
            logger.warning("%s is not a setting of Lambda Celery.%s", spelt, hint)


def region_of_queue(queue_url: str) -> str | None:
    """Return the AWS region in *queue_url*, or ``None`` if it is not an AWS URL."""
    host = urlsplit(queue_url).hostname or ""
    if not host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws")):
        return None
    # sqs.REGION.…, sqs-fips.REGION.…, REGION.queue.…, vpce-….sqs.REGION.vpce.…
    return next((label for label in host.split(".") if _REGION.fullmatch(label)), None)
