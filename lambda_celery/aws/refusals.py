"""AWS's refusals: which of them pass, which wait for a person, and the sentence for each."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from botocore import exceptions
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)

from lambda_celery.aws.loopback import LOOPBACK_HOSTS
from lambda_celery.conf import Settings, setting_names

AWS_ERRORS = (BotoCoreError, ClientError)

#: Whatever the service, and whichever way the answer names it: in a list, or as an exception.
THROTTLED = {
    "KMS.ThrottlingException", "KmsThrottled",
    "ProvisionedThroughputExceeded", "ProvisionedThroughputExceededException",
    "RequestLimitExceeded", "RequestThrottled", "Throttling", "ThrottlingError",
    "ThrottlingException", "TooManyRequestsException",
}  # fmt: skip
_NO_SUCH_QUEUE = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}


def is_throttled(exc: BaseException) -> bool:
    """Whether AWS asked *exc*'s caller to come more slowly."""
    return error_code(exc) in THROTTLED


def is_transient(exc: BaseException) -> bool:
    """Whether *exc*'s call may succeed when it is made again."""
    if isinstance(exc, ClientError):
        status: int = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or is_throttled(exc)
    return isinstance(exc, HTTPClientError | exceptions.ConnectionError)


def queue_is_absent(exc: BaseException) -> bool:
    """Whether SQS says that there is no such queue."""
    return error_code(exc) in _NO_SUCH_QUEUE


def denied(exc: BaseException) -> bool:
    """Whether AWS refused *exc*'s call for want of a permission."""
    return error_code(exc) in _DENIED


def error_code(exc: BaseException) -> str:
    """Return AWS's code for *exc*, such as ``AccessDenied``; "" if it is not AWS's answer."""
    if isinstance(exc, ClientError):
        return str(exc.response.get("Error", {}).get("Code", ""))
    return ""


_DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "403", "Forbidden"}
_BAD_CREDENTIALS = {
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId",
    "InvalidSignatureException", "SignatureDoesNotMatch", "UnrecognizedClientException",
}  # fmt: skip
#: A key of KMS's that this process may not use, or that is switched off; one spelling is that of
#: SQS's older protocol.
_KMS_PREFIX = "kms"
_KMS_ACTION = re.compile(r"kms:\w+")
_ABSENT = {*_NO_SUCH_QUEUE, "NoSuchBucket", "ResourceNotFoundException"}


def misconfigured(exc: BaseException) -> bool:
    """Whether *exc* stays until somebody changes a setting or a permission."""
    if is_throttled(exc):
        return False
    return isinstance(exc, NoRegionError | NoCredentialsError | PartialCredentialsError) or (
        error_code(exc) in _DENIED | _BAD_CREDENTIALS | _ABSENT or _is_of_key(exc)
    )


def _is_of_key(exc: BaseException) -> bool:
    """Whether it is a key of KMS's that stands in the way: of a queue, a table or a bucket."""
    code = error_code(exc)
    return code.lower().startswith(_KMS_PREFIX) or (
        code in _DENIED and _KMS_ACTION.search(str(exc)) is not None
    )


def cause(exc: Exception, settings: Settings) -> Exception | None:
    """Return what to chain to the sentence for *exc*, which says what botocore's stack says.

    That is nothing, unless ``lambda_debug`` is set: eighty lines of botocore and urllib3 hide the
    line of the project's own that the sentence is for.
    """
    return exc if settings.debug else None


def explain(exc: BaseException, *, action: str, resource: str, setting: str | None = None) -> str:
    """Return the sentence for *exc*, which AWS raised for the IAM *action* on *resource*.

    *setting* is the field of :class:`~lambda_celery.conf.Settings` that names the resource.
    """
    code = error_code(exc)
    change = f" Check {setting_names(setting)}." if setting else ""
    if isinstance(exc, NoRegionError):
        return f"No AWS region is configured: set {setting_names('region')} or AWS_REGION."
    if isinstance(exc, NoCredentialsError | PartialCredentialsError):
        return (
            f"No AWS credentials were found for {action} on {resource}: give this process a role, "
            "a profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; beside "
            "`celery -A proj lambda local`, the variables that it prints."
        )
    if code in _BAD_CREDENTIALS:
        return f"AWS does not accept the credentials for {action} on {resource} ({code})."
    if _is_of_key(exc) and not is_throttled(exc):
        actions = " and ".join(dict.fromkeys(_KMS_ACTION.findall(str(exc)))) or (
            "kms:Decrypt and kms:GenerateDataKey"
        )
        return (
            f"AWS refused {action} on {resource} for its KMS key ({code}): allow {actions} on that "
            "key in the IAM policy of this process's role and in the key's own policy, and see "
            "that the key is enabled."
        )
    if code in _DENIED:
        return (
            f"AWS refused {action} on {resource}: allow {action} there in the IAM policy "
            "of this process's role."
        )
    if code in _ABSENT:
        return f"{resource} does not exist in this account and region ({code}).{change}"
    if isinstance(exc, EndpointConnectionError):
        host = urlsplit(str(exc.kwargs["endpoint_url"])).hostname
        if host in LOOPBACK_HOSTS:
            change = " Is the emulator running? Start it: celery -A proj lambda local."
    return f"{action} on {resource} failed: {exc}{change}"
