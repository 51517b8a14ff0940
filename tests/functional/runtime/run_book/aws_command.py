"""``aws SERVICE OPERATION --option value``, by botocore: the command line knows what that knows."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import boto3
import jmespath
from botocore import xform_name

from tests.emulated_aws import REGION

#: Options of the command line itself.
_OWN = {"query", "cli-binary-format"}


def run(arguments: list[str]) -> str:
    """Run the command with *arguments*, those after ``aws``; return what it prints."""
    service, operation, *rest = arguments
    client = boto3.client(service, region_name=REGION)
    method = operation.replace("-", "_")
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])
    names = {xform_name(name, "-"): name for name in model.input_shape.members}
    parameters: dict[str, Any] = {}
    own: dict[str, str] = {}
    told = io.StringIO()
    words = iter(rest)
    for word in words:
        if not word.startswith("--"):
            assert (operation, word) == ("invoke", "/dev/stdout")
        elif (option := word.removeprefix("--")) in _OWN:
            own[option] = next(words)
        else:
            shape = model.input_shape.members[names[option]]
            parameters[names[option]] = _value(shape, next(words))
    answer = getattr(client, method)(**parameters)
    answer.pop("ResponseMetadata")
    if operation == "invoke":
        told.write(answer.pop("Payload").read().decode())
    shown = jmespath.search(own["query"], answer) if "query" in own else answer
    told.write(json.dumps(shown, default=str, ensure_ascii=False))
    return told.getvalue()


def _value(shape: Any, text: str) -> Any:
    if text.startswith("file://"):
        text = Path(text.removeprefix("file://")).read_text(encoding="utf-8")
    match shape.type_name:
        case "structure":
            pairs = (each.split("=") for each in text.split(","))
            return {name: _value(shape.members[name], value) for name, value in pairs}
        case "map":
            return dict(each.split("=") for each in text.split(","))
        case "list":
            return [_value(shape.member, text)]
        case "integer" | "long":
            return int(text)
        case "timestamp":
            return float(text)
        case "blob":
            return text.encode()
    return text
