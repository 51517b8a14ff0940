"""Packages that send mail do so by the mail back end, unchanged."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = """
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x", USE_TZ=True, ROOT_URLCONF="__main__", ALLOWED_HOSTS=["testserver"], SITE_ID=1,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    INSTALLED_APPS=[
        "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
        "django.contrib.sites", "django.contrib.messages", "django.contrib.admin", "allauth",
        "allauth.account", "post_office", "lambda_celery.django",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "allauth.account.middleware.AccountMiddleware",
    ],
    TEMPLATES=[{
        "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
        "OPTIONS": {"context_processors": [
            "django.template.context_processors.request",
            "django.contrib.auth.context_processors.auth",
            "django.contrib.messages.context_processors.messages",
        ]},
    }],
    EMAIL_BACKEND="lambda_celery.django.mail.EmailBackend",
    CELERY_EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend",
    POST_OFFICE={"BACKENDS": {"default": "lambda_celery.django.mail.EmailBackend"}},
)
django.setup()

from celery import Celery
from django.contrib import admin
from django.contrib.auth.models import User
from django.core import mail
from django.core.management import call_command
from django.test import Client
from django.urls import include, path

app = Celery("proj")
app.conf.update(lambda_tasks=["*"], task_always_eager=True, task_eager_propagates=True)
mail.outbox = []
urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
    path("", include("django.contrib.auth.urls")),
]
call_command("migrate", verbosity=0)
client = Client()
"""
CASES = {
    "Django's password reset": """
User.objects.create_user("ann", "ann@example.com", "secret")
client.post("/password_reset/", {"email": "ann@example.com"})
""",
    "django-allauth": """
client.post("/accounts/signup/", {
    "username": "ann", "email": "ann@example.com",
    "password1": "Tr0ub4dor", "password2": "Tr0ub4dor",
})
""",
    "django-post_office": """
from post_office import mail as post_office

post_office.send(
    "ann@example.com", "f@example.com", subject="s", message="t", html_message="<p>t</p>",
    priority="now", headers={"X-Own": "1"},
)
[sent] = mail.outbox
assert sent.extra_headers["X-Own"] == "1"
assert sent.alternatives[0][1] == "text/html"
""",
}
END = """
[sent] = mail.outbox
assert sent.to == ["ann@example.com"]
assert "Message-ID" in sent.extra_headers  # which our back end has made
print("sent")
"""


@pytest.mark.parametrize("name", CASES)
def test_a_package_sends_by_it(name):
    script = BEGIN + CASES[name] + END

    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )

    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.splitlines()[-1] == "sent"
