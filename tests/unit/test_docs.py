"""What the documentation names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
#: `test_file.py::test_name` or `test_file.py::TestClass::test_name`, with folders before it or not.
NAMED = re.compile(r"`((?:\w+/)*test_\w+\.py)((?:::\w+)+)`")


def names_in(path: Path) -> set[str]:
    """Return the tests in a file, as pytest names them after the file's name."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(f"::{node.name}")
        elif isinstance(node, ast.ClassDef):
            found |= {
                f"::{node.name}::{each.name}"
                for each in node.body
                if isinstance(each, ast.FunctionDef)
            }
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


@pytest.mark.parametrize(
    ("file", "name"),
    sorted(set(NAMED.findall((ROOT / "docs/compatibility.md").read_text()))),
)
def test_each_test_that_the_compatibility_table_names_exists(file: str, name: str) -> None:
    paths = [path for path in TESTS.rglob(Path(file).name) if path.as_posix().endswith(f"/{file}")]

    assert any(name in names_in(path) for path in paths)


def test_each_test_of_the_compatibility_suite_is_in_the_table() -> None:
    named = set(NAMED.findall((ROOT / "docs/compatibility.md").read_text()))
    suite = {
        (path.name, name)
        for path in (TESTS / "functional/compatibility").glob("test_*.py")
        for name in names_in(path)
    }

    assert suite - named == set()
