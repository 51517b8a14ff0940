"""What an execution environment on Lambda lacks, the local function's processes lack too."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lambda_celery.local.function import LocalFunction

MakeFunction = Callable[..., LocalFunction]
Run = Callable[[str], Any]

#: Runs the code in the event, and returns what it calls "answer", or the error's name.
HANDLER = """
import errno

def handler(event, context):
    names = {}
    try:
        exec(event["code"], names)
    except OSError as exc:
        return errno.errorcode[exc.errno]
    return names.get("answer")
"""


def run_in(function: LocalFunction, code: str) -> Any:
    result = function.invoke({"code": code})
    assert result.error is None
    return result.payload


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as it is deployed: nothing in it may change."""
    directory = tmp_path_factory.mktemp("project")
    (directory / "lambda_module.py").write_text(HANDLER)
    (directory / "file").write_text("as deployed")
    (directory / "directory").mkdir()
    os.mkfifo(directory / "fifo")
    (directory / "dangling").symlink_to("missing")
    return directory


@pytest.fixture(scope="module")
def module_run(project: Path) -> Iterator[Run]:
    """Run code in a process that the module's tests share, as they leave nothing behind."""
    with LocalFunction("lambda_module.handler", working_directory=project) as function:
        yield lambda code: run_in(function, code)


@pytest.fixture
def make_function(project: Path, local_function: MakeFunction) -> MakeFunction:
    """Make a function of the project, with Lambda's places to write to, unless told otherwise."""

    def make(**options: Any) -> LocalFunction:
        options = {"working_directory": project, "writable": (), "timeout_seconds": 20} | options
        return local_function("lambda_module.handler", **options)

    return make


@pytest.mark.parametrize(
    "code",
    [
        "import multiprocessing; multiprocessing.Lock()",
        "import multiprocessing; multiprocessing.Semaphore()",
        "import multiprocessing; multiprocessing.Queue()",
        "import multiprocessing; multiprocessing.Value('i')",
        "import multiprocessing; multiprocessing.get_context('spawn').Event()",
        "import multiprocessing; multiprocessing.Pool(2)",
        "from multiprocessing.pool import ThreadPool; ThreadPool(2)",
        "from concurrent.futures import ProcessPoolExecutor as P; P(2).submit(abs, 1)",
        "from multiprocessing.shared_memory import SharedMemory as S; S(create=True, size=1)",
        "import billiard; billiard.Lock()",
        "import billiard; billiard.Pool(2)",
    ],
)
def test_there_are_no_semaphores(module_run: Run, code: str) -> None:
    assert module_run(code) == "ENOSYS"


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (
            "from concurrent.futures import ThreadPoolExecutor\n"
            "with ThreadPoolExecutor(2) as executor: answer = list(executor.map(abs, [-1, -2]))",
            [1, 2],
        ),
        (
            "import multiprocessing\n"
            "ours, its = multiprocessing.Pipe()\n"
            "child = multiprocessing.get_context('fork').Process(target=its.send, args=('done',))\n"
            "child.start()\n"
            "answer = ours.recv()\n"
            "child.join()",
            "done",
        ),
        ("import threading\nwith threading.Lock(): answer = 1", 1),
        (
            "from multiprocessing.sharedctypes import RawArray\nanswer = RawArray('i', 3)[:]",
            [0] * 3,
        ),
        ("import billiard, celery, kombu.transport.memory\nanswer = 1", 1),
        ("from multiprocessing.synchronize import SEM_VALUE_MAX\nanswer = SEM_VALUE_MAX > 0", True),
    ],
    ids=["threads", "pipe", "lock", "memory", "celery", "constants"],
)
def test_what_needs_no_semaphore_works(module_run: Run, code: str, answer: Any) -> None:
    assert module_run(code) == answer


#: What a read-only file system on Linux answers.
WRITES = {
    "open('file', 'w')": "EROFS",
    "open('file', 'ab')": "EROFS",
    "open('file', 'r+')": "EROFS",
    "open(b'file', 'w')": "EROFS",
    "open('file', 'x')": "EEXIST",
    "open('new', 'w')": "EROFS",
    "open('new', 'x')": "EROFS",
    "open('new', 'r+')": "ENOENT",
    "open('missing/new', 'w')": "ENOENT",
    "open('dangling', 'w')": "EROFS",
    "open('directory', 'w')": "EISDIR",
    "pathlib.Path('new').write_text('')": "EROFS",
    "pathlib.Path('file').touch()": "EROFS",
    "os.open('new', os.O_CREAT)": "EROFS",
    "os.open('file', os.O_TRUNC)": "EROFS",
    "os.open(here + '/new', os.O_WRONLY | os.O_CREAT)": "EROFS",
    "tempfile.NamedTemporaryFile(dir='directory')": "EROFS",
    "tempfile.TemporaryFile(dir='directory')": "EROFS",
    "os.mkdir('new')": "EROFS",
    "os.mkdir('directory')": "EEXIST",
    "os.mkdir('missing/new')": "ENOENT",
    "pathlib.Path('new/deep').mkdir(parents=True)": "EROFS",
    "os.mkdir('new', dir_fd=os.open('directory', os.O_RDONLY))": "EROFS",
    "os.remove('file')": "EROFS",
    "os.remove('missing')": "EROFS",
    "os.remove('missing/file')": "ENOENT",
    "os.rmdir('directory')": "EROFS",
    "os.rename('file', 'new')": "EROFS",
    "os.replace('missing', 'new')": "EROFS",
    "os.rename('file', 'missing/new')": "ENOENT",
    "os.rename('file', tempfile.mkdtemp() + '/file')": "EXDEV",
    "os.rename(tempfile.mkstemp()[1], 'new')": "EXDEV",
    "shutil.move(tempfile.mkstemp()[1], 'new')": "EROFS",
    "shutil.copy('file', 'new')": "EROFS",
    "shutil.rmtree('directory')": "EROFS",
    "os.link('file', 'new')": "EROFS",
    "os.link('missing', 'new')": "ENOENT",
    "os.link('file', 'directory')": "EEXIST",
    "os.link('file', tempfile.mkdtemp() + '/file')": "EXDEV",
    "os.symlink('file', 'new')": "EROFS",
    "os.symlink('file', 'file')": "EEXIST",
    "os.truncate('file', 0)": "EROFS",
    "os.truncate('missing', 0)": "ENOENT",
    "os.chmod('file', 0o600)": "EROFS",
    "os.chown('file', -1, -1)": "EROFS",
    "os.utime('file')": "EROFS",
    "logging.FileHandler('app.log')": "EROFS",
    "logging.handlers.RotatingFileHandler('app.log')": "EROFS",
}
IMPORTS = "import logging.handlers, os, pathlib, shutil, sqlite3, subprocess, sys, tempfile\n"


@pytest.mark.parametrize(("code", "error"), WRITES.items(), ids=WRITES)
def test_the_file_system_is_read_only(
    project: Path, module_run: Run, code: str, error: str
) -> None:
    assert module_run(f"{IMPORTS}here = {str(project)!r}\n{code}") == error

    assert (project / "file").read_text() == "as deployed"
    assert not (project / "new").exists()


READS = {
    "answer = open('file').read()": "as deployed",
    "answer = len(os.listdir('directory'))": 0,
    "open(os.devnull, 'w').close()": None,
    "open('/dev/stderr', 'w').close()": None,
    "os.close(os.open('fifo', os.O_RDWR))": None,
    "answer = os.read(os.open('file', os.O_RDONLY | os.O_CREAT), 2).decode()": "as",
    "pathlib.Path('directory').mkdir(exist_ok=True)": None,
    "os.makedirs('directory', exist_ok=True)": None,
    "read, write = os.pipe(); open(write, 'w').write('x'); answer = os.read(read, 1).decode()": "x",
    "import tomllib; answer = tomllib.loads('a = 1')": {"a": 1},
    "answer = subprocess.run(['echo', 'hello'], capture_output=True, text=True).stdout": "hello\n",
}


@pytest.mark.parametrize(("code", "answer"), READS.items(), ids=READS)
def test_what_changes_no_file_works(module_run: Run, code: str, answer: Any) -> None:
    assert module_run(IMPORTS + code) == answer


WRITES_TO_TMP = {
    "named temporary file": "tempfile.NamedTemporaryFile().write(b'x')",
    "temporary file": "tempfile.TemporaryFile().write(b'x')",
    "temporary directory": "with tempfile.TemporaryDirectory() as made: os.mkdir(made + '/x')",
    "file": "open(tmp + '/x', 'w').write('x'); os.rename(tmp + '/x', tmp + '/y')",
    "moved": "shutil.move(shutil.copy('file', tmp), tmp + '/b'); os.chmod(tmp + '/b', 0o600)",
    "tree": "shutil.copytree('directory', tmp + '/copy'); shutil.rmtree(tmp + '/copy')",
    "by directory": "d = os.open(tmp, 0); os.mkdir('z', dir_fd=d); os.chmod('z', 0o700, dir_fd=d)",
    "links": "os.symlink('x', tmp + '/l'); os.link(tmp + '/l', tmp + '/m')",
    "hard-coded": "os.rmdir(tempfile.mkdtemp(dir='/tmp'))",
    "log": "logging.FileHandler(tmp + '/app.log').close()",
}


@pytest.mark.parametrize("code", WRITES_TO_TMP.values(), ids=WRITES_TO_TMP)
def test_tmp_is_writable(module_run: Run, code: str) -> None:
    assert module_run(f"{IMPORTS}tmp = tempfile.mkdtemp()\n{code}\nanswer = 'fine'") == "fine"


def test_a_sqlite_file_in_the_project_works(module_run: Run) -> None:
    """It stands for a database server, which a developer's machine may not have."""
    code = """
import os, sqlite3
database = sqlite3.connect("db.sqlite3")
database.execute("CREATE TABLE IF NOT EXISTS members (name)")
database.execute("INSERT INTO members VALUES ('ann')")
database.commit()
answer = database.execute("SELECT name FROM members").fetchall()
"""
    assert module_run(code) == [["ann"]]


@pytest.mark.parametrize("name", ["file", "new"])
def test_the_error_is_the_systems_own(module_run: Run, name: str) -> None:
    code = f"""
try:
    open({name!r}, "w")
except OSError as exc:
    answer = [type(exc).__name__, str(exc), exc.errno, exc.filename, exc.__context__]
"""
    text = f"[Errno {errno.EROFS}] {os.strerror(errno.EROFS)}: {name!r}"
    assert module_run(code) == ["OSError", text, errno.EROFS, name, None]


def test_each_path_is_told_once(
    project: Path, make_function: MakeFunction, capfd: pytest.CaptureFixture[str]
) -> None:
    function = make_function()
    for code in ["open('file', 'w')", "open('file', 'a')", "open('new', 'w')"]:
        run_in(function, code)

    lines = [line for line in capfd.readouterr().err.splitlines() if "--writable" in line]
    assert lines == [
        f"{project / name} was not written: on Lambda only /tmp can be. Write to "
        "tempfile.gettempdir(); if it stands for a service on this machine, run "
        f"`lambda local --writable {project / name}`."
        for name in ("file", "new")
    ]


def test_what_is_named_is_writable(tmp_path: Path, make_function: MakeFunction) -> None:
    (tmp_path / "lambda_module.py").write_text(HANDLER)
    (tmp_path / "mails").mkdir()
    function = make_function(
        working_directory=tmp_path, writable=[Path("mails"), tmp_path / ".coverage"]
    )

    assert run_in(function, "open('mails/1', 'w').close(); open('.coverage', 'w').close()") is None
    assert run_in(function, "open('other', 'w').close()") == "EROFS"

    assert (tmp_path / "mails/1").exists()
    assert (tmp_path / ".coverage").exists()


def test_compiled_modules_are_kept(tmp_path: Path, make_function: MakeFunction) -> None:
    """Else every cold start would compile what has been changed since."""
    (tmp_path / "lambda_module.py").write_text(HANDLER)

    run_in(
        make_function(working_directory=tmp_path, environment={"PYTHONDONTWRITEBYTECODE": ""}),
        "",
    )

    assert list((tmp_path / "__pycache__").glob("lambda_module.*.pyc"))


TMP = "import tempfile; answer = tempfile.gettempdir()"


def test_two_environments_have_a_tmp_each(tmp_path: Path, make_function: MakeFunction) -> None:
    function = make_function(maximum_concurrency=2, writable=[tmp_path])
    meet = f"""
import os, tempfile, time
answer = tempfile.gettempdir()
open({str(tmp_path)!r} + f"/{{os.getpid()}}", "w").close()
while len(os.listdir({str(tmp_path)!r})) < 2:
    time.sleep(0.01)
"""
    with ThreadPoolExecutor(2) as executor:
        first, second = executor.map(lambda _: run_in(function, meet), range(2))

    assert first != second
    assert tempfile.gettempdir() not in (first, second)


def test_tmp_lasts_as_long_as_the_environment(make_function: MakeFunction) -> None:
    function = make_function()
    tmp = Path(run_in(function, f"{TMP}; open(answer + '/lock', 'w').close()"))

    assert run_in(function, f"{TMP}; import os; answer = os.listdir(answer)") == ["lock"]

    function.close()

    assert not tmp.exists()


@pytest.mark.parametrize("end", ["crash", "time-out", "killed while idle", "recycled"])
def test_the_successor_has_an_empty_tmp(make_function: MakeFunction, end: str) -> None:
    function = make_function(timeout_seconds=1)
    tmp = Path(run_in(function, f"{TMP}; open(answer + '/lock', 'w').close()"))
    if end == "crash":
        assert function.invoke({"code": "import os; os._exit(1)"}).error is not None
        assert not tmp.exists()
    elif end == "time-out":
        assert function.invoke({"code": "import time; time.sleep(600)"}).error is not None
        assert not tmp.exists()
    elif end == "killed while idle":
        os.kill(function.process_ids()[0], signal.SIGKILL)
        while function.process_ids():
            threading.Event().wait(0.01)
    else:
        function.recycle()
        assert not tmp.exists()

    successor = run_in(function, f"{TMP}; import os; answer = [answer, os.listdir(answer)]")

    assert successor[0] != str(tmp)
    assert successor[1] == []
    assert not tmp.exists()


def test_a_handler_that_cannot_be_loaded_leaves_no_tmp(
    tmp_path: Path, make_function: MakeFunction
) -> None:
    noted = tmp_path / "noted"
    (tmp_path / "lambda_module.py").write_text(
        f"import tempfile; open({str(noted)!r}, 'w').write(tempfile.gettempdir()); broken"
    )
    function = make_function(working_directory=tmp_path, writable=[noted])

    assert function.invoke({}).error is not None

    assert not Path(noted.read_text()).exists()


def test_it_is_started_as_by_dash_m(project: Path, module_run: Run) -> None:
    answer = module_run("import os, sys; answer = [sys.argv, sys.path[0], os.getcwd()]")

    [program, handler], first, directory = answer
    assert program.endswith("awslambdaric/__main__.py")
    assert handler == "lambda_module.handler"
    assert first == directory == str(project.resolve())
