"""Whether a mailer takes mails at all just now, as all processes know it.

A mailer whose account is paused, whose credentials are wrong or whose daily quota is used up gets
none of its mails, and no mail pays for that with an attempt. One mail in a while is its probe.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.table.schema import EXPIRATION, KEY, mailer_key

logger = logging.getLogger(__name__)

#: How long a process believes what it has read.
_BELIEVED_SECONDS = 5.0
#: From one probe to the next, at first and at most.
_FIRST_SECONDS = 60.0
_LONGEST_SECONDS = 900.0
#: After so many it is the longest one; a power of all of them would be no float at some point.
_MOST_DOUBLINGS = 10
#: How long the item outlives its last probe.
_KEPT_SECONDS = 86_400


@dataclass(frozen=True)
class _State:
    """What is known of a mailer: until when it is left alone, and after how many probes."""

    until: float = 0.0
    probes: int = 0
    reason: str = ""


class Breaker:
    """The state of one mailer. It may be used by several threads.

    Without a table, each process knows but what it has seen itself.
    """

    def __init__(
        self, settings: Settings, mailer: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._key = {KEY: {"S": mailer_key(mailer)}}
        self._mailer = mailer
        self._clock = clock
        self._lock = threading.Lock()
        self._known = _State()
        self._known_at = 0.0
        #: Until when the others wait for the probe of this process.
        self._probe_until = 0.0

    def seconds_to_wait(self) -> float:
        """Return how long a mail has to wait for this mailer; 0 if it may be sent now.

        Whoever is told 0 after the mailer was left alone is its probe.
        """
        state = self._read()
        now = self._clock()
        if not state.until:
            return 0.0
        if state.until > now or not self._take_probe(state, now):
            # Not all at the same moment.
            wait = max(state.until - now, 0) + 1
            return wait + random.uniform(0, min(wait, _FIRST_SECONDS))
        return 0.0

    def is_known_to_be_well(self) -> bool:
        """Whether the mailer takes mails, as all processes know it.

        Never without a table, and not for a probe.
        """
        with self._lock:
            return bool(self._table) and not self._known.until

    def leave_alone(self, reason: str, seconds: float | None = None) -> None:
        """Write down that the mailer takes nothing, unless another mail has told so already.

        :param seconds: for how long, if the server's answer tells.
        """
        now = self._clock()
        state = self._read()
        if state.until > now and state.until != self._probe_until:
            return  # what a crowd of mails is told at one time is one answer
        doublings = min(state.probes, _MOST_DOUBLINGS)
        wait = seconds or min(_FIRST_SECONDS * 2**doublings, _LONGEST_SECONDS)
        self._write(_State(now + wait, state.probes + 1, reason), None)
        logger.error(
            "The mailer %s takes no mails: %s. They wait, and the next one is tried in %d s.",
            self._mailer, reason, wait,
        )  # fmt: skip

    def is_well(self) -> None:
        """Write down that the mailer has taken a mail."""
        with self._lock:
            was_left_alone, self._known = self._known.until > 0, _State()
        if not was_left_alone:
            return
        logger.warning("The mailer %s takes mails again.", self._mailer)
        self._ask("delete_item")

    def _read(self) -> _State:
        with self._lock:
            if self._clock() - self._known_at < _BELIEVED_SECONDS or not self._table:
                return self._known
        answer = self._ask("get_item", ConsistentRead=True)
        if answer is not None:
            self._note(_state_of(answer.get("Item", {})))
        with self._lock:
            return self._known

    def _take_probe(self, state: _State, now: float) -> bool:
        """Whether this process tries the mailer next; the others wait for what becomes of it."""
        probe = replace(state, until=now + _FIRST_SECONDS)
        if not self._write(probe, state):
            return False
        self._probe_until = probe.until
        return True

    def _write(self, state: _State, expected: _State | None) -> bool:
        condition: dict[str, Any] = {}
        if expected is not None:
            condition = {
                "ConditionExpression": "#until = :expected",
                "ExpressionAttributeNames": {"#until": "until"},
                "ExpressionAttributeValues": {":expected": {"N": repr(expected.until)}},
            }
        item = {
            **self._key,
            "until": {"N": repr(state.until)},
            "probes": {"N": str(state.probes)},
            "reason": {"S": state.reason[:1000]},
            EXPIRATION: {"N": str(int(state.until) + _KEPT_SECONDS)},
        }
        if self._table:
            try:
                aws.client("dynamodb", self._settings).put_item(
                    TableName=self._table, Item=item, **condition
                )
            except aws.AWS_ERRORS as exc:
                if aws.error_code(exc) == "ConditionalCheckFailedException":
                    with self._lock:
                        self._known_at = 0.0  # somebody else is the probe
                    return False
                self._tell(exc)
        self._note(state)
        return True

    def _note(self, state: _State) -> None:
        with self._lock:
            self._known, self._known_at = state, self._clock()

    @property
    def _table(self) -> str | None:
        return self._settings.idempotency_table

    def _ask(self, operation: str, **parameters: Any) -> Mapping[str, Any] | None:
        if not self._table:
            return None
        try:
            answer: Mapping[str, Any] = getattr(aws.client("dynamodb", self._settings), operation)(
                TableName=self._table, Key=self._key, **parameters
            )
        except aws.AWS_ERRORS as exc:
            self._tell(exc)
            return None
        return answer

    def _tell(self, exc: Exception) -> None:
        logger.warning("What is known of the mailer %s is not shared: %s", self._mailer, exc)


def _state_of(item: Mapping[str, Any]) -> _State:
    if not item:
        return _State()
    return _State(float(item["until"]["N"]), int(item["probes"]["N"]), item["reason"]["S"])
