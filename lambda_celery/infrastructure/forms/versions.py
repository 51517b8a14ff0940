"""Which deployments publish versions of their functions: those with SnapStart, which needs them.

CloudFormation publishes a version when the template changes, and a parameter's value is no part of
the template. An alias would stay on the version with the old value, so the mappings name the
function itself where they can.
"""

from __future__ import annotations

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.infrastructure.resources import Template

_KINDS = {"AWS::Lambda::Version", "AWS::Lambda::Alias"}


def with_versions_if_needed(template: Template, deployment: Deployment) -> Template:
    """Return *template* of *deployment*, without versions and aliases unless it has SnapStart."""
    if deployment.snap_start:
        return template
    made = {name: each for name, each in template.resources.items() if each["Type"] not in _KINDS}
    for name, each in made.items():
        if each["Type"] == "AWS::Lambda::EventSourceMapping":
            invoked = each["Properties"]["FunctionName"]["Ref"].removesuffix("Alias")
            made[name] = each | {
                "Properties": each["Properties"] | {"FunctionName": {"Ref": invoked}}
            }
    return Template(template.description, template.parameters, made, template.outputs)


def check_that_parameters_arrive(deployment: Deployment) -> None:
    """Raise :exc:`ConfigurationError` if a parameter's new value would publish no version.

    This is for forms whose parameters are CloudFormation's.
    """
    if deployment.snap_start and deployment.parameters:
        raise ConfigurationError(
            "With snap_start, a new value of a parameter does not reach the functions in this "
            "form, because CloudFormation publishes no version for it: choose the form terraform, "
            "or leave snap_start or parameters out."
        )
