"""All mail of a Django project by way of the queue.

The main path enters at :meth:`~lambda_celery.django.mail.backend.EmailBackend.send_messages`, and
where it runs at :func:`~lambda_celery.django.mail.delivery.deliver`.
"""

from lambda_celery.django.mail.backend import EmailBackend

__all__ = ["EmailBackend"]
