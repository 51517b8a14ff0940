"""Deployment zips, built by uv and by pip from wheels in a directory."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lambda_celery.packaging.build import Order, Package, build
from lambda_celery.packaging.errors import PackagingError
from lambda_celery.packaging.inputs import deployment
from lambda_celery.packaging.sizes import OWN
from tests.unit.test_packaging import head_of
from tests.wheelhouse import wheel

RUNTIME = {"lambda_runtime/__init__.py": b"def handler(event, context): ...\n"}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of wheels, which is all that uv and pip know."""
    house = tmp_path / "house"
    house.mkdir()
    config = tmp_path / "uv.toml"
    config.write_text("no-index = true\n")
    for name in list(os.environ):
        if name.startswith(("UV_", "PIP_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("UV_CONFIG_FILE", str(config))
    monkeypatch.setenv("UV_FIND_LINKS", str(house))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(house))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    requires = ["boto3>=1.36", "aws-lambda-powertools; extra == 'runtime'"]
    wheel(house, "lambda-celery", RUNTIME, version="0.1", requires=requires)
    wheel(house, "aws-lambda-powertools", {"aws_lambda_powertools.py": b""})
    wheel(
        house, "boto3", {"boto3.py": b"", "tests/test_boto3.py": b""}, version="1.40",
        requires=["jmespath"],
    )  # fmt: skip
    wheel(house, "jmespath", {"jmespath.py": b""})
    for arch, number in (("aarch64", 183), ("x86_64", 62)):
        for python in ("313", "312"):
            name = f"native.cpython-{python}-{arch}-linux-gnu.so"
            wheel(
                house, "native", {name: head_of(number)},
                tag=f"cp{python}-cp{python}-manylinux_2_28_{arch}",
            )  # fmt: skip
    return house


@pytest.fixture
def project(tmp_path: Path, house: Path) -> Path:
    root = tmp_path / "project"
    (root / "proj").mkdir(parents=True)
    (root / "proj" / "__init__.py").write_text("app = 1\n")
    (root / "requirements.txt").write_text("lambda-celery[runtime]\nnative\n")
    return root


def package(
    root: Path,
    *,
    runtime: str = "python3.13",
    architecture: str = "arm64",
    app: str = "proj:app",
    handler: str = "lambda_runtime.handler",
    output: str = "dist/lambda.zip",
    **options: object,
) -> Package:
    inputs = deployment(root, app, runtime=runtime, architecture=architecture, handler=handler)
    order = Order(root, inputs, **options)  # type: ignore[arg-type]
    return build(order, order.target, root / output)


def names(made: Package) -> list[str]:
    with zipfile.ZipFile(made.path) as archive:
        return archive.namelist()


@pytest.mark.parametrize("installer", ["uv", "pip"])
@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
@pytest.mark.parametrize("runtime", ["python3.12", "python3.13"])
def test_it_has_the_wheels_of_its_target(project, installer, architecture, runtime):
    made = package(project, installer=installer, architecture=architecture, runtime=runtime)
    machine = {"arm64": "aarch64"}.get(architecture, architecture)
    digits = runtime.removeprefix("python").replace(".", "")
    assert f"native.cpython-{digits}-{machine}-linux-gnu.so" in names(made)
    sources = [each for each in names(made) if each.endswith(".py")]
    assert sources == [
        "aws_lambda_powertools.py", "boto3.py", "jmespath.py", "lambda_runtime/__init__.py",
        "proj/__init__.py",
    ]  # fmt: skip
    assert {each.name for each in made.sizes} == {
        OWN, "aws-lambda-powertools", "boto3", "jmespath", "lambda-celery", "native",
    }  # fmt: skip
    markers = [each for each in made.notes if "markers" in each]
    assert bool(markers) == (installer == "pip" and runtime != f"python3.{sys.version_info[1]}")


def test_the_same_project_makes_the_same_bytes(project):
    first = package(project).path.read_bytes()
    os.utime(project / "proj" / "__init__.py", (1, 1))
    second = package(project, output="dist/other.zip").path.read_bytes()
    assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()


def test_what_lambda_has_is_left_out_if_asked(project):
    made = package(project, without_boto3=True)
    assert not [each for each in names(made) if each.startswith(("boto3", "jmespath"))]
    assert not any("boto3" in each for each in made.advice)


def test_hashes_are_verified(project, house):
    requirements = project / "requirements.txt"
    lines = [
        f"{each.name.split('-')[0].replace('_', '-')}=={each.name.split('-')[1]} "
        f"--hash=sha256:{hashlib.sha256(each.read_bytes()).hexdigest()}"
        for each in sorted(house.glob("*-none-any.whl"))
    ]
    requirements.write_text("\n".join(lines).replace("lambda-celery==", "lambda-celery[runtime]=="))
    package(project)
    before = (project / "dist" / "lambda.zip").read_bytes()
    requirements.write_text(requirements.read_text().replace("sha256:", "sha256:0")[:-1])
    for installer in ("uv", "pip"):
        with pytest.raises(PackagingError, match="could not install"):
            package(project, installer=installer)
    assert (project / "dist" / "lambda.zip").read_bytes() == before


@pytest.mark.parametrize(
    ("requirements", "options", "told"),
    [
        ("native", {}, "add the line `lambda-celery\\[runtime\\]`"),
        ("lambda-celery", {}, "require `lambda-celery\\[runtime\\]`"),
        ("lambda-celery[runtime]\nnone", {}, "could not install"),
        ("lambda-celery[runtime]\nnative", {"runtime": "python3.14"}, "could not install"),
        ("lambda-celery[runtime]", {"app": "other:app"}, "app's module other is not in"),
        ("lambda-celery[runtime]", {"handler": "no.handler"}, "handler's module no is not in"),
        ("lambda-celery[runtime]", {"exclude": ("proj",)}, "app's module proj is not in"),
        ("lambda-celery[runtime]\nlies", {}, "lies.so is for x86_64"),
        ("lambda-celery[runtime]\nforeign", {}, "foreign 1.0 is a wheel for cp313-cp313-win32"),
    ],
)
def test_what_could_not_run_is_refused(project, house, requirements, options, told):
    wheel(house, "lies", {"lies.so": head_of(62)})
    wheel(house, "foreign", {}, wheel_tag="cp313-cp313-win32")
    (project / "requirements.txt").write_text(requirements)
    with pytest.raises(PackagingError, match=told):
        package(project, **options)
    assert not (project / "dist").exists()


def test_a_uv_lock_is_exported_without_what_is_for_developers(project):
    (project / "requirements.txt").unlink()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "proj"\nversion = "1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["lambda-celery[runtime]"]\n'
        '[dependency-groups]\ndev = ["native"]\n'
    )
    subprocess.run(
        [sys.executable, "-m", "uv", "lock", "--quiet", "--python", sys.executable],
        cwd=project,
        check=True,
    )
    made = package(project)
    assert made.source == "uv.lock"
    assert "native" not in {each.name for each in made.sizes}
    assert "proj/__init__.py" in names(made)
