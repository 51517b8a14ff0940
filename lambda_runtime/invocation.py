"""The Lambda handler: a batch of messages in, the failed ones out.

The main path: :meth:`Handler.__call__`, one batch →
:meth:`Decision.on <lambda_runtime.decision.Decision.on>`, one message →
:meth:`TaskRunner.run <lambda_runtime.running.execution.TaskRunner.run>`, one task.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from celery import Celery

from lambda_celery.celery_hooks.registry import async_names
from lambda_celery.conf import Settings
from lambda_celery.payloads import is_pointer
from lambda_celery.publishing.publisher import Publisher
from lambda_runtime.celery_hooks import bootstrap
from lambda_runtime.deadline import Deadline
from lambda_runtime.decision import Decision
from lambda_runtime.event import records_of
from lambda_runtime.log import TaskFields, set_up_logging
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.outcome import Deleted, Forwarded, Outcome, Parked, Returned
from lambda_runtime.messages.settlement import Settlement
from lambda_runtime.messages.source_queues import SourceQueues
from lambda_runtime.retry_policy import backoff_seconds
from lambda_runtime.running.connections import Connections
from lambda_runtime.running.threads import Lane, Pool, lanes

logger = logging.getLogger(__name__)


def make_handler(app: Celery, settings: Settings | None = None) -> Handler:
    """Return the Lambda handler for *app*, ready to run: call it once, at import.

    :param settings: instead of those of the app's configuration and the environment.
    :raises ConfigurationError: with a sentence that names the setting.
    """
    return Handler(app, settings)


class Handler:
    """Runs batches of task messages from SQS. Made once a process, at cold start."""

    def __init__(self, app: Celery, settings: Settings | None = None) -> None:
        self._fields = TaskFields()
        hostname = bootstrap.node_name()
        bootstrap.start(
            app, hostname, set_up_logging=partial(set_up_logging, app, settings, self._fields)
        )
        self.settings = settings or Settings.from_app(app)
        self._publisher = Publisher(self.settings)
        self._queues = SourceQueues(self.settings)
        self._decision = Decision(
            app, self.settings, self._queues, self._publisher.payloads, hostname
        )
        if async_names(app):
            import lambda_runtime.running.event_loop  # noqa: F401 - asyncio, not in a task's time
        self._connections = Connections(app)
        self._pool = Pool(app, self.settings.concurrency, self.settings.loop_concurrency)

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        """Run the tasks in *event*; return which messages stay on the queue.

        :raises ConfigurationError: the event is none of SQS messages.
        """
        records = records_of(event)
        deadline = Deadline(context, self.settings.time_reserve_seconds)
        self._fields.request_id = getattr(context, "aws_request_id", None)
        self._connections.before_batch()
        settlement = Settlement(self._publisher, self._queues, deadline)
        deliveries = map(Delivery.from_record, records)
        self._pool.run(lanes(deliveries), partial(self._run_lane, deadline, settlement))
        answer = settlement.close()
        self._connections.after_batch()
        return answer

    def _run_lane(self, deadline: Deadline, settlement: Settlement, lane: Lane) -> None:
        """Run what comes one after the other: a message, or a message group."""
        delay: int | None = None
        for delivery in lane:
            with self._fields.of(delivery):
                # What follows a failure in its group must not overtake it.
                if delay is None:
                    delay = self._run(delivery, deadline, settlement)
                if delay is not None:
                    settlement.hand_back(delivery, delay)

    def _run(self, delivery: Delivery, deadline: Deadline, settlement: Settlement) -> int | None:
        try:
            outcome = self._decision.on(delivery, deadline)
        except Exception:  # it raises nothing; but whoever else is in the batch has done no harm
            logger.exception("Message %s could not be decided on", delivery.message_id)
            return 0
        try:
            return self._settle(delivery, outcome, settlement)
        except Exception:
            logger.exception("Message %s could not be settled", delivery.message_id)
            return None if isinstance(outcome, Deleted) else self._backoff(delivery)

    def _settle(self, delivery: Delivery, outcome: Outcome, settlement: Settlement) -> int | None:
        """Carry *outcome* out; return the seconds of hiding if the message stays on the queue."""
        match outcome:
            case Deleted():
                has_payload = is_pointer(delivery.body) and not outcome.keep_payload
                if has_payload and self._decision.settled.remember_payload(delivery):
                    self._publisher.payloads.delete(delivery.body)
                return None
            case Parked() if settlement.park(delivery, outcome):
                self._decision.parked(delivery, outcome)
                if outcome.exception is not None:  # else it has been said
                    logger.error("Message %s is parked: %s", delivery.message_id, outcome.reason)
                return None
            case Forwarded() if not delivery.fifo_group and settlement.forward(delivery, outcome):
                return None
            case Forwarded():
                return outcome.seconds_ahead()
            case Parked():
                return self._backoff(delivery)
            case Returned():
                return outcome.delay_seconds

    def _backoff(self, delivery: Delivery) -> int:
        settings = self._queues.get(delivery.source_arn).settings
        return backoff_seconds(settings, delivery.receive_count)
