"""A Terraform configuration that calls the module, and the module beside it.

The module is a copy. ``source`` takes no variables, and the installed package is in another place
on each machine: with a copy, a plan says the same wherever it is made, and needs no Python there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import hcl2

from lambda_celery.infrastructure.forms.paths import PACKAGE, in_project
from lambda_celery.infrastructure.inputs import Deployment, Parameter

#: Where the module is, from the configuration's directory.
MODULE = "modules/lambda-celery"

_SOURCE = Path(__file__).parents[1] / "terraform"
#: What the module must be told, or may not take by default: the newest runtime is this project's.
_ALWAYS = ("app", "name", "runtime")
#: What HCL calls otherwise than JSON.
_ESCAPES = {"\\b": "\\u0008", "\\f": "\\u000c"}
_OUTPUTS = {
    "producer_environment": "Variables of whatever calls delay().",
    "producer_policy_arn": "Attach it to the role of whatever calls delay().",
    "caller_policy_arn": "Attach it to the role of whatever calls the function directly.",
}
_RESULTS_OUTPUTS = {
    "results_policy_arn": "Attach it to the role of whatever reads results or starts chords, too.",
}


def files(deployment: Deployment, project: str = ".") -> dict[str, str]:
    """Return the files of this form: their names and their texts.

    *project* is the way to the project's directory from theirs.
    """
    module = {
        f"{MODULE}/{path.relative_to(_SOURCE).as_posix()}": path.read_text(encoding="utf-8")
        for path in sorted(_SOURCE.rglob("*.tf"))
    }
    return {"main.tf": configuration(deployment, project), **module}


def configuration(deployment: Deployment, project: str = ".") -> str:
    """Return what calls the module with the inputs of *deployment*, in HCL."""
    made = hcl2.Builder()
    for name, each in deployment.parameters.items():
        made.block("variable", [_quoted(name)], **_variable(each))
    code: dict[str, Any]
    if deployment.package_type == "image":
        description = "The image in ECR."
        made.block(
            "variable", [_quoted("image_uri")], type="${string}", description=_quoted(description)
        )
        code = {"image_uri": "${var.image_uri}"}
    else:
        zip_path = _quoted(in_project(project, PACKAGE))[1:-1]
        code = {"local_existing_package": f'"${{path.module}}/{zip_path}"'}
    made.block(
        "module", [_quoted("celery")], source=_quoted(f"./{MODULE}"), **_inputs(deployment), **code
    )
    for name, description in (_OUTPUTS | (_RESULTS_OUTPUTS if deployment.results else {})).items():
        made.block(
            "output",
            [_quoted(name)],
            value=f"${{module.celery.{name}}}",
            description=_quoted(description),
        )
    options = hcl2.DeserializerOptions(object_elements_trailing_comma=False)
    text = hcl2.dumps(made.build(), deserializer_options=options)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _variable(parameter: Parameter) -> dict[str, Any]:
    told: dict[str, Any] = {"type": "${string}"}
    if parameter.description:
        told["description"] = _quoted(parameter.description)
    if parameter.default is not None:
        told["default"] = _quoted(parameter.default)
    if parameter.secret:
        told["sensitive"] = True
    return told


def _inputs(deployment: Deployment) -> dict[str, Any]:
    """Return the variables of the module, as python-hcl2 writes them."""
    inputs = _given(deployment, _ALWAYS)
    parameters = inputs.pop("parameters", {})
    queues = inputs.pop("queues", {})
    told = {name: _expression(each) for name, each in inputs.items()}
    if queues:
        told["queues"] = _expression(queues if any(queues.values()) else list(queues))
    if parameters:
        told.setdefault("environment", {}).update(
            {_quoted(each["variable"]): f"${{var.{name}}}" for name, each in parameters.items()}
        )
    return told


def _given(table: Any, always: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what in a table of the stanza is none of the defaults."""
    return {
        each.name: _plain(getattr(table, each.name))
        for each in fields(table)
        if each.name in always or getattr(table, each.name) != _default(each)
    }


def _default(each: Field[Any]) -> Any:
    if each.default_factory is not MISSING:
        return each.metadata["parse"](each.default_factory())
    return each.default


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return _given(value)
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return value


def _expression(value: Any) -> Any:
    """Return *value* in python-hcl2's words, which tell texts from expressions by quotes."""
    match value:
        case str():
            return _quoted(value)
        case Mapping():
            return {_quoted(str(name)): _expression(each) for name, each in value.items()}
        case tuple() | list():
            return [_expression(each) for each in value]
        case _:
            return value


def _quoted(text: str) -> str:
    """Return *text* as a string of HCL, in which nothing is an expression."""
    escaped = re.sub(
        r"\\.", lambda each: _ESCAPES.get(each[0], each[0]), json.dumps(text, ensure_ascii=False)
    )
    return re.sub(r"([$%])\{", r"\1\1{", escaped)
