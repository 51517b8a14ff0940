"""The queues and their dead-letter queues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lambda_celery.check.deployed.deployment import Deployed, Queue
from lambda_celery.check.deployed.reading import Thing
from lambda_celery.check.deployed.rule import Difference, Wrong, deployed_rule
from lambda_celery.check.model import Grade
from lambda_celery.conf import setting_names
from lambda_celery.infrastructure.computed import record_life_seconds, visibility_timeout_seconds
from lambda_celery.infrastructure.inputs import Deployment

#: Throttled invocations count as receives: with fewer, what has not run is parked.
LEAST_RECEIVES = Deployment.max_receive_count


@deployed_rule("deployed-queue", "A queue that is not there")
def queue_is_there(deployed: Deployed) -> Iterator[Difference]:
    """A queue that the settings name does not exist in this account and region.

    The URLs are those of `lambda_queue_url` and `lambda_queues`. Deploy the infrastructure, use
    the account's credentials and region, or correct the URL. Without a queue nothing else can be
    found, so nothing else is compared.
    """
    things = list(deployed.queue_things())
    if not things:
        yield Difference(
            Grade.RED,
            Thing("queues", "lambda_queue_url", "queue_url"),
            "The settings name no queue, so nothing of what is deployed can be found.",
            Wrong.SETTINGS,
            f"set {setting_names('queue_url')}.",
        )
    for url, thing in things:
        attributes = deployed.look_at_queue(url, thing)
        if attributes is not None and not attributes:
            yield Difference(
                Grade.RED,
                thing,
                "The settings name this queue, but there is none of that name in this account "
                "and region.",
                Wrong.AWS,
                "deploy it. If it is deployed under another URL, or elsewhere, the settings are "
                f"wrong: correct {setting_names(thing.setting or 'queue_url')}.",
            )


@deployed_rule("deployed-visibility", "A visibility time-out that is too short")
def visibility(deployed: Deployed) -> Iterator[Difference]:
    """A queue hides messages for less than six times the function's time-out and the window.

    Lambda then gets a message again while it still runs, or is throttled until the message is
    parked without having run. Compared are the queue's `VisibilityTimeout`, the function's
    `Timeout` and the mapping's `MaximumBatchingWindowInSeconds`, as they are on AWS.
    """
    for queue in deployed.queues():
        for mapping in deployed.mappings_of(queue) or ():
            if (function := deployed.function_of(mapping)) is None:
                continue
            needed = visibility_timeout_seconds(function.timeout_seconds, mapping.window_seconds)
            if queue.visibility_timeout_seconds < needed:
                yield Difference(
                    Grade.RED,
                    queue.thing,
                    f"The queue hides a message for {queue.visibility_timeout_seconds} s. Six "
                    f"times the time-out of the {function.thing.subject} and the batching window "
                    f"are {needed} s.",
                    Wrong.AWS,
                    f"raise VisibilityTimeout of the queue to {needed}.",
                )


@deployed_rule("deployed-retention", "A retention that is too short")
def retention(deployed: Deployed) -> Iterator[Difference]:
    """Queue, dead-letter queue and records do not keep things for as long as they must.

    The dead-letter queue must keep a message for longer than the queue does, because its age goes
    on counting there. A call's record must stand for as long as a copy of its message can live:
    twice the queue's retention, the dead-letter queue's, and a day; else a redriven message runs
    again. With `[tool.lambda-celery]`, both retentions are compared with it, too.
    """
    for queue in deployed.queues():
        dead_letters = deployed.dead_letter_queue(queue)
        if dead_letters is not None:
            yield from _order_of_retentions(queue, dead_letters)
            yield from _life_of_records(deployed, queue, dead_letters)
        if queue.figures is not None and deployed.deployment is not None:
            pairs = [(queue, queue.figures.message_retention_seconds)]
            if dead_letters is not None:
                pairs.append((dead_letters, deployed.deployment.dlq_message_retention_seconds))
            for each, must in pairs:
                if each.retention_seconds != must:
                    yield Difference(
                        Grade.AMBER,
                        each.thing,
                        f"It keeps a message for {each.retention_seconds:,} s. By pyproject.toml "
                        f"it must be {must:,} s.",
                        Wrong.AWS,
                        f"set MessageRetentionPeriod to {must}, by deploying anew.",
                    )


def _order_of_retentions(queue: Queue, dead_letters: Queue) -> Iterator[Difference]:
    if dead_letters.retention_seconds <= queue.retention_seconds:
        is_less = dead_letters.retention_seconds < queue.retention_seconds
        yield Difference(
            Grade.RED if is_less else Grade.AMBER,
            dead_letters.thing,
            f"The dead-letter queue keeps a message for {dead_letters.retention_seconds:,} s, and "
            f"the {queue.thing.subject} for {queue.retention_seconds:,} s. The age of a message "
            "goes on counting when it is parked, so that it may be lost at once.",
            Wrong.AWS,
            "raise MessageRetentionPeriod of the dead-letter queue, to "
            f"{Deployment.dlq_message_retention_seconds} at best.",
        )


def _life_of_records(deployed: Deployed, queue: Queue, dead_letters: Queue) -> Iterator[Difference]:
    needed = record_life_seconds(queue.retention_seconds, dead_letters.retention_seconds)
    of_project = deployed.settings.of_queue(queue.url).idempotency_ttl_seconds
    if of_project is not None and of_project < needed:
        yield Difference(
            Grade.RED,
            queue.thing,
            f"A completed call is remembered for {of_project:,} s. A copy of its message can live "
            f"for {needed:,} s on this queue and its dead-letter queue, and would run again.",
            Wrong.SETTINGS,
            f"raise {setting_names('idempotency_ttl_seconds')} to {needed}, or leave it out.",
        )
    for mapping in deployed.mappings_of(queue) or ():
        function = deployed.function_of(mapping)
        own = deployed.settings_in(function) if function is not None else None
        life = own.of_queue(queue.url).idempotency_ttl_seconds if own is not None else None
        if function is not None and life is not None and life != of_project and life < needed:
            yield Difference(
                Grade.RED,
                function.thing,
                f"The function remembers a completed call for {life:,} s. A copy of its message "
                f"can live for {needed:,} s on the {queue.thing.subject} and its dead-letter "
                "queue, and would run again.",
                Wrong.AWS,
                f"raise LAMBDA_CELERY_IDEMPOTENCY_TTL_SECONDS of the function to {needed}.",
            )


@deployed_rule("deployed-redrive", "A redrive policy that loses or parks too early")
def redrive(deployed: Deployed) -> Iterator[Difference]:
    """A queue has no redrive policy, one with fewer than five receives, or one to nowhere.

    Without it, a message that always fails comes back until its retention ends, and is lost.
    Throttled invocations count as receives, so that fewer than five park what has never run.
    `lambda_max_receive_count` and `lambda_dead_letter_queue_url` must say what the policy says.
    """
    for queue in deployed.queues():
        policy = queue.document("RedrivePolicy")
        if not policy:
            yield Difference(
                Grade.RED,
                queue.thing,
                "The queue has no redrive policy: a message that always fails comes back until "
                "its retention ends, and is lost.",
                Wrong.AWS,
                "give the queue a RedrivePolicy with a dead-letter queue and a maxReceiveCount of "
                f"{LEAST_RECEIVES} or more.",
            )
            continue
        receives = int(policy.get("maxReceiveCount", 0))
        if receives < LEAST_RECEIVES:
            yield Difference(
                Grade.RED,
                queue.thing,
                f"The redrive policy parks a message after {receives} receives. Throttled "
                f"invocations count too, so fewer than {LEAST_RECEIVES} park what has not run.",
                Wrong.AWS,
                f"raise maxReceiveCount of the queue's RedrivePolicy to {LEAST_RECEIVES}.",
            )
        elif queue.figures is not None and receives != queue.figures.max_receive_count:
            yield Difference(
                Grade.AMBER,
                queue.thing,
                f"The redrive policy parks a message after {receives} receives. By pyproject.toml "
                f"it must be {queue.figures.max_receive_count}.",
                Wrong.AWS,
                "set maxReceiveCount of the queue's RedrivePolicy, by deploying anew.",
            )
        yield from _target(deployed, queue)
        yield from _settings_of_redrive(deployed, queue, receives)


def _target(deployed: Deployed, queue: Queue) -> Iterator[Difference]:
    found = deployed.dead_letter_thing(queue)
    if found is None:
        return
    url, thing = found
    attributes = deployed.look_at_queue(url, thing)
    if attributes is not None and not attributes:
        yield Difference(
            Grade.RED,
            thing,
            f"The redrive policy of the {queue.thing.subject} names this dead-letter queue, but "
            "there is none. SQS cannot park a message there.",
            Wrong.AWS,
            "create the dead-letter queue, or name one that is there in the RedrivePolicy.",
        )


def _settings_of_redrive(deployed: Deployed, queue: Queue, receives: int) -> Iterator[Difference]:
    own = deployed.settings.of_queue(queue.url)
    if own.max_receive_count not in (None, receives) and receives >= LEAST_RECEIVES:
        yield Difference(
            Grade.AMBER,
            queue.thing,
            f"The settings say that a message is spent after {own.max_receive_count} receives, "
            f"the redrive policy says {receives}. The smaller one holds.",
            Wrong.SETTINGS,
            f"set {setting_names('max_receive_count')} to {receives}, or leave it out.",
        )
    target = deployed.dead_letter_thing(queue)
    if own.dead_letter_queue_url and target is not None:
        named = own.dead_letter_queue_url.split("/")[-2:]
        if named != target[0].split("/")[-2:]:
            yield Difference(
                Grade.AMBER,
                queue.thing,
                f"The settings park on {own.dead_letter_queue_url}, and SQS on "
                f"{target[1].resource}: dead letters are in two places.",
                Wrong.SETTINGS,
                f"set {setting_names('dead_letter_queue_url')} to {target[0]}, or leave it out.",
            )


@deployed_rule("deployed-redrive-permission", "A dead-letter queue that refuses its queue")
def redrive_permission(deployed: Deployed) -> Iterator[Difference]:
    """The `RedriveAllowPolicy` of a dead-letter queue does not allow the queue to use it.

    SQS then cannot park there. A dead-letter queue without such a policy takes from every queue
    of the account.
    """
    for queue in deployed.queues():
        if (dead_letters := deployed.dead_letter_queue(queue)) is None:
            continue
        policy = dead_letters.document("RedriveAllowPolicy")
        permission = policy.get("redrivePermission", "allowAll")
        if permission == "denyAll" or (
            permission == "byQueue" and queue.arn not in policy.get("sourceQueueArns", [])
        ):
            yield Difference(
                Grade.RED,
                dead_letters.thing,
                f"Its RedriveAllowPolicy does not allow the {queue.thing.subject} to park here "
                f"({permission}).",
                Wrong.AWS,
                f"add {queue.arn} to sourceQueueArns of its RedriveAllowPolicy, with the "
                "redrivePermission byQueue.",
            )


@deployed_rule("deployed-queue-encryption", "A queue that is not encrypted as it must be")
def encryption(deployed: Deployed) -> Iterator[Difference]:
    """Messages hold arguments, and a queue or dead-letter queue stores them unencrypted.

    `SqsManagedSseEnabled` costs nothing. With `kms_key_arn` in `[tool.lambda-celery]`, it must be
    that key.
    """
    key = deployed.deployment.kms_key_arn if deployed.deployment is not None else None
    for queue in deployed.all_queues():
        own = queue.attributes.get("KmsMasterKeyId")
        if own is None and queue.attributes.get("SqsManagedSseEnabled") != "true":
            yield Difference(
                Grade.AMBER,
                queue.thing,
                "It does not encrypt the messages that it stores, and these hold arguments.",
                Wrong.AWS,
                "set SqsManagedSseEnabled to true.",
            )
        elif key is not None and own != key:
            yield Difference(
                Grade.AMBER,
                queue.thing,
                f"Its KMS key is {own or 'that of SQS itself'}. By pyproject.toml it must be "
                f"{key}.",
                Wrong.AWS,
                "set KmsMasterKeyId, by deploying anew.",
            )


@deployed_rule("deployed-queue-tls", "A queue that takes requests without TLS")
def tls(deployed: Deployed) -> Iterator[Difference]:
    """The policy of a queue or a dead-letter queue does not deny requests without TLS.

    Everything here uses TLS; the policy sees to it that everybody does.
    """
    for queue in deployed.all_queues():
        if not denies_plain_http(queue.document("Policy")):
            yield Difference(
                Grade.AMBER,
                queue.thing,
                "No policy of the queue denies requests without TLS.",
                Wrong.AWS,
                "add a queue policy with a statement that denies sqs:* where aws:SecureTransport "
                'is "false".',
            )


def denies_plain_http(policy: Mapping[str, Any]) -> bool:
    """Whether *policy*, of a queue or a bucket, denies everybody requests without TLS."""
    statements = policy.get("Statement", [])
    for each in statements if isinstance(statements, list) else [statements]:
        condition = each.get("Condition", {}).get("Bool", {})
        values = {str(key).lower(): value for key, value in condition.items()}
        value = values.get("aws:securetransport")
        # A condition of one value may stand in a list.
        value = value[0] if isinstance(value, list) and value else value
        is_everybody = each.get("Principal") in ("*", {"AWS": "*"}, {"AWS": ["*"]})
        if each.get("Effect") == "Deny" and is_everybody and str(value).lower() == "false":
            return True
    return False
