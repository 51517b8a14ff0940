"""What is in an ARN, and what is not."""

from __future__ import annotations

import pytest

from lambda_celery import aws


@pytest.mark.parametrize("name", ["mail", "my-function", "function"])
@pytest.mark.parametrize("qualifier", ["", "live", "7", "$LATEST"])
@pytest.mark.parametrize(
    "before", ["", "123456789012:function:", "arn:aws:lambda:eu-west-1:123456789012:function:"]
)
def test_a_function_is_named_with_its_alias_or_without(before, name, qualifier):
    function = f"{before}{name}" + (f":{qualifier}" if qualifier else "")
    assert aws.function_parts(function) == (name, qualifier)
