"""What a task writes to the disk, and reads from it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from typing import Any

from lambda_celery.check.bodies import Call
from lambda_celery.check.facts import Facts
from lambda_celery.check.model import Finding, Grade, registry
from lambda_celery.check.rules.finding import is_temporary, task_calls

_REMEDY = "Write below tempfile.gettempdir(), or to a storage in S3."
#: Functions that open a file, and where their mode is.
_OPENING = {
    "builtins.open": 1, "codecs.open": 1, "gzip.open": 1, "bz2.open": 1, "lzma.open": 1,
    "tarfile.open": 1, "zipfile.ZipFile": 1, "wave.open": 1, "aiofiles.open": 1, "os.fdopen": 1,
    "gzip.GzipFile": 1, "tarfile.TarFile.open": 1, "pathlib.Path().open": 0,
}  # fmt: skip
#: Functions that write to a path, and which of their arguments that path is.
_WRITING = {
    "os.makedirs": 0, "os.mkdir": 0, "os.rename": 1, "os.replace": 1, "os.renames": 1,
    "os.remove": 0, "os.unlink": 0, "os.rmdir": 0, "os.removedirs": 0, "os.symlink": 1,
    "os.link": 1, "os.truncate": 0, "os.chmod": 0, "os.chown": 0, "os.utime": 0, "os.mkfifo": 0,
    "os.open": 0, "shutil.copy": 1, "shutil.copy2": 1, "shutil.copyfile": 1, "shutil.copytree": 1,
    "shutil.move": 1, "shutil.rmtree": 0, "shutil.make_archive": 0, "shutil.unpack_archive": 1,
    "urllib.request.urlretrieve": 1, "shelve.open": 0, "dbm.open": 0, "sqlite3.connect": 0,
    "pickle.Pickler": 0, "joblib.dump": 1, "numpy.save": 0, "numpy.savez": 0, "torch.save": 1,
    "matplotlib.pyplot.savefig": 0, "logging.FileHandler": 0, "wget.download": 1,
    "logging.handlers.RotatingFileHandler": 0, "logging.handlers.TimedRotatingFileHandler": 0,
    "xlsxwriter.Workbook": 0, "xlwt.Workbook().save": 0, "openpyxl.Workbook().save": 0,
    "PIL.Image.open().save": 0, "PIL.Image.new().save": 0, "PIL.Image.Image().save": 0,
    "cv2.imwrite": 0, "img2pdf.convert": 1, "django.core.files.move.file_move_safe": 1,
}  # fmt: skip
#: Methods of a path, by whichever name it goes.
_PATH_METHODS = ("write_text", "write_bytes")
_TYPED_PATH_METHODS = (
    "mkdir", "rmdir", "touch", "unlink", "rename", "replace", "symlink_to", "hardlink_to", "chmod",
)  # fmt: skip
#: Methods that write a file if they are given a name.
_EXPORTS = ("to_csv", "to_excel", "to_parquet", "to_json", "to_pickle", "to_feather", "to_hdf",
            "savefig", "write_pdf", "write_png", "extractall", "dump_stats", "download_file",
            "save_model", "screenshot", "save_screenshot")  # fmt: skip
_STORAGES = (
    "django.core.files.storage.default_storage.*", "django.core.files.storage.DefaultStorage().*",
    "django.core.files.storage.storages[].*", "django.core.files.storage.get_storage_class()().*",
)  # fmt: skip
#: The ends of names of settings that are folders or files.
_FOLDERS = ("_ROOT", "_DIR", "_PATH", "_FOLDER", "_DIRECTORY", "_FILE", "BASE_DIR")
_MODULES = ("os", "sys", "posixpath", "ntpath")
#: What reads a file by its path, beside what opens it.
_READING = ("PIL.Image.open", "zipfile.*", "tarfile.*", "openpyxl.load_workbook", "shutil.*",
            "pandas.read_*", "subprocess.*", "os.listdir", "os.scandir", "os.walk", "os.stat",
            "os.path.exists", "os.path.getsize", "os.path.isfile", "os.path.isdir", "glob.*",
            "csv.reader", "fitz.open", "PyPDF2.*", "pypdf.*")  # fmt: skip
_LOCKS = ("fcntl.flock", "fcntl.lockf", "filelock.*", "portalocker.*", "fasteners.*",
          "lockfile.*", "zc.lockfile.*", "django.core.files.locks.lock")  # fmt: skip


@registry.rule("local-file", "Writing to the local disk")
def local_file(facts: Facts) -> Iterator[Finding]:
    """A task writes, moves or deletes a file that is not surely below `/tmp`.

    On Lambda everything else is read-only: `OSError: Read-only file system`. Where the path is
    fixed and is elsewhere, the finding is red; where it cannot be told, it is amber. What comes
    from `tempfile` is fine, and so are files in memory and storages in S3. What another
    task is to read belongs in S3, too: it may run in another environment.
    """
    for task in facts.tasks:
        for step, call in task.calls:
            path = _written_path(call)
            if path is None or is_temporary(call.body, path):
                continue
            value = call.constant(path)
            is_fixed = isinstance(value, str) and _is_path(value)
            shown = repr(value) if is_fixed else "a path that may be outside of /tmp"
            yield task.finding(
                "local-file",
                Grade.RED if is_fixed else Grade.AMBER,
                f"{call.text}() writes to {shown}, and Lambda's file system is read-only but for "
                "/tmp.",  # noqa: S108
                _REMEDY,
                call.place,
                step,
            )


def _is_path(value: str) -> bool:
    return bool(value) and "://" not in value and value != ":memory:"


def _written_path(call: Call) -> ast.expr | None:
    """Return the path that *call* writes to, if it writes."""
    if call.matches(_STORAGES):
        return None
    for name in call.names:
        if name in _OPENING:
            position = _OPENING[name]
            mode = call.argument(position, "mode")
            value = call.constant(mode)
            if mode is None or (isinstance(value, str) and not set(value) & set("wax+")):
                return None
            if name.startswith("pathlib."):
                return call.receiver
            return call.argument(0, "file") or call.argument(0, "name") or call.node
        if name in _WRITING:
            return _argument_or_all(call, _WRITING[name])
    if call.receiver is None:
        return None
    if call.attribute in _PATH_METHODS:
        return call.receiver
    names = call.body.meaning(call.receiver).names
    if call.attribute in _TYPED_PATH_METHODS and any(n.startswith("pathlib.") for n in names):
        return call.receiver
    if call.attribute == "open" and _is_writing_mode(call):
        # Of something unknown: a path, most often, unless it is a storage's or an archive's.
        is_path = any(n.startswith("pathlib.") for n in names)
        return call.receiver if is_path else None
    if call.attribute in _EXPORTS and call.node.args:
        path = call.node.args[0]
        is_name = isinstance(path, ast.Name) and not isinstance(call.constant(path), str)
        is_assigned = is_name and any(
            isinstance(each, ast.Call | ast.JoinedStr | ast.BinOp)
            for each in call.body.assigned.get(getattr(path, "id", ""), [])
        )
        return path if not is_name or is_assigned else None
    return None


def _is_writing_mode(call: Call) -> bool:
    mode = call.constant(call.argument(0, "mode"))
    return isinstance(mode, str) and bool(set(mode) & set("wax+")) and len(mode) <= 3


def _argument_or_all(call: Call, position: int) -> ast.expr | None:
    if position < len(call.node.args):
        return call.node.args[position]
    named = ("path", "dst", "dest", "filename", "name", "src", "database", "base_name")
    found = (call.keyword(each) for each in named)
    return next((each for each in found if each is not None), None) or (
        call.node if not call.node.args and call.node.keywords else None
    )


@registry.rule("shared-tmp", "A fixed name in /tmp")
def shared_tmp(facts: Facts) -> Iterator[Finding]:
    """A task opens a file in `/tmp` by a fixed name.

    Each environment has a `/tmp` of its own: what another task, or the web process, has written
    there is not there. While the environment is warm, a file of an earlier call still is.
    Pass the content, or use S3; for a file of the call's own, `tempfile` makes a new name.
    """
    for task, step, call in task_calls(facts, _OPENING, ("read_text", "read_bytes")):
        path: Any = call.argument(0, "file") if call.matches(_OPENING) else call.receiver
        if isinstance(path, ast.Call) and path.args:
            path = path.args[0]
        value = call.constant(path)
        if isinstance(value, str) and value.startswith("/tmp/"):  # noqa: S108 - it is looked for
            yield task.finding(
                "shared-tmp",
                Grade.AMBER,
                f"{call.text}() uses {value!r}, and each execution environment has a /tmp of its "
                "own, which outlives the call.",
                "Use tempfile for a file of the call's own, and S3 for what others read.",
                call.place,
                step,
            )


@registry.rule("local-path", "Files that the web process has on its disk")
def local_path(facts: Facts) -> Iterator[Finding]:
    """A task uses a folder of the settings, such as `settings.MEDIA_ROOT`, or a file's `.path`.

    The function has another disk than the web process: what was uploaded there, or written by
    another task, is not there. A storage in S3 has no `path`. Open the file by its storage, and
    copy it to `/tmp` where a program needs a file. What is part of the package can be read.
    """
    for task in facts.tasks:
        for step in task.steps:
            opened = {
                id(node)
                for call in step.body.calls
                if call.matches(_OPENING) or call.matches(_WRITING) or call.matches(_READING)
                for argument in [*call.node.args, *(each.value for each in call.node.keywords)]
                for node in ast.walk(argument)
            }
            for node in step.body.nodes:
                if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
                    continue
                base = ast.unparse(node.value)
                is_folder = base.endswith("settings") and node.attr.endswith(_FOLDERS)
                is_file = node.attr == "path" and id(node) in opened and base not in _MODULES
                value = step.body.constant(node)
                if (is_folder and not str(value).startswith("/tmp")) or is_file:  # noqa: S108
                    yield task.finding(
                        "local-path",
                        Grade.AMBER,
                        f"{ast.unparse(node)} is a path on a disk that the function does not "
                        "share.",
                        "Open the file by its storage, in S3; copy it to /tmp if need be.",
                        step.body.source.place(node.lineno),
                        step,
                    )


@registry.rule("local-storage", "Django's files on the local disk")
def local_storage(facts: Facts) -> Iterator[Finding]:
    """A task saves a file by Django's default storage, and that is a `FileSystemStorage`.

    What it writes to `MEDIA_ROOT` raises `OSError: Read-only file system` on Lambda. Set a storage
    in S3 in `STORAGES`. It is red if the default storage is used by its name, and amber where
    another one is, or where a model's file field may be saved.
    """
    django = sys.modules.get("django.core.files.storage")
    if django is None or not _is_file_system(django):
        return
    remedy = "Set a storage in S3 as STORAGES['default'] for the function."
    for task in facts.tasks:
        for step, call in task.calls:
            is_storage = call.matches(_STORAGES) and call.attribute in ("save", "open", "delete")
            is_own = call.matches(("django.core.files.storage.FileSystemStorage*().save",))
            is_content = call.matches(
                ("django.core.files.base.ContentFile", "django.core.files.File",
                 "django.core.files.base.File", "django.core.files.uploadedfile.*UploadedFile")
            )  # fmt: skip
            if call.attribute == "open" and is_storage and not _is_storage_write(call):
                continue
            is_of_field = _is_named_storage(call)
            if is_storage or is_own or is_content or is_of_field:
                yield task.finding(
                    "local-storage",
                    Grade.RED if is_storage or is_own else Grade.AMBER,
                    f"{call.text}() leads to Django's FileSystemStorage, whose folder cannot be "
                    "written on Lambda.",
                    remedy,
                    call.place,
                    step,
                )


def _is_named_storage(call: Call) -> bool:
    """Whether *call* writes to what is called a storage, such as that of a file field."""
    receiver = call.receiver
    name = str(getattr(receiver, "attr", getattr(receiver, "id", "")))
    return call.attribute in ("save", "delete") and name.lower().endswith("storage")


def _is_storage_write(call: Call) -> bool:
    mode = call.constant(call.argument(1, "mode"))
    return isinstance(mode, str) and bool(set(mode) & set("wax+"))


def _is_file_system(storage: Any) -> bool:
    try:
        from django.conf import settings

        if not settings.configured:
            return False
        return isinstance(storage.default_storage, storage.FileSystemStorage) or issubclass(
            type(storage.storages["default"]), storage.FileSystemStorage
        )
    except Exception:  # noqa: BLE001 - a storage that cannot be made here is none of this rule's
        return False


@registry.rule("file-lock", "A lock in a file")
def file_lock(facts: Facts) -> Iterator[Finding]:
    """A task locks a file: `fcntl.flock`, `filelock`, `portalocker`.

    In `/tmp` such a lock holds for its execution environment alone, and elsewhere it cannot be
    made. Use `idempotency_key`, `rate_limit`, a FIFO queue's message group, or a lock in the
    database.
    """
    for task, step, call in task_calls(facts, _LOCKS):
        yield task.finding(
            "file-lock",
            Grade.RED,
            f"{call.text}() locks a file, which no other execution environment sees.",
            "Use idempotency_key, a FIFO queue's message group, or a lock in the database.",
            call.place,
            step,
        )


@registry.rule("django-files", "Django's settings that write files")
def django_files(facts: Facts) -> Iterator[Finding]:
    """Django's settings name files: a SQLite database, a cache or e-mails in files, a log file.

    On Lambda these files cannot be written. A log file is red, since the function would not
    even start. The others are what this machine's settings say: the function's may differ.
    """
    if "django.conf" not in sys.modules:
        return
    from django.conf import settings

    if not settings.configured:
        return
    for alias, database in (getattr(settings, "DATABASES", None) or {}).items():
        if str(database.get("ENGINE", "")).endswith(("sqlite3", "spatialite")):
            yield Finding(
                "django-files",
                Grade.AMBER,
                f"DATABASES[{alias!r}]",
                "SQLite writes a file, which Lambda's file system does not allow.",
                "Give the function a database server, if these are its settings.",
            )
    for alias, cache in (getattr(settings, "CACHES", None) or {}).items():
        backend = str(cache.get("BACKEND", ""))
        if "filebased" in backend or "locmem" in backend:
            what = "writes files" if "filebased" in backend else "is in the process's memory"
            yield Finding(
                "django-files",
                Grade.AMBER,
                f"CACHES[{alias!r}]",
                f"The cache {what}, so execution environments share nothing by it: no lock, no "
                "counter.",
                "Use Redis or the database, if a task relies on it.",
            )
    if "filebased" in str(getattr(settings, "EMAIL_BACKEND", "")):
        yield Finding(
            "django-files",
            Grade.AMBER,
            "EMAIL_BACKEND",
            "The e-mail back end writes files, which Lambda's file system does not allow.",
            "Set another back end for the function, if these are its settings.",
        )
    for name, handler in ((getattr(settings, "LOGGING", None) or {}).get("handlers") or {}).items():
        filename = str(handler.get("filename", "")) if isinstance(handler, dict) else ""
        if filename and not filename.startswith(("/tmp/", "/dev/")):  # noqa: S108
            yield Finding(
                "django-files",
                Grade.RED,
                "LOGGING",
                f"The log handler {name!r} opens {filename} when logging is configured, so the "
                "function would not start.",
                "Use a StreamHandler in the function: what is printed goes to CloudWatch.",
            )
