"""The queue for ``TestCase``: unittest's and Django's."""

from __future__ import annotations

import unittest
from typing import TYPE_CHECKING, Any, ClassVar

from celery import Celery

from lambda_celery.testing.queue import LambdaCeleryQueue

if TYPE_CHECKING:
    _Base = unittest.TestCase
else:
    _Base = object


class LambdaCeleryTestMixin(_Base):
    """Gives each test a queue of its own, ``self.lambda_celery_queue``.

    It stands before the test case's class: ``class Tests(LambdaCeleryTestMixin, TestCase)``. A
    ``setUp`` or ``setUpClass`` of the test case's own has to call that of ``super()``.

    :cvar celery_app: the app whose queue it is; the current one if it is ``None``.
    :cvar lambda_celery_options: what :class:`~lambda_celery.testing.queue.LambdaCeleryQueue` is
        given besides.
    """

    celery_app: ClassVar[Celery | None] = None
    lambda_celery_options: ClassVar[dict[str, Any]] = {}
    lambda_celery_queue: LambdaCeleryQueue

    @classmethod
    def setUpClass(cls) -> None:
        """Keep from AWS what is enqueued for all tests, as in ``setUpTestData``: it is dropped."""
        cls.enterClassContext(LambdaCeleryQueue(cls.celery_app, **cls.lambda_celery_options))
        super().setUpClass()

    def setUp(self) -> None:
        """Open the queue, and close it after the test."""
        super().setUp()
        self.lambda_celery_queue = self.enterContext(
            LambdaCeleryQueue(self.celery_app, **self.lambda_celery_options)
        )
