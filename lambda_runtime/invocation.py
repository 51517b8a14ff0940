"""The Lambda handler: a batch of messages in, the failed ones out.

The main path: :meth:`Handler.__call__`, one batch →
:meth:`Batch.run <lambda_runtime.batch.Batch.run>`, its lanes →
:meth:`Decision.on <lambda_runtime.decision.Decision.on>`, one message →
:meth:`TaskRunner.run <lambda_runtime.running.execution.TaskRunner.run>`, one task.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import uuid
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from celery import Celery

from lambda_celery import aws
from lambda_celery.celery_hooks.registry import async_names
from lambda_celery.conf import Settings
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.publishing.publisher import Publisher
from lambda_runtime import batch_end, feed, restore, summary
from lambda_runtime.batch import Batch, InThisProcess, Place
from lambda_runtime.celery_hooks import bootstrap
from lambda_runtime.deadline import ANSWER_SECONDS, Deadline
from lambda_runtime.decision import Decision
from lambda_runtime.direct_call import DirectCall
from lambda_runtime.event import read_event
from lambda_runtime.log import TaskFields, set_up_logging
from lambda_runtime.mapping_check import MappingCheck
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.settlement import Settlement
from lambda_runtime.messages.source_queues import SourceQueues
from lambda_runtime.metrics import Metrics
from lambda_runtime.running.connections import Connections, close_databases
from lambda_runtime.running.left_behind import end_if_forked
from lambda_runtime.running.limits.own_end import ended_with
from lambda_runtime.running.threads import Pool

if TYPE_CHECKING:
    from lambda_runtime.processes.parent import Processes

logger = logging.getLogger(__name__)


def make_handler(app: Celery, settings: Settings | None = None) -> Handler:
    """Return the Lambda handler for *app*, ready to run: call it once, at import.

    :param settings: instead of those of the app's configuration and the environment.
    :raises ConfigurationError: with a sentence that names the setting.
    """
    return Handler(app, settings)


class Handler:
    """Runs batches of task messages from SQS. Made once a process, at cold start."""

    #: What decorates handlers, such as Powertools' Tracer, asks for it as a function has it.
    __name__ = "handler"

    def __init__(self, app: Celery, settings: Settings | None = None) -> None:
        self._fields = TaskFields()
        hostname = bootstrap.node_name()
        bootstrap.start(
            app, hostname, set_up_logging=partial(set_up_logging, app, settings, self._fields)
        )
        self.settings = settings or Settings.from_app(app)
        if not self.settings.processes:
            bootstrap.start_process(app)
        self._publisher = Publisher(self.settings)
        self._queues = SourceQueues(self.settings)
        self._decision = Decision(
            app, self.settings, self._queues, self._publisher.payloads, hostname
        )
        if async_names(app):
            import lambda_runtime.running.event_loop  # noqa: F401 - asyncio, not in a task's time
        self._connections = Connections(app)
        self._mapping_check = MappingCheck(self.settings)
        if (to_runner := feed.opened()) is not None:  # before a child has the log's handlers
            feed.tell_ends(to_runner, self._fields)
        self._processes: Processes | None = None
        self._pool: Pool | None = None
        self._place: Place
        if self.settings.processes:
            # For those who have them: each import is cold start.
            from lambda_runtime.processes import child
            from lambda_runtime.processes.parent import Processes

            serve = partial(
                child.serve, app=app, settings=self.settings, hostname=hostname, fields=self._fields
            )
            self._place = self._processes = Processes(
                app, self.settings, serve, before_fork=self._before_fork
            )
        else:
            self._pool = Pool(app, self.settings.concurrency, self.settings.loop_concurrency)
            self._place = InThisProcess(self._pool)
        stream = sys.stdout if self._processes is None else self._processes.standard_output
        namespace = self.settings.metrics_namespace
        to = [each for each in (stream if namespace else None, to_runner) if each is not None]
        self._metrics = Metrics(namespace, *to) if to else None
        if restore.precedes_snapshot():
            restore.register(app, self.settings, self._let_go)
        self.keep_what_is_loaded()

    def __call__(self, event: Any, context: Any) -> Any:
        """Run the tasks in *event*; return which messages stay on the queue.

        Or run the one task of a direct call, and return what its caller is told.

        :raises ConfigurationError: the event is none of those that
            :mod:`lambda_runtime.event` knows; or none of its messages can be run until somebody
            changes a setting or a permission.
        :raises MessagesReturnedError: some messages stay on the queue, and the settings say that
            Lambda takes no list of them.
        """
        read = read_event(event, getattr(context, "aws_request_id", None) or uuid.uuid4().hex)
        call = read if isinstance(read, DirectCall) else None
        if isinstance(read, DirectCall):
            deliveries = [read.delivery(self.settings)]
        else:
            deliveries = [Delivery.from_record(each) for each in read]
        deadline = Deadline(context, self.settings.time_reserve_seconds)
        self._fields.request_id = getattr(context, "aws_request_id", None)
        process_id = os.getpid()
        if self._processes is not None:
            self._processes.begin(deadline, context)
        with ended_with(deadline):
            try:
                with aws.ending_at(deadline.epoch - ANSWER_SECONDS):
                    if call is not None:
                        return self._answer_call(call, deliveries[0], deadline)
                    return self._answer(deliveries, deadline, context)
            finally:
                end_if_forked(process_id, "What is called around a task")
                if self._processes is not None:
                    self._processes.begin_end()
                batch_end.finish(self, context, deadline)
                if self._processes is not None:
                    self._processes.await_end(deadline)
                self.tell(deliveries, deadline)

    def _before_fork(self) -> None:
        self._mapping_check.wait()
        close_databases()  # children would share the connections of a pool

    def _let_go(self) -> None:
        """End what two copies of this process must not share; who needs it makes it anew."""
        if self._processes is not None:
            self._processes.end()
        if self._pool is not None:
            self._pool.renew()
        self._mapping_check.wait()
        self._decision.begin_anew()
        self._connections.close()
        aws.close_connections()

    def _answer(
        self, deliveries: list[Delivery], deadline: Deadline, context: Any
    ) -> dict[str, Any]:
        settlement = Settlement(self._publisher, self._queues, deadline)
        self._run(deliveries, settlement, deadline)
        if (sentence := settlement.misconfiguration) is not None:
            # Lambda counts an error, and asks more and more slowly. The receives go by the queue's
            # own visibility time-out, so that there is time to mend it.
            raise ConfigurationError(sentence)
        if (failed := settlement.first_failed) is not None:
            self._mapping_check.after_failure(context, failed.source_arn)
        return settlement.close()

    def keep_what_is_loaded(self) -> None:
        """Leave what there is now out of the garbage collector's work, for good."""
        _keep_what_is_loaded()

    def _answer_call(self, call: DirectCall, delivery: Delivery, deadline: Deadline) -> Any:
        settlement = call.settlement(self._publisher, self._queues, deadline)
        self._run([delivery], settlement, deadline)
        return settlement.close_call(call, delivery)

    def _run(self, deliveries: list[Delivery], settlement: Settlement, deadline: Deadline) -> None:
        self._connections.before_batch()
        self._queues.ask_again()
        batch = Batch(
            self._decision, settlement, self._queues, self._publisher.payloads, deadline,
            self._fields,
        )  # fmt: skip
        batch.run(deliveries, self._place)
        self._connections.after_batch()

    def tell(self, deliveries: list[Delivery], deadline: Deadline) -> None:
        """Tell what has become of *deliveries*: of that, nothing may keep the answer."""
        try:
            summary.log(deliveries, deadline)
            if self._metrics is not None:
                self._metrics.write(deliveries, deadline.began)
        except Exception:
            logger.exception("What has become of a batch could not be told")


@cache  # a second time, it would keep garbage of runs
def _keep_what_is_loaded() -> None:
    """Have the garbage collector leave alone what there is now.

    It is of modules and clients, and lives as long as the process. A batch with hundreds of tasks
    under way has many full collections, which would look at all of it each time. Forked children
    share its memory for longer.
    """
    gc.freeze()
