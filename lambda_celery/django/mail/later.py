"""Mails whose text is made of a template where they are delivered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.mail import EmailAlternative, EmailMultiAlternatives
from django.template.loader import render_to_string
from django.utils import translation


def render_later(
    template: str,
    context: Mapping[str, Any],
    *,
    html_template: str | None = None,
    **fields: Any,
) -> TemplateMail:
    """Return a mail that has the names of its templates and their context instead of its text.

    Whatever asks for its text first renders it: that is the function, where the mail goes by way
    of the queue, and this process where it does not. The language is that of the caller.

    :param template: the template of the text.
    :param context: what it is rendered with. It travels as it is: plain values, no models.
    :param html_template: the template of the alternative in HTML.
    :param fields: what :class:`~django.core.mail.EmailMultiAlternatives` takes, such as ``subject``
        and ``to``, but for ``body``.
    """
    mail = TemplateMail(**fields)
    mail.later = {
        "template": template,
        "html_template": html_template,
        "context": dict(context),
        "language": translation.get_language(),
    }
    return mail


class TemplateMail(EmailMultiAlternatives):
    """A mail that :func:`render_later` has made."""

    #: What is still to be rendered; ``None`` once it was.
    later: dict[str, Any] | None = None

    @property
    def body(self) -> str:
        """The text, which is rendered when it is first asked for."""
        self._render()
        return self._body

    @body.setter
    def body(self, text: str) -> None:
        self._body = text

    @property
    def alternatives(self) -> list[Any]:
        """The alternatives; the rendered one is the first of them."""
        self._render()
        return self._alternatives

    @alternatives.setter
    def alternatives(self, all_: list[Any]) -> None:
        self._alternatives = all_

    def _render(self) -> None:
        if self.later is None:
            return
        later, self.later = self.later, None
        try:
            with translation.override(later["language"]):
                self._body = render_to_string(later["template"], later["context"])
                if later["html_template"]:
                    html = render_to_string(later["html_template"], later["context"])
                    self._alternatives.insert(0, EmailAlternative(html, "text/html"))
        except BaseException:
            self.later = later
            raise
