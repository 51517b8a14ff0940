"""The example's template as CloudFormation gets it: expanded offline, by aws-sam-translator."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from lambda_celery.infrastructure.forms import sam
from lambda_celery.infrastructure.inputs import Deployment

EXAMPLE = Path(__file__).parents[1] / "examples" / "django_mail"


class NoManagedPolicies:
    """Stands for IAM's list of managed policies: the template is to use none."""

    def load(self) -> dict[str, str]:
        return {}


def example(**changes: Any) -> Deployment:
    """Return the example's deployment, with *changes* of its stanza."""
    return dataclasses.replace(Deployment.from_pyproject(EXAMPLE / "pyproject.toml"), **changes)


def expanded_template(**changes: Any) -> dict[str, Any]:
    """Return the example's template with SAM's resources in CloudFormation's shape.

    Without *changes* of the stanza, it is the file in the repository.
    """
    name = "template.yaml"
    text = sam.files(example(**changes))[name] if changes else (EXAMPLE / name).read_text()
    template = yaml_parse(text)
    for each in template["Resources"].values():
        if "CodeUri" in each["Properties"]:
            # What `sam deploy` puts there; only its form matters.
            each["Properties"]["CodeUri"] = "s3://code/function.zip"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "eu-west-1")  # tells the partition from it
        expanded: dict[str, Any] = transform(template, {}, NoManagedPolicies())
    return expanded
