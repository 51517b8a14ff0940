"""Processes, threads, and what ends them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lambda_celery.check.bodies import Body, Call
from lambda_celery.check.facts import Facts
from lambda_celery.check.model import Finding, Grade, registry
from lambda_celery.check.rules.finding import task_calls

_SUBPROCESSES = (
    "subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output",
    "subprocess.Popen", "subprocess.getoutput", "subprocess.getstatusoutput", "os.system",
    "os.popen", "os.exec*", "os.spawn*", "os.posix_spawn*", "pty.spawn",
    "asyncio.create_subprocess_*", "asyncio.subprocess.create_subprocess_*", "pexpect.*", "sh.*",
    "plumbum.*", "delegator.*",
    "invoke.run", "fabric.*", "billiard.*.Popen", "distutils.spawn.*", "shutil.which",
)  # fmt: skip
#: Packages that start a program, or load a library, which Lambda does not have.
_BINARIES = {
    "pdfkit": "wkhtmltopdf", "imgkit": "wkhtmltoimage", "wkhtmltopdf": "wkhtmltopdf",
    "weasyprint": "Pango", "playwright": "a browser", "pyppeteer": "a browser",
    "selenium": "a browser", "splinter": "a browser", "ffmpeg": "ffmpeg", "moviepy": "ffmpeg",
    "pydub": "ffmpeg", "imageio_ffmpeg": "ffmpeg", "wand": "ImageMagick",
    "pytesseract": "tesseract", "pdf2image": "poppler", "cairosvg": "cairo", "unoconv":
    "LibreOffice", "unoserver": "LibreOffice", "docker": "a Docker daemon", "git": "git",
    "pypandoc": "pandoc", "graphviz": "Graphviz", "pygraphviz": "Graphviz", "pydot": "Graphviz",
    "django.contrib.gis.gdal": "GDAL", "osgeo": "GDAL", "fiona": "GDAL", "rasterio": "GDAL",
    "magic": "libmagic", "pyvips": "libvips", "rarfile": "unrar", "patoolib": "archive programs",
    "textract": "several programs", "ocrmypdf": "tesseract and Ghostscript", "camelot":
    "Ghostscript", "tabula": "Java", "jpype": "Java", "pyspark": "Java", "yt_dlp": "ffmpeg",
    "youtube_dl": "ffmpeg", "gnupg": "gpg", "pyzbar": "zbar", "cv2": "OpenCV's libraries",
    "dbbackup": "the database's dump program", "easy_thumbnails.processors": "an image optimiser",
    "compressor": "compressor programs", "webdriver_manager": "a browser", "xvfbwrapper": "Xvfb",
}  # fmt: skip
_MULTIPROCESSING = ("multiprocessing", "billiard", "multiprocess")
_WITHOUT_SEMAPHORES = ("Process", "Pipe", "current_process", "active_children", "cpu_count",
                       "parent_process", "get_context", "freeze_support")  # fmt: skip
_POOLS = ("concurrent.futures.ThreadPoolExecutor",)
_THREADS = ("threading.Thread", "threading.Timer", "threading.start_new_thread", "gevent.spawn",
            "eventlet.spawn", "asyncio.run_coroutine_threadsafe", "gevent.Greenlet.spawn",
            "django.utils.autoreload.*")  # fmt: skip
_ENDINGS = ("os._exit", "os.abort", "os.kill", "os.killpg", "signal.raise_signal", "sys.exit",
            "builtins.exit", "builtins.quit")  # fmt: skip


@registry.rule("subprocess", "Subprocesses")
def subprocess_(facts: Facts) -> Iterator[Finding]:
    """A task starts another program.

    Lambda's images have Python, a shell and coreutils, and little else: no `git`, no ImageMagick,
    no `ffmpeg`. Put the program in a layer or in the image (`package_type = "image"`), for the
    function's architecture. Give the call a time-out: a time limit that strikes in the task does
    not end its children. What the program writes has to be below `/tmp`.
    """
    for task, step, call in task_calls(facts, _SUBPROCESSES):
        program = _program(call)
        yield task.finding(
            "subprocess",
            Grade.AMBER,
            f"{call.text}() starts {program or 'another program'}, which the function may not "
            "have.",
            "Put the program into a layer or the image, and give the call a time-out.",
            call.place,
            step,
        )


def _program(call: Call) -> str | None:
    """Return the program that *call* starts, if it is written there."""
    if not call.node.args:
        return None
    first = call.node.args[0]
    if isinstance(first, ast.List | ast.Tuple) and first.elts:
        first = first.elts[0]
    value = call.constant(first)
    if isinstance(value, list | tuple) and value:
        value = value[0]
    return value.split()[0] if isinstance(value, str) and value.split() else None


@registry.rule("binary", "A package that needs a program or a native library")
def binary(facts: Facts) -> Iterator[Finding]:
    """A task calls a package that works by a program, or a library of the system, of its own.

    Such as pdfkit (wkhtmltopdf), WeasyPrint (Pango), Playwright and Selenium (a browser),
    pydub (ffmpeg), Wand (ImageMagick), pytesseract, GDAL, GitPython. A wheel does not contain it.
    Put it into a layer or the image, or keep the task on a worker.
    """
    for task in facts.tasks:
        seen = set()
        for step, call in task.calls:
            for name in call.names:
                package = next(
                    (each for each in _BINARIES if name == each or name.startswith(f"{each}.")),
                    None,
                )
                if package is None or (package, step.body.source.path) in seen:
                    continue
                seen.add((package, step.body.source.path))
                yield task.finding(
                    "binary",
                    Grade.AMBER,
                    f"{call.text}() is of {package}, which needs {_BINARIES[package]}: no wheel "
                    "has it, and Lambda does not.",
                    "Put it into a layer or the image, or keep the task on a worker.",
                    call.place,
                    step,
                )


@registry.rule("multiprocessing", "Semaphores and pools of processes")
def multiprocessing_(facts: Facts) -> Iterator[Finding]:
    """A task uses `multiprocessing` (or billiard), `ProcessPoolExecutor`, joblib or `os.fork`.

    Lambda has no `/dev/shm`, so `Pool`, `Queue`, `Lock` and all that has a semaphore raises
    `OSError: Function not implemented`: red, `ThreadPool` included. `Process`, `Pipe` and
    `os.fork` work, and are amber: a child must end with its task. Use `ThreadPoolExecutor`, or
    a group of tasks.
    """
    for task in facts.tasks:
        for step, call in task.calls:
            for name in sorted(call.names):
                parts = name.split(".")
                if "()" in name:
                    continue
                if parts[0] in _MULTIPROCESSING and len(parts) > 1:
                    if parts[-1] in _WITHOUT_SEMAPHORES and parts[-1] not in ("Process",):
                        continue
                    grade = Grade.AMBER if parts[-1] == "Process" else Grade.RED
                elif name in ("concurrent.futures.ProcessPoolExecutor",):
                    grade = Grade.RED
                elif (parts[0] == "joblib" and parts[-1] == "Parallel") or name == "os.fork":
                    grade = Grade.AMBER
                else:
                    continue
                what = (
                    "needs semaphores or shared memory, which Lambda does not have"
                    if grade is Grade.RED
                    else "makes processes, which must end with the task"
                )
                yield task.finding(
                    "multiprocessing",
                    grade,
                    f"{call.text}() {what}.",
                    "Use concurrent.futures.ThreadPoolExecutor, or a group of tasks.",
                    call.place,
                    step,
                )
                break


@registry.rule("thread", "Threads left running")
def thread(facts: Facts) -> Iterator[Finding]:
    """A task starts a thread, and the function it does so in does not wait for it.

    Lambda freezes the environment between two invocations: what still runs stops, goes on
    within another invocation minutes later, or never. Wait for it before the task ends, by
    `join()` or `with ThreadPoolExecutor() as …`; or make it a task of its own.
    """
    for task, step, call in task_calls(facts, (*_THREADS, *_POOLS)):
        if _is_waited_for(call):
            continue
        yield task.finding(
            "thread",
            Grade.AMBER,
            f"{call.text}() makes a thread that may still run when the task has ended; Lambda "
            "freezes it then.",
            "Wait for it (join, or a with block), or make it a task of its own.",
            call.place,
            step,
        )


def _is_waited_for(call: Call) -> bool:
    body: Body = call.body
    for node in body.nodes:
        if isinstance(node, ast.withitem) and any(n is call.node for n in ast.walk(node)):
            return True
    return any(
        each.receiver is not None
        and (
            (each.attribute == "join" and not each.node.args and _is_thread(each))
            or (each.attribute == "shutdown" and each.constant(each.keyword("wait")) is not False)
            or each.attribute == "joinall"
        )
        for each in body.calls
    )


def _is_thread(call: Call) -> bool:
    """Whether ``x.join()`` may wait for a thread: a text's has an argument."""
    return not isinstance(call.receiver, ast.Constant)


@registry.rule("process-end", "Ending the process, or signals")
def process_end(facts: Facts) -> Iterator[Finding]:
    """A task ends its process (`os._exit`, `os.kill`, `sys.exit`) or installs a signal handler.

    `sys.exit` is a failure of that task. `os._exit` and signals to the own process take the
    environment away from the batch's other messages, which come back. A handler stays behind for
    the tasks that follow. `SIGALRM` may be used: an alarm that is left behind is cancelled.
    """
    for task, step, call in task_calls(facts, (*_ENDINGS, "signal.signal")):
        if call.matches(("signal.signal",)):
            which = call.node.args[0] if call.node.args else None
            if which is not None and "SIGALRM" in ast.unparse(which):
                continue
            sentence = f"{call.text}() sets a signal handler, which stays for other tasks."
        elif call.matches(("sys.exit", "builtins.exit", "builtins.quit")):
            sentence = f"{call.text}() does not end the process: it is a failure of the task."
        else:
            sentence = f"{call.text}() may end the process with the batch's other messages."
        yield task.finding(
            "process-end", Grade.AMBER, sentence, "Raise an exception instead.", call.place, step
        )


#: Commands of Django's that write nothing but the database.
_COMMANDS = {
    "clearsessions", "check", "flush", "update_index", "rebuild_index", "clear_cache",
    "remove_stale_contenttypes", "createcachetable", "cleartokens", "flushexpiredtokens",
}  # fmt: skip
#: Commands that write files.
_WRITING_COMMANDS = {"collectstatic", "compress", "makemessages", "compilemessages", "dbbackup",
                     "mediabackup", "makemigrations", "startapp", "dumpdata"}  # fmt: skip


@registry.rule("management-command", "Management commands")
def management_command(facts: Facts) -> Iterator[Finding]:
    """A task runs a command by Django's `call_command`.

    A command may do anything: write files, ask on the terminal, run for hours. Those that write
    files (`collectstatic`, `compress`, `dbbackup`) are red. A few of Django's that only use
    the database are fine. Look at the others, or put what they do in a function that the
    task calls: the check follows that.
    """
    for task, step, call in task_calls(facts, ("django.core.management.call_command",)):
        name = call.constant(call.argument(0, "command_name"))
        if name in _COMMANDS:
            continue
        is_writing = name in _WRITING_COMMANDS
        yield task.finding(
            "management-command",
            Grade.RED if is_writing else Grade.AMBER,
            f"call_command({name!r}) writes files, and Lambda's file system is read-only."
            if is_writing
            else f"The task runs the management command {name or '(any)'}, which is not looked at.",
            "Run it before the deployment, or elsewhere."
            if is_writing
            else "Look at what it does, or call a function that does it.",
            call.place,
            step,
        )
