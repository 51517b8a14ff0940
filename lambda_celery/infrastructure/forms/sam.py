"""A SAM template, and what ``sam deploy`` reads."""

from __future__ import annotations

from typing import Any

import tomlkit

from lambda_celery.infrastructure.forms.cloudformation import as_document, to_yaml
from lambda_celery.infrastructure.forms.paths import PACKAGE, in_project
from lambda_celery.infrastructure.forms.versions import (
    check_that_parameters_arrive,
    with_versions_if_needed,
)
from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.infrastructure.resources import Template, resources


def document(deployment: Deployment, project: str = ".") -> dict[str, Any]:
    """Return the template of *deployment*.

    *project* is the way to the project's directory from that of the template.

    Raises :exc:`ConfigurationError` for SnapStart with parameters.
    """
    check_that_parameters_arrive(deployment)
    code = in_project(project, PACKAGE)
    template = with_versions_if_needed(resources(deployment), deployment)
    made: dict[str, Any] = {}
    for name, each in template.resources.items():
        match each["Type"]:
            case "AWS::Lambda::Function":
                made[name] = _function(name, each, template, deployment, code)
            case "AWS::Lambda::Version" | "AWS::Lambda::Alias" | "AWS::Lambda::EventSourceMapping":
                pass  # SAM makes these of the function.
            case _:
                made[name] = each
    parameters = {
        name: each
        for name, each in template.parameters.items()
        if name not in {"CodeBucket", "CodeKey"}
    }
    parts = as_document(Template(template.description, parameters, made, template.outputs))
    version = {"AWSTemplateFormatVersion": parts.pop("AWSTemplateFormatVersion")}
    return version | {"Transform": "AWS::Serverless-2016-10-31"} | parts


def _function(
    name: str, function: dict[str, Any], template: Template, deployment: Deployment, zip_path: str
) -> dict[str, Any]:
    properties = dict(function["Properties"])
    code = properties.pop("Code")
    source = {"ImageUri": code["ImageUri"]} if "ImageUri" in code else {"CodeUri": zip_path}
    if tags := properties.pop("Tags", None):
        properties["Tags"] = {each["Key"]: each["Value"] for each in tags}
    invoked = name
    if deployment.snap_start:
        invoked = f"{name}Alias"
        # An alias on the newest version: the mappings name it.
        properties["AutoPublishAlias"] = deployment.alias
        properties["AutoPublishAliasAllProperties"] = True
    return function | {
        "Type": "AWS::Serverless::Function",
        "Properties": {
            **source,
            **properties,
            "Events": {
                each.removeprefix(name): _event(mapping["Properties"])
                for each, mapping in template.resources.items()
                if mapping["Type"] == "AWS::Lambda::EventSourceMapping"
                and mapping["Properties"]["FunctionName"] == {"Ref": invoked}
            },
        },
    }


def _event(mapping: dict[str, Any]) -> dict[str, Any]:
    # SAM hands no tags on to a mapping: those of the stack reach it.
    passed_on = {
        key: each
        for key, each in mapping.items()
        if key not in {"EventSourceArn", "FunctionName", "Tags"}
    }
    return {"Type": "SQS", "Properties": {"Queue": mapping["EventSourceArn"], **passed_on}}


def _quoted(text: str) -> str:
    """Return *text* as ``sam`` reads it in a list of tags, in which a blank ends a tag."""
    return '"' + text.replace('"', '\\"') + '"'


def files(deployment: Deployment, project: str = ".") -> dict[str, str]:
    """Return the files of this form: their names and their texts.

    *project* is the way to the project's directory from theirs.
    """
    settings = {
        "stack_name": deployment.name,
        # Roles with names of their own need the second.
        "capabilities": "CAPABILITY_IAM CAPABILITY_NAMED_IAM",
        "resolve_s3": True,
        "confirm_changeset": True,
    }
    if deployment.package_type == "image":
        settings["resolve_image_repos"] = True
    if deployment.tags:
        settings["tags"] = " ".join(
            f"{_quoted(key)}={_quoted(each)}" for key, each in deployment.tags.items()
        )
    configuration = {
        "version": 0.1,
        "default": {
            "deploy": {"parameters": settings},
            "validate": {"parameters": {"lint": True}},
        },
    }
    return {
        "template.yaml": to_yaml(document(deployment, project)),
        "samconfig.toml": tomlkit.dumps(configuration),
    }
