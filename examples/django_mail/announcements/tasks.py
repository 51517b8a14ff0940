import base64
import smtplib

from django.core.mail import EmailMessage
from django.template.loader import render_to_string

from lambda_celery import task


@task(
    bind=True,
    # A server that is busy (451) or away. Not OSError, which SMTPException is a kind of:
    # a template that cannot be read does not mend by itself.
    autoretry_for=(smtplib.SMTPException, ConnectionError, TimeoutError),
    retry_backoff=True,
    max_retries=5,
)
def send_mail_task(self, name, address, subject, text, attachment=None):
    """Send one announcement to one member.

    *attachment*, if there is one, is a pair: its file name and its content in base64,
    since task arguments are JSON. The task asks no database: a burst of mails would
    open as many connections as there are Lambda environments.
    """
    message = EmailMessage(
        subject=subject,
        body=render_to_string("announcements/mail.txt", {"name": name, "text": text}),
        to=[address],
        headers={"X-Task-ID": self.request.id},
    )
    if attachment is not None:
        file_name, content = attachment
        message.attach(file_name, base64.b64decode(content), "application/octet-stream")
    message.send()
