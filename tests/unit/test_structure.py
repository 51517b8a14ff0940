"""The walls of the house that import-linter's contracts do not see: circles, private names."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("lambda_celery", "lambda_runtime")
    for path in sorted((ROOT / package).rglob("*.py"))
}
#: Where private names of other libraries may be used, and of which.
HOOKS = {
    "lambda_celery.aws.bounded": "botocore and urllib3",
    "lambda_celery.aws.fast_requests": "botocore",
    "lambda_celery.celery_hooks": "Celery",
    "lambda_celery.decoding": "kombu",
    "lambda_celery.payloads": "the SQS Extended Client",
    "lambda_celery.publishing.transport": "kombu, whose transports are made by overriding them",
    "lambda_celery.trace_context": "X-Ray's SDK",
    "lambda_runtime.celery_hooks": "Celery",
    "lambda_runtime.python_hooks": "CPython",
    "lambda_runtime.table.claims": "Powertools",
}
PRIVATE = re.compile(r"_[a-z]\w*$")


def imported(name: str, path: Path) -> set[str]:
    """Return the modules of ours that a module imports, lazily or not, but for annotations."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        pending.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{each.name}" for each in node.names}
            found |= members & MODULES.keys() or {node.module}
    return (found & MODULES.keys()) - {name}


def test_no_module_imports_itself_by_way_of_others():
    graph = {name: imported(name, path) for name, path in MODULES.items()}
    # What imports nothing that is left stands in no circle.
    while free := {name for name, used in graph.items() if not used & graph.keys()}:
        graph = {name: used for name, used in graph.items() if name not in free}
    # And what nothing that is left imports, neither.
    while free := graph.keys() - set().union(*graph.values(), set()):
        graph = {name: used for name, used in graph.items() if name not in free}
    assert not graph, f"These modules stand in a circle of imports: {', '.join(graph)}."


def private_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each use of something private that is not the module's own."""
    own = {
        each.attr
        for each in ast.walk(tree)
        if isinstance(each, ast.Attribute) and ast.unparse(each.value) in {"self", "cls"}
    }
    own |= {
        each.name
        for each in ast.walk(tree)
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("lambda_"):
            parts = [*(node.module or "").split("."), *(each.name for each in node.names)]
            yield from ((node.lineno, each) for each in parts if PRIVATE.match(each))
        elif isinstance(node, ast.Attribute) and PRIVATE.match(node.attr):
            if node.attr not in own and ast.unparse(node.value) != "self":
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "hasattr"}:
            name = node.args[1]
            if isinstance(name, ast.Constant) and PRIVATE.match(str(name.value)):
                yield node.lineno, str(name.value)


@pytest.mark.parametrize("name", MODULES)
def test_private_names_of_libraries_are_used_in_the_hooks_alone(name):
    if any(name == each or name.startswith(f"{each}.") for each in HOOKS):
        return
    #: NamedTuple's methods have an underscore, and are public; so are two of os and of sys.
    public = {
        "first._replace", "message._replace", "outgoing._replace", "os._exit",
        "sys._current_frames", "sys._getframe",
    }  # fmt: skip
    found = [
        f"line {line}: {what}"
        for line, what in private_names(ast.parse(MODULES[name].read_text()))
        if what not in public
    ]
    assert not found, (
        f"{name} uses private names: {found}. Find a public way, or move it to one of "
        f"{', '.join(HOOKS)}, with a test in tests/contract."
    )


def test_every_room_says_what_belongs_there():
    for name, path in MODULES.items():
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), f"{name} has no docstring."


@pytest.mark.parametrize(
    ("contract", "exceptions"),
    [
        ("direction", {"lambda_celery.cli", "lambda_celery.local", "lambda_celery.testing"}),
        (
            "boto",
            {
                "lambda_celery.aws",
                "lambda_celery.payloads",
                "lambda_celery.local",
                "lambda_celery.testing.aws",
            },
        ),
        (
            "powertools",
            {"lambda_runtime.log", "lambda_runtime.metrics", "lambda_runtime.table.claims"},
        ),
        ("extended-client", {"lambda_celery.payloads"}),
    ],
)
def test_a_contract_forgets_no_module(contract, exceptions):
    """import-linter's contracts name what they hold for: a new module must not slip through."""
    walls = configparser.ConfigParser()
    walls.read(ROOT / ".importlinter")
    held = set(walls[f"importlinter:contract:{contract}"]["source_modules"].split())
    packages = {"lambda_celery"} if contract == "direction" else {"lambda_celery", "lambda_runtime"}
    for name in MODULES.keys() - {"lambda_celery", "lambda_runtime"}:
        parts = name.split(".")
        above = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
        if parts[0] in packages and MODULES[name].name != "__init__.py":
            assert above & (held | exceptions), f"{name} is in no contract of {contract!r}."
    assert not held & exceptions
