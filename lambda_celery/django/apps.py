"""The Django app."""

from django.apps import AppConfig

from lambda_celery.installation import install


class LambdaCeleryConfig(AppConfig):
    """Sends the tasks that the settings choose to SQS, without a change in their code."""

    name = "lambda_celery.django"
    label = "lambda_celery"
    verbose_name = "Lambda Celery"

    def ready(self) -> None:
        """Reach the Celery apps of this process, those still to be made included."""
        install()
        # Checks and tasks, which no module of the project imports.
        import lambda_celery.django.checks
        import lambda_celery.django.deployment_checks
        import lambda_celery.django.mail.tasks
        import lambda_celery.django.tasks.run_task  # noqa: F401
