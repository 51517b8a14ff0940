"""Refuses what could not run on Lambda. Each check returns sentences: none, if all is well."""

from __future__ import annotations

import ast
import re
import struct
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement

from lambda_celery.packaging import elf
from lambda_celery.packaging.archive import files_in
from lambda_celery.packaging.distributions import Installed
from lambda_celery.packaging.target import Target

#: Lambda's bounds: what is unpacked, layers included, and a zip that is uploaded to it directly.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAXIMUM_UNZIPPED_BYTES = 262_144_000
MAXIMUM_UPLOAD_BYTES = 52_428_800

OWN_NAME = "lambda-celery"
_RUNTIME_EXTRA = "runtime"
#: In what `lambda_celery[runtime]` requires, its own marker asks for the extra.
_ENVIRONMENT = {"platform_system": "Linux", "sys_platform": "linux", "extra": _RUNTIME_EXTRA}
_NATIVE_ELSEWHERE = (b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
_CPYTHON = re.compile(r"\.cpython-(\d)(\d+)")


def wrong_size(directory: Path) -> Iterator[str]:
    """Check how much *directory* takes."""
    size = sum(path.stat().st_size for path in files_in(directory))
    if size > MAXIMUM_UNZIPPED_BYTES:
        yield (
            f"The package takes {size:,} bytes unpacked, and Lambda takes "
            f"{MAXIMUM_UNZIPPED_BYTES:,}, layers included: leave something out (see the sizes), "
            "or deploy an image (--image)."
        )


def missing_handler(directory: Path, handler: str) -> Iterator[str]:
    """Check that the function *handler* is in *directory*."""
    module, _, name = handler.rpartition(".")
    if not module or not name:
        yield f'The handler is {handler!r}: it is to be "module.function".'
        return
    path = _module(directory, module.replace("/", "."))
    if path is None:
        yield f"The handler's module {module} is not in the package: is its name spelt right?"
    elif not _may_define(path, name):
        yield f"The handler's module {module} is in the package, and has no {name}."


def missing_app(directory: Path, app: str) -> Iterator[str]:
    """Check that the Celery app *app*, as after ``celery -A``, is in *directory*."""
    module, _, name = app.partition(":")
    path = _module(directory, module)
    if path is not None:
        if name and "." not in name and not _may_define(path, name):
            yield f"The app's module {module} is in the package, and has no {name}."
        return
    parent, _, last = module.rpartition(".")  # "proj.app" may mean the app in the module proj
    path = _module(directory, parent) if parent else None
    if path is None or name or not _may_define(path, last):
        yield (
            f"The app's module {module} is not in the package: is it spelt as after `celery -A`, "
            "and is it not left out (tests, what git ignores, --exclude)?"
        )


def foreign_wheels(distributions: Iterable[Installed], target: Target) -> Iterator[str]:
    """Check that each wheel runs at *target*."""
    supported = target.tags()
    for each in distributions:
        if each.tags and not each.tags & supported:
            tags = ", ".join(sorted(map(str, each.tags))[:3])
            yield (
                f"{each.name} {each.version} is a wheel for {tags}, and the package is for "
                f"{target}: require a version that has a wheel for that."
            )


def foreign_libraries(directory: Path, target: Target) -> Iterator[str]:
    """Check that each native library and program in *directory* is one of *target*."""
    if target.glibc_minor is None:
        return
    for path in files_in(directory):
        name = path.relative_to(directory).as_posix()
        with path.open("rb") as file:
            head = file.read(len(elf.MAGIC))
        if head == elf.MAGIC:
            yield from _foreign_elf(path, name, target, target.glibc_minor)
            continue
        is_native = ".so" in path.suffixes or path.suffix in {".pyd", ".dylib", ".dll"}
        if is_native and head.startswith(_NATIVE_ELSEWHERE):
            yield f"{name} is no library of Linux: install the wheel for Linux."


def _foreign_elf(path: Path, name: str, target: Target, glibc_minor: int) -> Iterator[str]:
    try:
        library = elf.read(path.read_bytes())
    except struct.error:
        yield f"{name} is cut off: install it anew."
        return
    if library.machine != target.machine:
        yield f"{name} is for {library.machine}, and the package is for {target.machine}."
    if library.glibc_minor > glibc_minor:
        yield (
            f"{name} needs glibc 2.{library.glibc_minor}, and {target} has 2.{glibc_minor}: "
            "require a version that has a wheel for that, or build it on the Amazon Linux of the "
            "runtime."
        )
    if (found := _CPYTHON.search(path.name)) and found.groups() != _digits(target):
        yield (
            f"{name} is for Python {'.'.join(found.groups())}, and the package is for "
            f"{target.version}."
        )


def unmet_requirements(
    distributions: Collection[Installed], target: Target, left_to_runtime: Collection[str]
) -> Iterator[str]:
    """Check that this project is among *distributions*, with all that it needs in a function."""
    versions = {each.name: each.version for each in distributions}
    own = next((each for each in distributions if each.name == OWN_NAME), None)
    if own is None:
        yield (
            f"{OWN_NAME} is not among the project's requirements: add the line "
            f"`{OWN_NAME}[{_RUNTIME_EXTRA}]`."
        )
        return
    for requirement in own.requires:
        name = requirement.name.lower().replace("_", "-")
        if not _is_needed(requirement, target) or name in left_to_runtime:
            continue
        found = versions.get(name)
        if found is None:
            yield (
                f"{name} is not in the package, which a function needs: require "
                f"`{OWN_NAME}[{_RUNTIME_EXTRA}]` in the place of `{OWN_NAME}`."
            )
        elif not requirement.specifier.contains(found, prereleases=True):
            yield (
                f"{name} {found} is in the package, and {OWN_NAME} {own.version} needs "
                f"{requirement.specifier}: change the project's requirement."
            )


def _is_needed(requirement: Requirement, target: Target) -> bool:
    version = {"python_version": target.version, "python_full_version": f"{target.version}.0"}
    marker = requirement.marker
    return marker is None or marker.evaluate({**_ENVIRONMENT, **version})


def _digits(target: Target) -> tuple[str, ...]:
    return tuple(map(str, target.python))


def _module(directory: Path, name: str) -> Path | None:
    """Return the file of the module *name*, or the directory of one without ``__init__``."""
    base = directory.joinpath(*name.split("."))
    if (base / "__init__.py").is_file():
        return base / "__init__.py"
    file = base.parent / f"{base.name}.py"
    if file.is_file():
        return file
    native = sorted(base.parent.glob(f"{base.name}.*so"))
    return native[0] if native else (base if base.is_dir() else None)


def _may_define(path: Path, name: str) -> bool:
    """Whether the module in *path* has *name*, as far as its source tells."""
    if path.is_dir():
        return False
    if path.suffix != ".py":
        return True
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:
        return False
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                # A module may make its names when it is asked for them.
                if node.name in {name, "__getattr__"}:
                    return True
            case ast.Name(id=found, ctx=ast.Store()) if found == name:
                return True
            case ast.ImportFrom() | ast.Import():
                bound = {each.asname or each.name.partition(".")[0] for each in node.names}
                if bound & {name, "*"}:
                    return True
    return (path.name == "__init__.py") and _module(path.parent, name) is not None
