"""Wheels made by hand, so that no test of packaging needs an index."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def wheel(
    house: Path,
    name: str,
    files: Mapping[str, bytes],
    *,
    version: str = "1.0",
    requires: Iterable[str] = (),
    tag: str = "py3-none-any",
    wheel_tag: str | None = None,
) -> Path:
    """Write a wheel to the directory *house*; *wheel_tag* is what it says inside."""
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {each}" for each in requires]
    extras = {
        each.partition("extra ==")[2].strip(" '\"") for each in requires if "extra ==" in each
    }
    metadata += [f"Provides-Extra: {each}" for each in sorted(extras)]
    inside = {"METADATA": "\n".join(metadata) + "\n"}
    return _write(house, name, version, files, inside, tag, wheel_tag)


def repacked(house: Path, names: Iterable[str]) -> None:
    """Write wheels of what is installed here: *names*, and all that they require."""
    done: set[str] = set()
    pending = [Requirement(each) for each in names]
    while pending:
        wanted = pending.pop()
        for text in distribution(wanted.name).requires or ():
            each = Requirement(text)
            extras = ["", *wanted.extras]
            if each.marker is None or any(each.marker.evaluate({"extra": e}) for e in extras):
                pending.append(each)
        if wanted.name.lower() not in done:
            done.add(wanted.name.lower())
            _repack(house, distribution(wanted.name))


def this_project(house: Path) -> None:
    """Write a wheel of the code in this checkout."""
    metadata = distribution("lambda-celery")
    files = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for package in ("lambda_celery", "lambda_runtime")
        for path in sorted((ROOT / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    # What setuptools left in the checkout is found before what is installed, where that comes
    # first on the path; it calls the metadata PKG-INFO.
    inside = {
        "METADATA": metadata.read_text("METADATA") or metadata.read_text("PKG-INFO") or "",
        "entry_points.txt": metadata.read_text("entry_points.txt") or "",
    }
    _write(house, "lambda_celery", metadata.version, files, inside, "py3-none-any")


def _repack(house: Path, installed: Distribution) -> None:
    name = installed.metadata["Name"]
    if name == "lambda-celery":
        this_project(house)
        return
    files, inside = {}, {}
    for each in installed.files or ():
        if ".." in each.parts or each.suffix == ".pyc":
            continue
        if each.parts[0].endswith(".dist-info"):
            if each.name in {"METADATA", "entry_points.txt"}:
                inside[each.name] = each.read_text()
        else:
            files[each.as_posix()] = each.read_binary()
    tags = [
        line.removeprefix("Tag: ").strip()
        for line in (installed.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag: ")
    ]
    _write(house, name, installed.version, files, inside, tags[-1])


def _write(
    house: Path,
    name: str,
    version: str,
    files: Mapping[str, bytes],
    inside: Mapping[str, str],
    tag: str,
    wheel_tag: str | None = None,
) -> Path:
    name = name.replace("-", "_")
    info = f"{name}-{version}.dist-info"
    head = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n"
    contents = dict(files) | {f"{info}/{key}": text.encode() for key, text in inside.items()}
    contents[f"{info}/WHEEL"] = f"{head}Tag: {wheel_tag or tag}\n".encode()
    record = "".join(
        f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in contents.items()
    )
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    path = house / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for each, data in contents.items():
            archive.writestr(each, data)
    return path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
