"""The transport's address in settings: ``broker_transport``."""

from lambda_celery.publishing.transport import Channel, Transport

__all__ = ["Channel", "Transport"]
