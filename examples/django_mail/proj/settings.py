"""One settings module for the laptop and for Lambda: what differs comes from the environment."""

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent

# Nothing that this project signs has to outlive a restart; a web application sets one.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or get_random_secret_key()
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["announcements", "lambda_celery.django"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

# Members and announcements. Only the producer opens it: mails and tasks carry what they need.
# It lies beside the project, whose folder is what is deployed.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE_PATH", BASE_DIR.with_name("django_mail.sqlite3")),
    }
}

# Every mail goes to the queue; the function delivers it by this back end and these settings.
EMAIL_BACKEND = "lambda_celery.django.mail.EmailBackend"
CELERY_EMAIL_BACKEND = os.environ.get(
    "CELERY_EMAIL_BACKEND", "django.core.mail.backends.smtp.EmailBackend"
)
EMAIL_HOST = os.environ.get("EMAIL_HOST", "localhost")
EMAIL_PORT = int(os.environ.get("EMAIL_PORT", "1025"))
EMAIL_HOST_USER = os.environ.get("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD = os.environ.get("EMAIL_HOST_PASSWORD", "")
EMAIL_USE_TLS = os.environ.get("EMAIL_USE_TLS", "false") == "true"
# Well under the function's time-out, so that a silent server holds up one mail, not a batch.
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = os.environ.get("DEFAULT_FROM_EMAIL", "announcements@example.org")

# Nobody asks for results here, unless the stack was told to keep them.
CELERY_RESULT_BACKEND = os.environ.get("CELERY_RESULT_BACKEND") or None
CELERY_TASK_IGNORE_RESULT = CELERY_RESULT_BACKEND is None

# Names for the local runner, which makes them. On AWS the environment (LAMBDA_CELERY_QUEUE_URL
# and so on) names what template.yaml made, and wins.
CELERY_LAMBDA_QUEUE_URL = "https://sqs.eu-central-1.amazonaws.com/000000000000/announcements"
CELERY_LAMBDA_DEAD_LETTER_QUEUE_URL = f"{CELERY_LAMBDA_QUEUE_URL}-dead-letter"
CELERY_LAMBDA_IDEMPOTENCY_TABLE = "announcements-idempotency"
CELERY_LAMBDA_PAYLOAD_BUCKET = "announcements-payloads"
