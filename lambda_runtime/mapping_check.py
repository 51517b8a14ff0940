"""Whether the event source mapping takes the list of failed messages. Without, it deletes them."""

from __future__ import annotations

import logging
import threading
from typing import Any

from lambda_celery import aws
from lambda_celery.conf import Settings, setting_names

logger = logging.getLogger(__name__)

_RESPONSE_TYPE = "ReportBatchItemFailures"


class MappingCheck:
    """Asks Lambda once a process, when the first message has failed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._is_done = not settings.report_batch_item_failures
        self._asking: threading.Thread | None = None

    def after_failure(self, context: Any, queue_arn: str) -> None:
        """Begin to ask of the mapping from *queue_arn* to the function that *context* is of.

        Beside the work: the answer to Lambda does not wait for it.
        """
        function_arn = getattr(context, "invoked_function_arn", None)
        if self._is_done or not isinstance(function_arn, str) or ":sqs:" not in queue_arn:
            return
        self._is_done = True
        self._asking = threading.Thread(
            target=self._check,
            args=(function_arn, queue_arn),
            name="lambda-celery-mapping",
            daemon=True,
        )
        self._asking.start()

    def wait(self) -> None:
        """Wait until nothing is asked: some seconds at most."""
        if self._asking is not None:
            self._asking.join()
            self._asking = None

    def _check(self, function_arn: str, queue_arn: str) -> None:
        try:
            answer = aws.client("lambda", self._settings, patient=False).list_event_source_mappings(
                EventSourceArn=queue_arn, FunctionName=function_arn
            )
        except Exception as exc:  # noqa: BLE001 - a courtesy: the role need not be allowed to
            logger.debug("The event source mapping of %s cannot be read: %s", queue_arn, exc)
            return
        for mapping in answer.get("EventSourceMappings", []):
            if _RESPONSE_TYPE not in (mapping.get("FunctionResponseTypes") or []):
                logger.error(
                    "The event source mapping %s has no %s: Lambda deletes every message of a "
                    "batch, the failed ones too. Add it to the mapping's function response "
                    "types, or set %s to false.",
                    mapping.get("UUID"),
                    _RESPONSE_TYPE,
                    setting_names("report_batch_item_failures"),
                )
