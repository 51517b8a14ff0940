"""Unpacks the wheels of the target's platform into a directory, by uv or by pip."""

from __future__ import annotations

from pathlib import Path

from lambda_celery.packaging import tools
from lambda_celery.packaging.errors import PackagingError
from lambda_celery.packaging.requirements import Requirements
from lambda_celery.packaging.target import Target


def install(
    requirements: Requirements,
    target: Target,
    directory: Path,
    *,
    root: Path,
    installer: str | None = None,
) -> str | None:
    """Install *requirements* for *target* into *directory*; return what is to be noted, if any.

    The variables ``UV_*`` and ``PIP_*`` are the installer's own, and say where the index is.

    Arguments:
        requirements: the file to install.
        target: where it is to run.
        directory: an empty one.
        root: the project's, from which relative paths in the requirements begin.
        installer: ``uv`` or ``pip``; default: uv where it is, else pip.

    Raises:
        PackagingError: there is no installer, or it failed.
    """
    uv = tools.uv() if installer != "pip" else None
    if uv is not None:
        platform = []
        if target.glibc_minor is not None:
            platform = ["--python-platform", target.uv_platform, "--python-version", target.version]
        command = [*uv, "pip", "install", "--quiet", "--link-mode", "copy", *platform]
        _run([*command, "--target", str(directory)], requirements, target, root)
        return None
    pip = tools.pip() if installer != "uv" else None
    if pip is None:
        raise PackagingError(
            f"{installer or 'uv'} is not here to install the requirements: `pip install uv`."
        )
    command = [*pip, "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    if target.glibc_minor is not None:
        command += ["--only-binary", ":all:", "--implementation", "cp"]
        command += ["--python-version", target.version]
        for each in target.platforms:
            command += ["--platform", each]
    _run([*command, "--target", str(directory)], requirements, target, root)
    if target.python == Target.here().python:
        return None
    return (
        f"pip judged the markers in the requirements by Python {Target.here().version}, and the "
        f"package is for {target.version}: install uv, which judges them by the package's."
    )


def _run(command: list[str], requirements: Requirements, target: Target, root: Path) -> None:
    tools.run(
        [*command, "--requirement", str(requirements.path)],
        f"install {requirements.source} for {target}",
        directory=root,
        # pip would put what it is told to into the user's own directory.
        environment={"PIP_USER": "0"},
    )
