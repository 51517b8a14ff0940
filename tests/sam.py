"""The example's template as CloudFormation gets it: expanded offline, by aws-sam-translator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = Path(__file__).parents[1] / "examples" / "django_mail" / "template.yaml"


class NoManagedPolicies:
    """Stands for IAM's list of managed policies: the template is to use none."""

    def load(self) -> dict[str, str]:
        return {}


def expanded_template() -> dict[str, Any]:
    """Return the template with SAM's resources in CloudFormation's shape."""
    template = yaml_parse(TEMPLATE.read_text())
    # What `sam package` puts there; only its form matters.
    template["Resources"]["Function"]["Properties"]["CodeUri"] = "s3://code/function.zip"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "eu-west-1")  # tells the partition from it
        expanded: dict[str, Any] = transform(template, {}, NoManagedPolicies())
    return expanded


def resolve(template: dict[str, Any], value: Any, **parameters: Any) -> Any:
    """Return *value* with its references to parameters and mappings looked up."""
    match value:
        case {"Ref": str(name)} if name in template["Parameters"]:
            return parameters.get(name, template["Parameters"][name].get("Default"))
        case {"Fn::FindInMap": keys}:
            found = template["Mappings"]
            for key in keys:
                found = found[resolve(template, key, **parameters)]
            return found
        case dict():
            return {k: resolve(template, v, **parameters) for k, v in value.items()}
        case list():
            return [resolve(template, v, **parameters) for v in value]
        case _:
            return value
