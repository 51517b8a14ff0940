"""Django as tests in this process have it: a module to import before what reads its settings."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.apps import apps
from django.conf import settings
from django.utils.functional import empty

TEMPLATES = {
    "mail.txt": "Yes, {{ name }} in {{ when.year }}",
    "mail.html": "<p>{{ name }}</p>",
}

if not settings.configured:
    settings.configure(
        USE_TZ=True,
        USE_I18N=False,
        DEFAULT_FROM_EMAIL="default@example.com",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        TASKS={
            "default": {"BACKEND": "lambda_celery.django.tasks.LambdaBackend", "QUEUES": []},
        },
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", TEMPLATES)]},
            }
        ],
    )
    # Not django.setup(): the tests' logging is theirs.
    apps.populate(settings.INSTALLED_APPS)


@contextmanager
def without_django() -> Iterator[None]:
    """Have no settings in the block, as a process of which Django is no part."""
    configured, settings._wrapped = settings._wrapped, empty
    try:
        yield
    finally:
        settings._wrapped = configured
