"""The forms by their names: where each is written, and how it is deployed."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.forms.paths import PACKAGE, in_project
from lambda_celery.infrastructure.inputs import STANZA, Deployment


@dataclass(frozen=True)
class Form:
    """A form of the infrastructure.

    :ivar directory: where its files are by default, from the project's.
    """

    name: str
    directory: str

    def files(self, deployment: Deployment, project: str) -> dict[str, str]:
        """Return its files for *deployment*: their names and their texts.

        *project* is the way to the project's directory from theirs. Raises
        :exc:`ConfigurationError` if this form cannot say what *deployment* is.
        """
        # Each needs a library of its own, which the others do without.
        match self.name:
            case "sam":
                from lambda_celery.infrastructure.forms import sam

                return sam.files(deployment, project)
            case "cloudformation":
                from lambda_celery.infrastructure.forms import cloudformation

                return cloudformation.files(deployment)
            case "terraform":
                from lambda_celery.infrastructure.forms import terraform

                return terraform.files(deployment, project)
            case _:
                from lambda_celery.infrastructure.forms import cdk

                return cdk.files(deployment, project)

    def commands(self, deployment: Deployment, directory: str) -> list[str]:
        """Return what deploys it from the project's directory, its files being in *directory*."""
        is_image = deployment.package_type == "image"
        there = [] if directory == "." else [f"cd {shlex.quote(directory)}"]
        match self.name:
            case "sam":
                return [*there, "sam deploy --guided"]
            case "cloudformation":
                key = f"{deployment.name}/1.zip"
                code = "ImageUri=IMAGE" if is_image else f"CodeBucket=BUCKET CodeKey={key}"
                return [
                    *([] if is_image else [f"aws s3 cp {PACKAGE} s3://BUCKET/{key}"]),
                    f"aws cloudformation deploy --stack-name {deployment.name} --template-file "
                    f"{shlex.quote(in_project(directory, 'template.yaml'))} --capabilities "
                    # A template of more than 51,200 bytes is taken from a bucket alone.
                    f"CAPABILITY_NAMED_IAM --s3-bucket BUCKET --parameter-overrides {code}",
                ]
            case "terraform":
                chdir = f"-chdir={shlex.quote(directory)}"
                return [f"terraform {chdir} init", f"terraform {chdir} apply"]
            case _:
                return [*there, "cdk deploy"]


#: In the order in which they are offered. ``sam`` looks for its template where it is called.
FORMS = {
    each.name: each
    for each in (
        Form("sam", "."),
        Form("cloudformation", "infrastructure"),
        Form("terraform", "infrastructure"),
        Form("cdk", "infrastructure"),
    )
}


def form_of(name: object) -> Form:
    """Return the form that the stanza calls *name*.

    Raises :exc:`ConfigurationError` if there is none.
    """
    if not isinstance(name, str) or name not in FORMS:
        raise ConfigurationError(
            f"form in [{STANZA}] is {name!r}, but must be {' or '.join(map(repr, FORMS))}."
        )
    return FORMS[name]
