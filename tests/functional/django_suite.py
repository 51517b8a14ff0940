"""Django's own tests of mail back ends, with ours in the place of theirs.

A script: the path of Django's source distribution is its argument. It ends with 0 if all passed.
"""

from __future__ import annotations

import sys
import unittest
from pathlib import Path
from typing import Any

import django
from celery import Celery
from django.conf import settings

OURS = "lambda_celery.django.mail.EmailBackend"
THEIRS = "django.core.mail.backends.locmem.EmailBackend"

sys.path.insert(0, str(Path(sys.argv[1]) / "tests"))
settings.configure(
    USE_TZ=True,
    USE_I18N=False,
    INSTALLED_APPS=["lambda_celery.django"],
    CELERY_EMAIL_BACKEND=THEIRS,
)
django.setup()
app = Celery("proj")
# The mail goes through the task, and to no queue.
app.conf.update(lambda_tasks=["*"], task_always_eager=True, task_eager_propagates=True)

from django.core import mail  # noqa: E402 - after the settings
from django.test.utils import setup_test_environment  # noqa: E402

from lambda_celery.django.mail import EmailBackend  # noqa: E402

setup_test_environment()

if django.VERSION >= (6, 1):
    from mail import test_backends as theirs  # type: ignore[attr-defined]

    class LambdaBackendTests(theirs.SharedEmailBackendTests, theirs.SimpleTestCase):
        """With ``MAILERS``."""

        backend_class = EmailBackend

        def setUp(self) -> None:
            super().setUp()
            mailers = {
                "test_alias": {"BACKEND": OURS, "OPTIONS": {"using": "delivers"}},
                "delivers": {"BACKEND": THEIRS},
            }
            self.enterContext(self.settings(MAILERS=mailers))
            self.flush_mailbox()

        def create_backend(self, *, alias: str | None = "test_alias", **options: Any) -> Any:
            if alias is not None:
                options.setdefault("using", "delivers")
            return super().create_backend(alias=alias, **options)

        def test_create_from_mailers(self, required_options: Any = None) -> None:
            super().test_create_from_mailers({"using": "delivers"})

        def test_fail_silently_arg_accepted(self) -> None:
            """A back end that supports it says so in a test of its own, says Django's."""
            assert self.create_backend(fail_silently=True).fail_silently is True

        # Without MAILERS, what we do not know is the delivery back end's.
        test_unknown_kwargs_ignored = None

        def get_mailbox_content(self) -> list[Any]:
            return [each.message() for each in mail.outbox]

        def flush_mailbox(self) -> None:
            mail.outbox = []
else:
    from mail import tests as theirs  # type: ignore[attr-defined,no-redef]

    class LambdaBackendTests(theirs.LocmemBackendTests):  # type: ignore[no-redef]
        """With ``EMAIL_BACKEND``."""

        email_backend = OURS


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "LambdaBackendTests"])
