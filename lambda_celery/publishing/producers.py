"""kombu's producers, and with them the connections to SQS: one a thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu import Connection

from lambda_celery.celery_hooks.apps import is_made_by_celery
from lambda_celery.conf import settings_of
from lambda_celery.exceptions import ConfigurationError


class ThreadProducers:
    """One kombu producer a thread; the client behind them is shared."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._local = threading.local()

    def get(self) -> Any:
        """Return this thread's producer, a new one after a fork.

        :raises ConfigurationError: nobody has made an app whose settings could name a queue.
        """
        # Here, because it loads boto3: importing a task must not cost a web process that.
        from lambda_celery.publishing.publisher import publisher_of
        from lambda_celery.publishing.transport import PUBLISHER_OPTION, Transport

        made = getattr(self._local, "made", None)
        if made is None or made[0] != os.getpid():
            if is_made_by_celery(self._app) and not settings_of(self._app).queue_urls:
                raise ConfigurationError(
                    "This process has loaded no Celery app, so nothing reads its settings. Import "
                    "yours where the process starts: in Django in the __init__.py of the "
                    "project's package, as Celery's guide for Django has it."
                )
            options = dict(self._app.conf.broker_transport_options or {})
            # A foreign broker's options are not ours, but kombu's two encodings are.
            kept = {k: options[k] for k in ("sqs_base64_encoding", "body_encoding") if k in options}
            connection = Connection(
                "sqs",  # a name in messages; without one, kombu warns
                transport=Transport,
                transport_options={**kept, PUBLISHER_OPTION: publisher_of(self._app)},
            )
            made = self._local.made = (
                os.getpid(),
                self._app.amqp.Producer(connection, auto_declare=False),
            )
        return made[1]

    @contextmanager
    def replaced(self, producer: Any) -> Iterator[None]:
        """Have this thread publish by *producer*, within the context."""
        before = getattr(self._local, "made", None)
        self._local.made = (os.getpid(), producer)
        try:
            yield
        finally:
            self._local.made = before
