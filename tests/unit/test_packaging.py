"""The parts of a deployment zip, each on its own."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.tags import parse_tag

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.packaging import (
    archive,
    bytecode,
    checks,
    elf,
    image,
    left_out,
    own_files,
    sizes,
)
from lambda_celery.packaging.build import Order
from lambda_celery.packaging.distributions import Installed
from lambda_celery.packaging.errors import PackagingError
from lambda_celery.packaging.inputs import deployment
from lambda_celery.packaging.requirements import find
from lambda_celery.packaging.target import Target

ARM = Target.of("python3.13", "arm64")
AMD = Target.of("python3.11", "x86_64")


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_py", ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def installed(name: str, version: str = "1.0", *requires: str, tag: str = "py3-none-any"):
    return Installed(
        name, version, (f"{name}.py",), frozenset(parse_tag(tag)), tuple(map(Requirement, requires))
    )


@pytest.mark.parametrize(
    ("target", "tag", "runs"),
    [
        (ARM, "cp313-cp313-manylinux_2_17_aarch64", True),
        (ARM, "cp313-cp313-manylinux_2_34_aarch64", True),
        (ARM, "cp313-cp313-manylinux2014_aarch64", True),
        (ARM, "cp39-abi3-manylinux_2_28_aarch64", True),
        (ARM, "py2.py3-none-any", True),
        (ARM, "cp313-cp313-manylinux_2_39_aarch64", False),
        (ARM, "cp313-cp313-manylinux_2_17_x86_64", False),
        (ARM, "cp312-cp312-manylinux_2_17_aarch64", False),
        (ARM, "cp313-cp313t-manylinux_2_17_aarch64", False),
        (ARM, "cp313-cp313-musllinux_1_2_aarch64", False),
        (AMD, "cp311-cp311-manylinux_2_17_x86_64", True),
        # Python 3.11 is on Amazon Linux 2, whose C library is older.
        (AMD, "cp311-cp311-manylinux_2_28_x86_64", False),
    ],
)
def test_a_target_knows_its_wheels(target, tag, runs):
    found = list(checks.foreign_wheels([installed("it", tag=tag)], target))
    assert found == [] if runs else "it 1.0 is a wheel for" in found[0]


@pytest.mark.parametrize(
    ("runtime", "architecture"),
    [("python3.9", "arm64"), ("nodejs24.x", "arm64"), ("python3.13", "arm")],
)
def test_what_lambda_does_not_have_is_refused(runtime, architecture):
    with pytest.raises(PackagingError, match="choose one of"):
        Target.of(runtime, architecture)


def test_inputs_come_from_the_stanza_and_flags_win(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nrequires-python = ">=3.11,<3.13"\n'
        '[tool.lambda-celery]\napp = "a.b:c"\narchitecture = "x86_64"\n'
    )
    read = deployment(tmp_path, "other", architecture=None, handler="mine.handler")
    assert (read.app, read.handler) == ("a.b:c", "mine.handler")
    assert (read.runtime, read.architecture) == ("python3.12", "x86_64")
    assert deployment(tmp_path, None, architecture="arm64").architecture == "arm64"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("app =", "cannot be read as TOML"),
        ("[tool.lambda-celery]\napp = 3", "app in"),
        ("[tool]\nlambda-celery = 3", "make it a table"),
        ("[tool.lambda-celery]\npackage_type = 'jar'", "'zip' or 'image'"),
        ("[project]\nrequires-python = '<3.11'", "widen it"),
        ("[project]\nrequires-python = 'new'", "no range of versions"),
    ],
)
def test_a_stanza_that_cannot_be_meant_is_refused(tmp_path, text, told):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=told):
        deployment(tmp_path, "proj")


def test_an_app_is_needed(tmp_path):
    with pytest.raises(PackagingError, match="Name the Celery app"):
        deployment(tmp_path, None)


def test_the_same_files_make_the_same_bytes(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for place, names in ((first, "bac"), (second, "cab")):
        for name in names:
            write(place, **{f"pack__{name}_py": f"x = {name!r}\n"})
            os.utime(place / "pack" / f"{name}.py", (len(names), 1_000_000_000))
        (place / "run").write_text("#!/bin/sh\n")
        (place / "run").chmod(0o750 if place == first else 0o755)
        assert bytecode.compile_modules(place, Target.here()) is None
        archive.write(place, tmp_path / f"{place.name}.zip")
    zipped = (tmp_path / "first.zip").read_bytes()
    assert zipped == (tmp_path / "second.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "first.zip") as read:
        assert read.namelist() == sorted(read.namelist())
        modes = {each.filename: each.external_attr >> 16 & 0o777 for each in read.infolist()}
        (compiled,) = [each for each in modes if "/a.cpython" in each]
        # The flags in its head: by a hash, and not checked.
        assert struct.unpack("<I", read.read(compiled)[4:8]) == (0b01,)
        assert b"/var/task/pack/a.py" in read.read(compiled)
    assert (modes["run"], modes["pack/a.py"]) == (0o755, 0o644)


def test_nothing_half_written_is_left(tmp_path):
    write(tmp_path / "package", a_py="")
    (tmp_path / "taken").mkdir()
    with pytest.raises(PackagingError, match="cannot be written"):
        archive.write(tmp_path / "package", tmp_path / "taken")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["package", "taken"]


def test_another_pythons_files_are_not_made(tmp_path, monkeypatch):
    monkeypatch.setattr(bytecode.tools, "python", lambda version: None)
    write(tmp_path, a_py="")
    assert "Python 3.13 is not here" in (bytecode.compile_modules(tmp_path, ARM) or "")
    assert [each.name for each in tmp_path.iterdir()] == ["a.py"]


def test_a_module_that_does_not_compile_is_refused(tmp_path):
    write(tmp_path, good_py="", bad_py="def")
    bytecode.compile_modules(tmp_path, Target.here())
    bytecode.check_compiled(tmp_path, ["good.py"])
    with pytest.raises(PackagingError, match=r"bad\.py is no module"):
        bytecode.check_compiled(tmp_path, ["good.py", "bad.py"])


def test_wheels_are_pruned(tmp_path):
    for name in (
        "pack/__init__.py", "pack/tests/test_a.py", "pack/__pycache__/a.pyc", "pack/a.pyi",
        "bin/script", "pack-1.dist-info/RECORD", "pack-1.dist-info/METADATA", "tests/a.py",
        "other/tests/help.py", "other/__init__.py", "kept/tests/data.json",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    # Something else imports them: these are no tests alone.
    (tmp_path / "other" / "__init__.py").write_text("from .tests import help\n")
    left_out.prune(tmp_path, ["kept/tests"])
    left = [each.relative_to(tmp_path).as_posix() for each in archive.files_in(tmp_path)]
    assert left == [
        "kept/tests/data.json", "other/__init__.py", "other/tests/help.py",
        "pack-1.dist-info/METADATA", "pack/__init__.py",
    ]  # fmt: skip


@pytest.mark.parametrize("has_repository", [True, False])
def test_the_projects_files_are_those_that_git_does_not_ignore(tmp_path, has_repository):
    write(
        tmp_path,
        proj__tasks_py="", proj__secret_py="", proj__new_py="", proj__tests__test_a_py="",
        test_b_py="", build__made_py="",
    )  # fmt: skip
    (tmp_path / ".gitignore").write_text("secret.py\n*.mo\n")
    (tmp_path / ".env").write_text("PASSWORD=1")
    (tmp_path / "proj" / "de.mo").write_text("")
    if has_repository:
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
        subprocess.run(["git", "add", "proj/tasks.py"], cwd=tmp_path, check=True)
    found = packed(tmp_path, exclude=["proj/new.py"], include=["*.mo"])
    assert list(found.files) == ["proj/de.mo", "proj/tasks.py"]
    assert found.has_git is has_repository


def packed(root: Path, exclude: list[str] | None = None, include: list[str] | None = None):
    return own_files.own_files(root, root, exclude=exclude or [], include=include or [])


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")


def git(root: Path, *arguments: str) -> None:
    root.mkdir(exist_ok=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


def test_what_a_package_of_the_project_has_is_packed(tmp_path):
    wanted = [
        "build/__init__.py", "docs/__init__.py", "docs/text.md", "env/tasks.py",
        "proj/data/cities.sqlite3", "proj/data/zones.zip", "proj/setup.py", "proj/tasks.py",
        "proj/template.yaml", "proj/templates/mail/welcome.md", "proj/templates/tests/a.rst",
    ]  # fmt: skip
    unwanted = [
        "README.md", "archive.zip", "dist/a.py", "proj/__pycache__/tasks.pyc",
        "proj/node_modules/a/b.js", "proj/test/help.py", "proj/tests.py", "proj/tests/data.json",
        "proj/tests/test_a.py", "proj/test_b.py", "setup.py", "template.yaml",
    ]  # fmt: skip
    put(tmp_path, *wanted, *unwanted)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    found = packed(tmp_path)
    assert list(found.files) == wanted
    assert found.left_out == {
        "caches": ["proj/__pycache__/", "proj/node_modules/"],
        "files for development and deployment": [
            "README.md", "archive.zip", "dist/", "setup.py", "template.yaml",
        ],
        "tests": ["proj/test/", "proj/test_b.py", "proj/tests.py", "proj/tests/"],
    }  # fmt: skip
    (told,) = found.notes()
    assert "caches (2), files for development and deployment (5), tests (4)" in told


def test_tests_that_other_modules_import_are_no_tests_alone(tmp_path):
    put(tmp_path, "proj/__init__.py", "proj/tests/test_a.py", "proj/test_scores.py", "test_b.py")
    write(
        tmp_path,
        proj__tasks_py="from . import test_scores\nfrom proj.tests import factories",
        proj__tests__factories_py="from .test_help import a",
        proj__tests__test_help_py="",
        other__tests__factories_py="",
        other__tasks_py="from django.test import Client",
        other__test__a_py="",
    )
    assert [each for each in packed(tmp_path).files if "test" in each] == [
        "proj/test_scores.py", "proj/tests/factories.py", "proj/tests/test_help.py",
    ]  # fmt: skip


SECRETS = [
    ".aws/credentials", ".env", ".git-credentials", ".netrc", ".npmrc", ".pypirc", "id_rsa",
    "infra/prod.tfvars", "infra/terraform.tfstate.backup", "prod.env", "proj/key.pem", "tls.key",
]  # fmt: skip


@pytest.mark.parametrize("has_repository", [True, False])
def test_secrets_are_not_packed_and_that_is_said(tmp_path, has_repository):
    put(
        tmp_path, *SECRETS, "proj/tasks.py", "proj/id_rsa_tools.py", "db.sqlite3-wal", "dump.sql",
        "media/a.jpg", "here/pyvenv.cfg", "here/lib/a.py",
    )  # fmt: skip
    (tmp_path / "here" / "python").symlink_to("/usr/bin/env")
    if has_repository:
        git(tmp_path, "init", "-q")
    found = packed(tmp_path)
    assert list(found.files) == ["proj/id_rsa_tools.py", "proj/tasks.py"]
    assert found.left_out == {
        "databases": ["db.sqlite3-wal", "dump.sql"],
        "secrets": SECRETS,
        "uploads": ["media/"],
        "virtual environments": ["here/"],
    }
    assert found.untracked == list(found.files)
    secrets, tracked, _ = found.notes()
    assert ".aws/credentials, .env, " in secrets
    assert "and 7 more" in secrets
    told = "git does not track them (2)" if has_repository else "No git repository says"
    assert told in tracked
    assert "proj/key.pem" in packed(tmp_path, include=["proj/*.pem"]).files


def test_links_out_of_the_project_that_are_left_out_are_not_refused(tmp_path):
    root, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    put(root, "proj/tasks.py", "proj/de.mo")
    put(elsewhere, "pyvenv.cfg", "lib/de.mo")
    git(root, "init", "-q")
    for name in (".venv", "docs", "media", "node_modules"):
        (root / name).symlink_to(elsewhere)
    found = packed(root, include=["*.mo"])
    assert list(found.files) == ["proj/de.mo", "proj/tasks.py"]
    (elsewhere / "pyvenv.cfg").unlink()
    (root / ".venv").unlink()
    assert list(packed(root).left_out) == [
        "caches", "files for development and deployment", "uploads",
    ]  # fmt: skip


def test_an_environments_files_are_not_included(tmp_path):
    put(tmp_path, "proj/de.mo", "here/pyvenv.cfg", "here/lib/de.mo")
    assert list(packed(tmp_path, include=["*.mo"]).files) == ["proj/de.mo"]


def test_a_tracked_certificate_is_packed_and_named(tmp_path):
    put(tmp_path, "proj/ca.pem", ".env")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "--force", ".")
    found = packed(tmp_path)
    assert list(found.files) == found.keys == ["proj/ca.pem"]
    assert any("Packed, though keys have such names: proj/ca.pem" in each for each in found.notes())


@pytest.mark.parametrize("has_repository", [True, False])
def test_links_are_followed_within_the_project(tmp_path, has_repository):
    root = tmp_path / "project"
    put(root, "proj/tasks.py", "shared/data.json", "shared/tests.py")
    put(tmp_path, "outside/secret.txt")
    (root / "proj" / "shared").symlink_to("../shared")
    (root / "proj" / "again.py").symlink_to("tasks.py")
    (root / "proj" / "nothing").symlink_to("nowhere")
    if has_repository:
        git(root, "init", "-q")
    found = packed(root)
    assert list(found.files) == [
        "proj/again.py", "proj/shared/data.json", "proj/tasks.py", "shared/data.json",
    ]  # fmt: skip
    assert found.left_out["broken links"] == ["proj/nothing"]
    for target in ("../../outside/secret.txt", "../../outside"):
        (root / "proj" / "link").symlink_to(target)
        with pytest.raises(PackagingError, match=r"proj/link is a link to .*outside"):
            packed(root)
        assert not [each for each in packed(root, exclude=["proj/link"]).files if "link" in each]
        assert [each for each in packed(root, include=["proj/link"]).files if "proj/link" in each]
        (root / "proj" / "link").unlink()
    (root / "proj" / "loop").symlink_to("..")
    with pytest.raises(PackagingError, match="a directory that it is in itself"):
        packed(root)


def test_submodules_are_packed(tmp_path):
    library, root = tmp_path / "library", tmp_path / "project"
    for each, name in ((library, "code.py"), (root, "proj.py")):
        put(each, name)
        git(each, "init", "-q")
        git(each, "add", ".")
        git(each, "commit", "-q", "-m", "a")
    git(root, "submodule", "add", str(library), "lib")
    assert list(packed(root).files) == ["lib/code.py", "proj.py"]
    git(root, "submodule", "deinit", "--force", "lib")
    with pytest.raises(PackagingError, match="submodule lib is not checked out"):
        packed(root)
    assert list(packed(root, exclude=["lib"]).files) == ["proj.py"]


def test_a_src_directory_is_where_imports_begin(tmp_path):
    write(tmp_path, src__proj__celery_py="")
    assert own_files.source_root(tmp_path, "proj.celery:app") == tmp_path / "src"
    assert own_files.source_root(tmp_path, "other") == tmp_path


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        ("lambda_runtime.handler", None),
        ("mine.made", None),
        ("pack/mod.imported", None),
        ("lazy.anything", None),
        ("lambda_runtime.handle", "has no handle"),
        ("nothing.handler", "is not in the package"),
        ("handler", "module.function"),
    ],
)
def test_the_handler_is_looked_for(tmp_path, handler, told):
    write(
        tmp_path,
        lambda_runtime__init_py="",
        mine_py="made = 1",
        pack__mod_py="from x import imported",
        lazy_py="def __getattr__(name): ...",
    )
    (tmp_path / "lambda_runtime" / "__init__.py").write_text("def handler(event, context): ...")
    found = list(checks.missing_handler(tmp_path, handler))
    assert found == [] if told is None else told in found[0]


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("proj", None),
        ("proj.celery", None),
        ("proj.celery:app", None),
        ("proj.celery.app", None),
        ("proj.celery:other", "has no other"),
        ("proj.nothing:app", "is not in the package"),
        ("nothing", "is not in the package"),
    ],
)
def test_the_app_is_looked_for(tmp_path, app, told):
    write(tmp_path, proj__celery_py="app = 1")
    (tmp_path / "proj" / "__init__.py").write_text("from .celery import app")
    found = list(checks.missing_app(tmp_path, app))
    assert found == [] if told is None else told in found[0]


def head_of(machine: int) -> bytes:
    return b"\x7fELF\x02\x01" + bytes(12) + struct.pack("<H", machine)


@pytest.mark.parametrize(
    ("name", "head", "told"),
    [
        ("a.cpython-313-aarch64-linux-gnu.so", head_of(183), None),
        ("a.abi3.so", head_of(183), None),
        ("liba.so.1", head_of(183), None),
        ("a.abi3.so", head_of(62), "is for x86_64, and the package is for aarch64"),
        ("liba.so.1", head_of(40), "is for processor 40"),
        ("a.cpython-312-aarch64-linux-gnu.so", head_of(183), "is for Python 3.12"),
        ("a.cpython-313-darwin.so", b"\xcf\xfa\xed\xfe" + bytes(20), "no library of Linux"),
        ("a.pyd", b"MZ" + bytes(20), "no library of Linux"),
    ],
)
def test_every_native_library_is_looked_into(tmp_path, name, head, told):
    (tmp_path / name).write_bytes(head)
    found = list(checks.foreign_libraries(tmp_path, ARM))
    assert found == [] if told is None else told in found[0]


def with_glibc(machine: int, *versions: str) -> bytes:
    """Return a library's head, the section with the versions it needs, and that of their names."""
    names = b"\0libc.so.6\0" + b"".join(each.encode() + b"\0" for each in versions)
    need = struct.pack("<HHIII", 1, len(versions), 1, 16, 0)
    at = len(b"\0libc.so.6\0")
    for index, each in enumerate(versions, 1):
        need += struct.pack("<IHHII", 0, 0, 0, at, 16 if index < len(versions) else 0)
        at += len(each) + 1
    head = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01", 3, machine, 1, 0, 0, 64, 0, 64, 0, 0, 64, 2, 0,
    )  # fmt: skip
    body = 64 + 2 * 64
    sections = [(0x6FFFFFFE, body, len(need), 1, 1), (3, body + len(need), len(names), 0, 0)]
    described = b"".join(
        struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, offset, size, link, info, 0, 0)
        for kind, offset, size, link, info in sections
    )
    return head + described + need + names


@pytest.mark.parametrize(
    ("target", "versions", "told"),
    [
        (ARM, ("GLIBC_2.17", "GLIBC_2.34"), None),
        (ARM, ("GLIBC_2.17", "GLIBC_2.38", "GLIBC_2.4"), "needs glibc 2.38, and Python 3.13 on"),
        (ARM, ("GLIBC_PRIVATE", "CXXABI_1.3"), None),
        (Target.of("python3.11", "arm64"), ("GLIBC_2.2.5", "GLIBC_2.34"), "Lambda) has 2.26"),
    ],
)
@pytest.mark.parametrize("name", ["liba.so", "bin/program"])
def test_a_newer_c_library_than_lambdas_is_refused(tmp_path, name, target, versions, told):
    put(tmp_path, name)
    (tmp_path / name).write_bytes(with_glibc(183, *versions))
    found = list(checks.foreign_libraries(tmp_path, target))
    assert found == [] if told is None else told in found[0]
    # What is cut off is read as far as it goes.
    (tmp_path / name).write_bytes(with_glibc(183, *versions)[:100])
    assert list(checks.foreign_libraries(tmp_path, target)) == []
    (tmp_path / name).write_bytes(with_glibc(183, *versions)[:10])
    assert list(checks.foreign_libraries(tmp_path, target)) == [
        f"{name} is cut off: install it anew."
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="It looks at this interpreter's own files")
def test_the_c_library_of_a_real_program_is_read():
    assert elf.read(Path(sys.executable).read_bytes()).glibc_minor > 0


OWN = installed("lambda-celery", "0.1", "boto3>=1.36", "aws-lambda-powertools; extra == 'runtime'")


@pytest.mark.parametrize(
    ("others", "to_runtime", "told"),
    [
        ([OWN, installed("boto3", "1.40"), installed("aws-lambda-powertools")], [], None),
        ([OWN, installed("aws-lambda-powertools")], ["boto3"], None),
        ([OWN, installed("boto3", "1.40")], [], r"require `lambda-celery[runtime]`"),
        (
            [OWN, installed("boto3", "1.34"), installed("aws-lambda-powertools")],
            [],
            "boto3 1.34 is in the package, and lambda-celery 0.1 needs >=1.36",
        ),
        ([installed("boto3", "1.40")], [], "add the line `lambda-celery[runtime]`"),
    ],
)
def test_what_a_function_needs_is_looked_for(others, to_runtime, told):
    found = list(checks.unmet_requirements(others, ARM, to_runtime))
    assert found == [] if told is None else told in found[0]


def test_what_is_too_big_is_refused(tmp_path):
    with (tmp_path / "big").open("wb") as file:
        file.truncate(checks.MAXIMUM_UNZIPPED_BYTES)
    assert list(checks.wrong_size(tmp_path)) == []
    (tmp_path / "small").write_text("x")
    assert "262,144,001 bytes unpacked" in next(checks.wrong_size(tmp_path))


def test_sizes_are_each_distributions(tmp_path):
    write(tmp_path, big_py="x" * 100, own_py="x" * 10)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "big.cpython-313.pyc").write_bytes(b"x" * 50)
    found = sizes.sizes(tmp_path, [installed("big")], {"big.py": 7, "own.py": 3})
    assert found == [sizes.Size("big", "1.0", 150, 7), sizes.Size(sizes.OWN, "", 10, 3)]


def test_what_could_be_left_out_is_told(tmp_path):
    found = [sizes.Size("botocore", "1", 20_000_000, 1), sizes.Size("pytest", "1", 1_000_000, 1)]
    boto3, pytest_ = sizes.advice(found, tmp_path)
    assert "20.0 MB" in boto3
    assert "--without-boto3" in boto3
    assert pytest_.startswith("pytest (1.0 MB): for a developer")


def test_requirements_are_the_first_that_there_is(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(PackagingError, match="name a requirements file"):
        find(tmp_path, None, scratch)
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["a>=1", "b"]')
    assert find(tmp_path, None, scratch).path.read_text() == "a>=1\nb\n"
    (tmp_path / "requirements.txt").write_text("c")
    assert find(tmp_path, None, scratch).path == tmp_path / "requirements.txt"
    (tmp_path / "poetry.lock").write_text("")
    with pytest.raises(PackagingError, match=r"poetry|requirements\.txt"):
        find(tmp_path, None, scratch)
    (tmp_path / "other.txt").write_text("d")
    assert find(tmp_path, tmp_path / "other.txt", scratch).source == "other.txt"
    with pytest.raises(PackagingError, match=r"There is no .*none\.txt"):
        find(tmp_path, tmp_path / "none.txt", scratch)


@pytest.fixture
def order(tmp_path: Path) -> Order:
    write(tmp_path, proj__celery_py="app = 1")
    (tmp_path / "requirements.txt").write_text("Django\nlambda-celery[runtime]>=0.1\n")
    inputs = deployment(
        tmp_path,
        "proj.celery:app",
        runtime="python3.13",
        architecture="arm64",
        package_type="image",
    )
    return Order(tmp_path, inputs)


def test_the_image_is_made_of_awss(order):
    written = image.write(order, order.root)
    assert [each.name for each in written] == ["Dockerfile", ".dockerignore"]
    lines = (order.root / "Dockerfile").read_text().splitlines()
    code = [each for each in lines if each and not each.startswith("#")]
    assert code[0] == "FROM public.ecr.aws/lambda/python:3.13-arm64"
    assert code[1] == "COPY requirements.txt /tmp/requirements.txt"
    assert 'COPY ./ "${LAMBDA_TASK_ROOT}"/' in code
    assert "ENV LAMBDA_CELERY_APP=proj.celery:app" in code
    assert code[-1] == 'CMD ["lambda_runtime.handler"]'
    assert any("--platform linux/arm64 --provenance=false" in each for each in lines)
    assert any("--invalidation-mode unchecked-hash" in each for each in code)
    ignored = (order.root / ".dockerignore").read_text().splitlines()
    assert {"**/.git", "**/tests", "**/.env", "**/.venv", "docs"} <= set(ignored)
    assert ignored.index("requirements*.txt") < ignored.index("!requirements.txt")
    assert {"**/*.pem", "**/.aws", "*.md", "template.y*ml"} <= set(ignored)
    # A package of the project's, in spite of its name.
    put(order.root, "docs/__init__.py")
    image.write(order, order.root)
    assert "docs" not in (order.root / ".dockerignore").read_text().splitlines()
    # Again: what is its own is written anew.
    assert image.write(order, order.root) == written


def test_an_image_of_a_lock_and_of_a_src_directory(order):
    (order.root / "requirements.txt").unlink()
    (order.root / "src").mkdir()
    (order.root / "proj").rename(order.root / "src" / "proj")
    (order.root / "pyproject.toml").write_text(
        '[project]\ndependencies = ["lambda-celery[runtime]"]'
    )
    assert len(image.write(order, order.root)) == 3
    dockerfile = (order.root / "Dockerfile").read_text()
    assert "COPY requirements.lambda.txt " in dockerfile
    assert 'COPY src/ "${LAMBDA_TASK_ROOT}"/' in dockerfile
    assert "lambda-celery[runtime]\n" in (order.root / "requirements.lambda.txt").read_text()


def test_a_dockerfile_of_the_users_own_is_not_touched(order):
    (order.root / "Dockerfile").write_text("FROM mine")
    with pytest.raises(PackagingError, match="has not written it"):
        image.write(order, order.root)
    assert not (order.root / ".dockerignore").exists()


def test_an_image_without_this_project_is_refused(order):
    (order.root / "requirements.txt").write_text("lambda-celery\n")
    with pytest.raises(PackagingError, match=r"add the line `lambda-celery\[runtime\]`"):
        image.write(order, order.root)
