"""A CloudFormation template, as YAML."""

from __future__ import annotations

from typing import Any

import yaml

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.forms.versions import with_versions_if_needed
from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.infrastructure.resources import Template, resources


class _Dumper(yaml.SafeDumper):
    """Writes out what stands in several places."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_yaml(document: Any) -> str:
    """Return *document* as YAML, its keys in their order."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True))


def as_document(template: Template) -> dict[str, Any]:
    """Return *template* as CloudFormation reads it."""
    parts = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": template.description,
        "Parameters": template.parameters,
        "Resources": template.resources,
        "Outputs": template.outputs,
    }
    return {name: part for name, part in parts.items() if part}


def document(deployment: Deployment) -> dict[str, Any]:
    """Return the template of *deployment*.

    Raises :exc:`ConfigurationError` for SnapStart, which needs a new version at each deployment:
    CloudFormation publishes one for each logical id, and never again.
    """
    if deployment.snap_start:
        raise ConfigurationError(
            "CloudFormation alone publishes no new version when the code changes, and snap_start "
            "needs one: choose the form sam, terraform or cdk, or leave snap_start out."
        )
    return as_document(with_versions_if_needed(resources(deployment), deployment))


def files(deployment: Deployment) -> dict[str, str]:
    """Return the files of this form: their names and their texts."""
    return {"template.yaml": to_yaml(document(deployment))}
