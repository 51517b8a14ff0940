"""What SAM deploys of the example is what its stanza makes."""

from __future__ import annotations

import runpy
import shutil

import pytest

from lambda_celery.infrastructure.forms import sam
from tests.sam import EXAMPLE, example


@pytest.mark.parametrize("name", sam.files(example()))
def test_the_file_is_what_the_stanza_makes(name):
    made = sam.files(example())[name]

    assert (EXAMPLE / name).read_text() == made, "Run `make example-template`, and commit."


def test_the_program_writes_the_files_beside_the_stanza(tmp_path):
    shutil.copy(EXAMPLE / "pyproject.toml", tmp_path)
    write = runpy.run_path(str(EXAMPLE.parent / "write_template.py"))["write"]

    write(tmp_path / "pyproject.toml", tmp_path)

    assert (tmp_path / "template.yaml").read_text() == (EXAMPLE / "template.yaml").read_text()
