"""The page in Django's admin, as ``runserver`` serves it: nothing is collected."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

SETTINGS = """
from pathlib import Path

from celery import Celery

SECRET_KEY = "x"
DEBUG = True
USE_TZ = True
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "site_urls"
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3", "NAME": Path(__file__).with_name("db.sqlite3"),
}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
INSTALLED_APPS = [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes",
    "django.contrib.sessions", "django.contrib.messages", "django.contrib.staticfiles",
    "lambda_celery.django",
]
MIDDLEWARE = [
    "site_urls.no_inline_code",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
app = Celery("shop", broker="memory://")
app.conf.lambda_tasks = ["*"]
app.set_default()
"""
URLS = """
from django.contrib import admin
from django.urls import path

from lambda_celery.dashboard.page import CONTENT_SECURITY_POLICY
from lambda_celery.status import source
from tests.functional.dashboard.figures import Figures

source.source_of = lambda app: Figures()
urlpatterns = [path("admin/", admin.site.urls)]


def no_inline_code(get_response):
    def middleware(request):
        response = get_response(request)
        policy = CONTENT_SECURITY_POLICY.replace("form-action 'none'", "form-action 'self'")
        response["Content-Security-Policy"] = policy
        return response

    return middleware
"""
USERS = """
import django
django.setup()
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
call_command("migrate", verbosity=0)
viewer = User.objects.create_user("viewer", password="x", is_staff=True)
viewer.user_permissions.add(Permission.objects.get(codename="view_failedtask"))
User.objects.create_user("stranger", password="x", is_staff=True)
"""


@pytest.fixture
def admin_url(shop: Any, tmp_path: Path) -> Iterator[str]:
    """The URL of the failed tasks in the admin of a site with two users."""
    (tmp_path / "site_settings.py").write_text(SETTINGS)
    (tmp_path / "site_urls.py").write_text(URLS)
    environment = {
        **os.environ,
        **shop.stack.environment,
        "DJANGO_SETTINGS_MODULE": "site_settings",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)]),
        "PYTHONUNBUFFERED": "1",
    }
    subprocess.run([sys.executable, "-c", USERS], env=environment, check=True, timeout=120)
    with subprocess.Popen(
        [sys.executable, "-m", "django", "runserver", "--noreload", "127.0.0.1:0"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            lines = (line for line in process.stdout if "development server at " in line)
            yield next(lines).split()[-1] + "admin/lambda_celery/failedtask/"
        finally:
            process.kill()


def sign_in(seen: Any, name: str) -> None:
    seen.page.get_by_label("Username").fill(name)
    seen.page.get_by_label("Password").fill("x")
    seen.page.get_by_role("button", name="Log in").click()


def test_whoever_may_look_at_failed_tasks_sees_the_page_and_nobody_else(shop, visit, admin_url):
    for number in range(3):
        shop.fail(number)
    seen = visit(f"{admin_url}dashboard/", viewport={"width": 1440, "height": 900})
    sign_in(seen, "viewer")
    seen.complaints.clear()  # of an icon, which the site has none of
    expect(seen.page.locator("#lc-state")).to_have_text("The figures are live.")
    expect(seen.page.locator("#lc-throughput canvas")).to_be_visible()
    rows = seen.page.locator("#lc-failed-table tbody tr")
    expect(rows).to_have_count(3)
    seen.picture("admin")
    rows.first.get_by_role("link", name="shop.charge_card").click()
    dialog = seen.page.get_by_role("dialog")
    expect(dialog.locator("pre")).to_contain_text("in charge_card")
    # What changes something is on the admin's own pages.
    assert dialog.get_by_role("button").all_inner_texts() == ["Close"]
    dialog.get_by_role("link", name="Send it back, or discard it").click()
    seen.page.get_by_role("link", name="Its attempts").click()
    expect(seen.page.locator("#lc-attempts-state")).to_have_text("5 attempts of 3 tasks.")
    assert seen.complaints == []
    assert all(each.startswith(admin_url.partition("/admin/")[0]) for each in seen.asked)

    stranger = visit(f"{admin_url}dashboard/")
    sign_in(stranger, "stranger")
    expect(stranger.page.get_by_text("403 Forbidden").first).to_be_visible()
    for each in ("status", "failed", "failed-counts", "failed/failure%230", "attempts/a"):
        answer = stranger.page.request.get(f"{admin_url}dashboard/api/{each}")
        assert answer.status == 403, each
