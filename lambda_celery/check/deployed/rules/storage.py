"""The tables and the bucket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lambda_celery.check.deployed.deployment import Deployed
from lambda_celery.check.deployed.reading import Thing
from lambda_celery.check.deployed.rule import Difference, Wrong, deployed_rule
from lambda_celery.check.deployed.rules.queues import denies_plain_http
from lambda_celery.check.model import Grade
from lambda_celery.conf import setting_names
from lambda_celery.infrastructure.computed import payload_days, record_life_seconds
from lambda_celery.table.schema import FAILURES_INDEX

#: Partition key and TTL attribute: of the records' table, and of that of results.
_KEY = "id"
_TTL = "expiration"
_RESULTS_TTL = "ttl"


@deployed_rule("deployed-table", "An idempotency table that does not hold the records")
def idempotency_table(deployed: Deployed) -> Iterator[Difference]:
    """The idempotency table is not there, or its key, its TTL or its billing is not as it must be.

    It needs the partition key `id` (a string) alone, TTL on `expiration`, and should be billed on
    demand, because a burst is not foreseen, and have point-in-time recovery. Without the index
    `failures` failed tasks cannot be listed.
    """
    name = deployed.settings.idempotency_table
    if name is not None:
        yield from _table(deployed, name, _TTL, "idempotency_table")


@deployed_rule("deployed-results", "A results table that does not hold the results")
def results_table(deployed: Deployed) -> Iterator[Difference]:
    """With `lambda-dynamodb://`, the results table is not there, or not as it must be.

    It needs the partition key `id` (a string) alone, TTL on `ttl`, and should be billed on demand.
    The function must have the same table in `CELERY_RESULT_BACKEND`, if it has that variable.
    """
    if (name := deployed.results_table) is None:
        return
    yield from _table(deployed, name, _RESULTS_TTL, None)
    for function in deployed.functions():
        there = function.variables.get("CELERY_RESULT_BACKEND")
        if there and there.rpartition("/")[2].partition("?")[0] != name:
            yield Difference(
                Grade.RED,
                function.thing,
                f"CELERY_RESULT_BACKEND of the function names another table than the project's "
                f"{name}: results are written where nobody reads them.",
                Wrong.AWS,
                "set CELERY_RESULT_BACKEND of the function to the project's result_backend.",
            )


def _table(deployed: Deployed, name: str, ttl: str, setting: str | None) -> Iterator[Difference]:
    thing = Thing(f"table {name}", name, setting)
    answer = deployed.look_at_table(thing)
    if answer is None:
        return
    if not answer.is_there:
        named_by = setting_names(setting) if setting else "result_backend"
        yield Difference(
            Grade.RED,
            thing,
            "The settings name this table, but there is none of that name in this account and "
            "region.",
            Wrong.AWS,
            f"deploy it. If it has another name there, the settings are wrong: correct {named_by}.",
        )
        return
    table = answer.said["Table"]
    thing = Thing(thing.subject, table.get("TableArn", name), setting)
    yield from _key(thing, table)
    billing = table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")
    if billing != "PAY_PER_REQUEST":
        yield Difference(
            Grade.AMBER,
            thing,
            f"The table's billing mode is {billing}: a burst beyond its units is refused.",
            Wrong.AWS,
            "set BillingMode to PAY_PER_REQUEST.",
        )
    yield from _time_to_live(deployed, thing, name, ttl)
    if setting is not None:
        yield from _recovery(deployed, thing, name)
        yield from _failures_index(thing, table)


def _key(thing: Thing, table: Any) -> Iterator[Difference]:
    types = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
    keys = [(each["AttributeName"], each["KeyType"]) for each in table["KeySchema"]]
    if keys != [(_KEY, "HASH")] or types.get(_KEY) != "S":
        shown = ", ".join(f"{name} ({types.get(name)}, {kind})" for name, kind in keys)
        yield Difference(
            Grade.RED,
            thing,
            f"The key of the table is {shown}. It must be {_KEY} (S, HASH) alone: nothing can be "
            "written.",
            Wrong.AWS,
            "create a table with that key. A table's key cannot be changed.",
        )


def _failures_index(thing: Thing, table: Any) -> Iterator[Difference]:
    if FAILURES_INDEX not in {
        each["IndexName"] for each in table.get("GlobalSecondaryIndexes", ())
    }:
        yield Difference(
            Grade.AMBER,
            thing,
            f"The table has no index {FAILURES_INDEX}: failed tasks cannot be listed.",
            Wrong.AWS,
            "deploy the infrastructure of this version, or add the index as "
            "docs/operations/failed-tasks.md shows.",
        )


def _time_to_live(deployed: Deployed, thing: Thing, name: str, ttl: str) -> Iterator[Difference]:
    answer = deployed.reader.look(
        "dynamodb", "describe_time_to_live", thing, "dynamodb:DescribeTimeToLive", TableName=name
    )
    if answer is None:
        return
    said = answer.said.get("TimeToLiveDescription", {})
    is_on = said.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
    if not is_on or said.get("AttributeName") != ttl:
        there = f"on {said.get('AttributeName')}" if is_on else "off"
        yield Difference(
            Grade.RED,
            thing,
            f"The table's time to live is {there}, and must be on {ttl}: nothing is ever removed, "
            "and the table grows without end.",
            Wrong.AWS,
            f"enable TimeToLiveSpecification on the attribute {ttl}.",
        )


def _recovery(deployed: Deployed, thing: Thing, name: str) -> Iterator[Difference]:
    answer = deployed.reader.look(
        "dynamodb",
        "describe_continuous_backups",
        thing,
        "dynamodb:DescribeContinuousBackups",
        TableName=name,
    )
    if answer is None:
        return
    said = answer.said.get("ContinuousBackupsDescription", {})
    recovery = said.get("PointInTimeRecoveryDescription", {})
    if recovery.get("PointInTimeRecoveryStatus") != "ENABLED":
        yield Difference(
            Grade.AMBER,
            thing,
            "The table has no point-in-time recovery. Who loses the records, runs again what is "
            "redriven or delivered twice.",
            Wrong.AWS,
            "enable point-in-time recovery of the table.",
        )


@deployed_rule("deployed-bucket", "A bucket that loses bodies, or shows them")
def bucket(deployed: Deployed) -> Iterator[Difference]:
    """The payload bucket is not there, expires bodies too early or never, or is not private.

    A body must stay for as long as a call's record: twice the queue's retention, the dead-letter
    queue's, and a day; and 13 days more where a message may wait in EventBridge Scheduler before.
    The bucket must encrypt, block public access, and deny requests without TLS: bodies hold
    arguments.
    """
    name, arn = deployed.settings.payload_bucket, deployed.bucket_arn
    if name is None or arn is None:
        return
    thing = Thing(f"bucket {name}", arn, "payload_bucket")
    answer = deployed.reader.look("s3", "head_bucket", thing, "s3:ListBucket", Bucket=name)
    if answer is None:
        return
    if not answer.is_there:
        yield Difference(
            Grade.RED,
            thing,
            "The settings name this bucket, but there is none of that name.",
            Wrong.AWS,
            "deploy it. If it has another name there, the settings are wrong: correct "
            f"{setting_names('payload_bucket')}.",
        )
        return
    yield from _lifecycle(deployed, thing, name)
    yield from _protection(deployed, thing, name)


def _lifecycle(deployed: Deployed, thing: Thing, name: str) -> Iterator[Difference]:
    answer = deployed.reader.look(
        "s3",
        "get_bucket_lifecycle_configuration",
        thing,
        "s3:GetLifecycleConfiguration",
        Bucket=name,
    )
    if answer is None:
        return
    lives = [
        record_life_seconds(queue.retention_seconds, dead_letters.retention_seconds)
        for queue in deployed.queues()
        if (dead_letters := deployed.dead_letter_queue(queue)) is not None
    ]
    schedules = deployed.settings.schedule_group is not None
    needed = payload_days(max(lives), schedules) if lives else None
    rules = [each for each in answer.said.get("Rules", []) if each.get("Status") == "Enabled"]
    expirations = [each["Expiration"] for each in rules if "Expiration" in each]
    for each in expirations:
        if "Date" in each or (needed is not None and each.get("Days", needed) < needed):
            when = f"after {each['Days']} days" if "Days" in each else f"on {each['Date']}"
            yield Difference(
                Grade.RED,
                thing,
                f"The lifecycle removes a body {when}, and its message can live for "
                f"{needed or 'more'} days: it then has no arguments.",
                Wrong.AWS,
                f"raise ExpirationInDays of the lifecycle rule to {needed or 'days'}.",
            )
    if not any("Days" in each["Expiration"] and _is_for_all(each) for each in rules
               if "Expiration" in each):  # fmt: skip
        yield Difference(
            Grade.AMBER,
            thing,
            "No lifecycle rule removes the bodies of all messages, so that those nobody came for "
            "stay for ever.",
            Wrong.AWS,
            f"add a lifecycle rule with ExpirationInDays {needed or ''}.".replace(" .", "."),
        )


def _is_for_all(rule: Any) -> bool:
    """Whether the lifecycle *rule* is for every object."""
    return not rule.get("Prefix") and not any((rule.get("Filter") or {}).values())


def _protection(deployed: Deployed, thing: Thing, name: str) -> Iterator[Difference]:
    look = deployed.reader.look
    answer = look("s3", "get_bucket_encryption", thing, "s3:GetEncryptionConfiguration",
                  Bucket=name)  # fmt: skip
    if answer is not None:
        rules = answer.said.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
        defaults = [each.get("ApplyServerSideEncryptionByDefault", {}) for each in rules]
        key = deployed.deployment.kms_key_arn if deployed.deployment is not None else None
        if not defaults:
            yield Difference(
                Grade.AMBER,
                thing,
                "The bucket has no encryption of its own, and bodies hold arguments.",
                Wrong.AWS,
                "set BucketEncryption, to AES256 at least.",
            )
        elif key is not None and key not in (each.get("KMSMasterKeyID") for each in defaults):
            yield Difference(
                Grade.AMBER,
                thing,
                f"The bucket does not encrypt with the key of pyproject.toml, {key}.",
                Wrong.AWS,
                "set KMSMasterKeyID of BucketEncryption, by deploying anew.",
            )
    answer = look("s3", "get_public_access_block", thing, "s3:GetBucketPublicAccessBlock",
                  Bucket=name)  # fmt: skip
    if answer is not None:
        said = answer.said.get("PublicAccessBlockConfiguration", {})
        open_ = [each for each in _BLOCKS if not said.get(each)]
        if open_:
            yield Difference(
                Grade.RED,
                thing,
                f"The bucket does not block public access: {', '.join(open_)} "
                f"{'is' if len(open_) == 1 else 'are'} off. Bodies hold arguments.",
                Wrong.AWS,
                "switch on all four of PublicAccessBlockConfiguration.",
            )
    answer = look("s3", "get_bucket_policy", thing, "s3:GetBucketPolicy", Bucket=name)
    if answer is not None and not denies_plain_http(_document(answer.said.get("Policy"))):
        yield Difference(
            Grade.AMBER,
            thing,
            "No policy of the bucket denies requests without TLS.",
            Wrong.AWS,
            "add a bucket policy with a statement that denies s3:* where aws:SecureTransport is "
            '"false".',
        )


_BLOCKS = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")


def _document(policy: str | None) -> Any:
    return json.loads(policy) if policy else {}
