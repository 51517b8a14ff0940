"""The Lambda handler: a batch of messages in, the failed ones out.

The main path: :meth:`Handler.__call__`, one batch →
:meth:`Batch.run <lambda_runtime.batch.Batch.run>`, its lanes →
:meth:`Decision.on <lambda_runtime.decision.Decision.on>`, one message →
:meth:`TaskRunner.run <lambda_runtime.running.execution.TaskRunner.run>`, one task.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from celery import Celery

from lambda_celery import aws
from lambda_celery.celery_hooks.registry import async_names
from lambda_celery.conf import Settings
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.publishing.publisher import Publisher
from lambda_runtime.batch import Batch
from lambda_runtime.celery_hooks import bootstrap
from lambda_runtime.deadline import ANSWER_SECONDS, Deadline
from lambda_runtime.decision import Decision
from lambda_runtime.event import records_of
from lambda_runtime.log import TaskFields, set_up_logging
from lambda_runtime.mapping_check import MappingCheck
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.settlement import Settlement
from lambda_runtime.messages.source_queues import SourceQueues
from lambda_runtime.running.connections import Connections
from lambda_runtime.running.threads import Pool

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
        self._mapping_check = MappingCheck(self.settings)
        self._pool = Pool(app, self.settings.concurrency, self.settings.loop_concurrency)

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        """Run the tasks in *event*; return which messages stay on the queue.

        :raises ConfigurationError: the event is none of SQS messages; or none of them can be run
            until somebody changes a setting or a permission.
        :raises MessagesReturnedError: some messages stay on the queue, and the settings say that
            Lambda takes no list of them.
        """
        records = records_of(event)
        deadline = Deadline(context, self.settings.time_reserve_seconds)
        self._fields.request_id = getattr(context, "aws_request_id", None)
        with aws.ending_at(deadline.epoch - ANSWER_SECONDS):
            return self._answer(records, deadline, context)

    def _answer(
        self, records: list[Mapping[str, Any]], deadline: Deadline, context: Any
    ) -> dict[str, Any]:
        self._connections.before_batch()
        self._queues.ask_again()
        settlement = Settlement(self._publisher, self._queues, deadline)
        batch = Batch(
            self._decision, settlement, self._queues, self._publisher.payloads, deadline,
            self._fields,
        )  # fmt: skip
        batch.run([Delivery.from_record(each) for each in records], self._pool)
        self._connections.after_batch()
        if (sentence := settlement.misconfiguration) is not None:
            # Lambda counts an error, and asks more and more slowly. The receives go by the queue's
            # own visibility time-out, so that there is time to mend it.
            raise ConfigurationError(sentence)
        if (failed := settlement.first_failed) is not None:
            self._mapping_check.after_failure(context, failed.source_arn)
        return settlement.close()
