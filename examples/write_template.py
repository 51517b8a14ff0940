"""Write what SAM deploys, from ``[tool.lambda-celery]`` of a ``pyproject.toml``.

``make example-template`` calls it for the example; a unit test fails while a file of the example
is not what it would write.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lambda_celery.infrastructure.forms import sam
from lambda_celery.infrastructure.inputs import Deployment


def write(pyproject: Path, directory: Path) -> None:
    """Write the files of the deployment in *pyproject* to *directory*."""
    for name, text in sam.files(Deployment.from_pyproject(pyproject)).items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pyproject", type=Path)
    pyproject = parser.parse_args().pyproject
    write(pyproject, pyproject.parent)
