# The app is made when Django starts, so that every @task finds it.
from .celery import app as celery_app

__all__ = ("celery_app",)
