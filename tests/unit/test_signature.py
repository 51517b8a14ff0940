"""Our signature is botocore's."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_celery.aws.signature import Credentials, InvokeSigner, Signer, host_of

CONTENT_TYPE = "application/x-amz-json-1.0"
KEYS = st.text("ABCDEFabcdef0123456789/+=", min_size=1, max_size=40)
HOSTS = st.sampled_from(
    ["sqs.eu-west-1.amazonaws.com", "127.0.0.1:4566", "localhost", "[::1]:4566", "api.example:8443"]
)


@settings(max_examples=1000, deadline=None, database=None)
@given(
    body=st.binary(max_size=500),
    credentials=st.builds(Credentials, KEYS, KEYS, st.none() | KEYS),
    host=HOSTS,
    region=st.sampled_from(["eu-west-1", "us-gov-west-1", "cn-north-1"]),
    service=st.sampled_from(["sqs", "dynamodb"]),
    target=st.sampled_from(["AmazonSQS.SendMessage", "DynamoDB_20120810.PutItem"]),
)
def test_a_thousand_requests_are_signed_as_botocore_signs_them(
    body, credentials, host, region, service, target
):
    request = AWSRequest(
        "POST", f"https://{host}/", data=body,
        headers={"Content-Type": CONTENT_TYPE, "X-Amz-Target": target, "Host": host},
    )  # fmt: skip
    SigV4Auth(credentials, service, region).add_auth(request)

    signer = Signer(service=service, region=region, host=host, content_type=CONTENT_TYPE)
    with pytest.MonkeyPatch.context() as patch:
        moment = time.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
        patch.setattr("lambda_celery.aws.signature.time.gmtime", lambda: moment)
        ours = headers_of(signer.headers(target, body, credentials))
    assert ours == {name: request.headers[name] for name in ours}
    assert "Authorization" in ours
    assert ("X-Amz-Security-Token" in ours) == (credentials.token is not None)


@settings(max_examples=500, deadline=None, database=None)
@given(
    body=st.binary(max_size=500),
    credentials=st.builds(Credentials, KEYS, KEYS, st.none() | KEYS),
    host=HOSTS,
    prefix=st.sampled_from(["", "/behind/a%20gate"]),
    function=st.sampled_from(
        ["mail", "mail:live", "arn:aws:lambda:eu-west-1:123456789012:function:mail:live"]
    ),
    invocation_type=st.sampled_from(["RequestResponse", "Event"]),
)
def test_calls_of_a_function_are_signed_as_botocore_signs_them(
    body, credentials, host, prefix, function, invocation_type
):
    path = f"{prefix}/2015-03-31/functions/{quote(function, safe='')}/invocations"
    request = AWSRequest(
        "POST", f"https://{host}{path}", data=body,
        headers={"X-Amz-Invocation-Type": invocation_type},
    )  # fmt: skip
    SigV4Auth(credentials, "lambda", "eu-west-1").add_auth(request)

    signer = InvokeSigner(region="eu-west-1", host=host)
    with pytest.MonkeyPatch.context() as patch:
        moment = time.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
        patch.setattr("lambda_celery.aws.signature.time.gmtime", lambda: moment)
        assert signer.headers(path, invocation_type, body, credentials) == dict(request.headers)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://lambda.eu-west-1.amazonaws.com", "lambda.eu-west-1.amazonaws.com"),
        ("https://lambda.eu-west-1.amazonaws.com:443/", "lambda.eu-west-1.amazonaws.com"),
        ("http://127.0.0.1:4566", "127.0.0.1:4566"),
        ("http://somebody:secret@[::1]:443/path", "[::1]:443"),
        ("http://localhost:80", "localhost"),
    ],
)
def test_a_host_has_its_port_where_it_is_none_of_the_schemes_own(url, host):
    assert host_of(url) == host


def headers_of(text: str) -> dict[str, str]:
    assert text.endswith("\r\n")
    return dict(line.split(": ", 1) for line in text.removesuffix("\r\n").split("\r\n"))


def test_the_key_is_made_anew_for_another_day_and_for_other_credentials(monkeypatch):
    signer = Signer(service="sqs", region="eu-west-1", host="localhost", content_type=CONTENT_TYPE)

    def signed(day: int, secret: str) -> str:
        moment = (2026, 1, day, 0, 0, 0, 0, day, 0)
        monkeypatch.setattr("lambda_celery.aws.signature.time.gmtime", lambda: moment)
        return headers_of(signer.headers("t", b"", Credentials("a", secret, None)))["Authorization"]

    def fresh(day: int, secret: str) -> str:
        nonlocal signer
        kept, signer = (
            signer,
            Signer(service="sqs", region="eu-west-1", host="localhost", content_type=CONTENT_TYPE),
        )
        made = signed(day, secret)
        signer = kept
        return made

    for day, secret in ((1, "x"), (1, "x"), (2, "x"), (2, "y"), (1, "x")):
        assert signed(day, secret) == fresh(day, secret)
