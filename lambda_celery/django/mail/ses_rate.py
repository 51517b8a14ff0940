"""The rate that SES allows an account, learnt from SES and kept by all processes together.

SES counts recipients, so a mail takes a token for each of its own:
https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas.html
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.django.mail.ses_account import Account
from lambda_celery.exceptions import LambdaCeleryError
from lambda_celery.table.rate_limits import PATIENCE_SECONDS, RateLimiter

logger = logging.getLogger(__name__)

#: How long a process believes what it was told.
_BELIEVED_SECONDS = 900.0
#: When it asks again what it was not told, or what seems to be wrong.
_SOON_SECONDS = 60.0
#: SES answers once a second, and environments start together.
_THROTTLED_SECONDS = (1.0, 10.0)
#: What a mail needs of the invocation once it has its turn.
_NEEDED_SECONDS = 5.0


class SesRate:
    """The rate of one account in one region. It may be used by several threads.

    No mail fails for it: what is not known, or not kept, does not hold a mail.
    """

    def __init__(
        self, settings: Settings, account: Account, clock: Callable[[], float] = time.time
    ) -> None:
        """*settings* must have an idempotency table."""
        self._settings = settings
        if account.endpoint_url:
            settings = replace(settings, endpoint_url=account.endpoint_url)
        self._settings_of_ses = settings
        self._account = account
        self._limiter = RateLimiter(self._settings, clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._known: float | None = None
        self._asked_at = 0.0
        self._ask_at = 0.0
        #: What was said last, so that it is said once.
        self._said = ""

    def seconds_to_wait(self, recipients: int) -> float:
        """Return how long a mail to so many has to wait; 0 if it may be sent now.

        If its turn is near, it comes before this returns.
        """
        per_second = self.per_second()
        if not per_second:
            return 0.0
        patience = min(max(0.0, aws.seconds_left() - _NEEDED_SECONDS), PATIENCE_SECONDS)
        try:
            turn = self._limiter.turn(self._bucket(), per_second, patience, max(1, recipients))
        except aws.AWS_ERRORS as exc:
            self._say(f"Mails go without SES's rate, for the table cannot be asked: {exc}")
            return 0.0
        if not turn.granted:
            return turn.seconds
        time.sleep(turn.seconds)
        return 0.0

    def per_second(self) -> float | None:
        """Return how many recipients SES takes a second; ``None`` if that is not known."""
        with self._lock:
            now = self._clock()
            # A snapshot of the process may be old, and its clock ahead.
            if not self._asked_at <= now < self._ask_at:
                self._asked_at, self._ask_at = now, now + _BELIEVED_SECONDS
                self._learn(now)
            return self._known

    def is_exceeded(self) -> None:
        """Note that SES has called it too fast: the rate may be another one by now."""
        with self._lock:
            self._ask_at = min(self._ask_at, self._asked_at + _SOON_SECONDS)

    def _learn(self, now: float) -> None:
        try:
            answer = self._client().get_account()
        except (*aws.AWS_ERRORS, LambdaCeleryError, ValueError) as exc:  # a wrong URL is the last
            is_throttled = aws.is_throttled(exc)
            again = random.uniform(*_THROTTLED_SECONDS) if is_throttled else _SOON_SECONDS
            self._ask_at = now + again
            known = f"by the last known rate, {self._known:g}/s" if self._known else "without it"
            where = f"SES in {self._account.region or aws.region_of(self._settings)}"
            told = aws.explain(exc, action="ses:GetAccount", resource=where)
            self._say(f"SES's rate could not be learnt. Mails go {known}. {told}")
            return
        self._known = float(answer.get("SendQuota", {}).get("MaxSendRate") or 0.0)
        self._said = ""
        status = answer.get("EnforcementStatus")
        if answer.get("SendingEnabled") is False or status == "SHUTDOWN":
            self._say(
                f"SES sends nothing for this account (its status is {status}): look at its "
                "account dashboard. Mails are tried, and wait once SES has refused one."
            )

    def _client(self) -> Any:
        credentials: dict[str, Any] = dict(self._account.credentials)
        return aws.client(
            "sesv2",
            self._settings_of_ses,
            region=self._account.region,
            patient=False,
            **credentials,
        )

    def _bucket(self) -> str:
        """Return the bucket's name: all mailers of an account and region have the same one."""
        name = f"ses/{self._client().meta.region_name}"
        if self._account.credentials:
            text = repr(self._account.credentials)
            name += f"/{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        return name

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            logger.warning("%s", sentence)
        self._said = sentence
