"""Sending: queue choice, producers, the kombu transport, the publisher, many messages at once.

What a message is stands in :mod:`lambda_celery.message`, how Celery is made to come by here in
:mod:`lambda_celery.celery_hooks`. The main path enters at
:class:`~lambda_celery.publishing.transport.Channel` and leaves by
:meth:`Publisher.publish <lambda_celery.publishing.publisher.Publisher.publish>`.
"""
