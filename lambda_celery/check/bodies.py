"""What a function does, as far as its source tells: its calls, under names that can be compared.

A name is resolved as Python would: among what the function imports and assigns, its closure,
its module, and the builtins. Where the module is loaded the object itself is found; elsewhere
the import says its dotted name. ``()`` after a name stands for what the call of it returns, so
that a file name's method is ``pathlib.Path().write_text``.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cached_property
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from celery.local import PromiseProxy, maybe_evaluate

from lambda_celery.check import django_models
from lambda_celery.check.model import Place
from lambda_celery.check.sources import Function, Source, Sources, imports_of, is_of_project

#: The names by which C modules know themselves, and those by which they are imported.
_PUBLIC_NAMES = (
    ("posix.", "os."), ("_io.open", "builtins.open"), ("io.open", "builtins.open"),
    ("pathlib._local.", "pathlib."), ("_thread.", "threading."),
    ("multiprocessing.context.BaseContext.", "multiprocessing."),
    ("multiprocessing.context.", "multiprocessing."),
    ("concurrent.futures.process.", "concurrent.futures."),
    ("concurrent.futures.thread.", "concurrent.futures."),
    ("celery._state.", "celery."), ("celery.canvas.", "celery."),
)  # fmt: skip
_MISSING: Any = object()
_GET_MODEL = {"django.apps.registry.Apps.get_model", "django.apps.apps.get_model"}
_GET_USER_MODEL = "django.contrib.auth.get_user_model"


@dataclass(frozen=True)
class Instance:
    """An object of which the class is known, and nothing else."""

    cls: type


def is_a(value: Any, *kinds: type) -> bool:
    """Whether *value* is of one of *kinds*; what is lazy, as Django's settings, is left asleep."""
    return issubclass(type(value), kinds)


@dataclass(frozen=True)
class Meaning:
    """What an expression stands for.

    :ivar names: its dotted names; none if nothing is known of it.
    :ivar value: the object itself, or ``_MISSING``.
    """

    names: frozenset[str] = frozenset()
    value: Any = _MISSING

    @property
    def is_known(self) -> bool:
        """Whether the object itself was found."""
        return self.value is not _MISSING


@dataclass(frozen=True)
class Call:
    """A call in a function."""

    node: ast.Call
    meaning: Meaning
    body: Body

    @property
    def names(self) -> frozenset[str]:
        """The dotted names of what is called."""
        return self.meaning.names

    @property
    def attribute(self) -> str:
        """The last part of what is called, as it is written; empty for what has no name."""
        function = self.node.func
        if isinstance(function, ast.Attribute):
            return function.attr
        return function.id if isinstance(function, ast.Name) else ""

    @property
    def receiver(self) -> ast.expr | None:
        """What the method that is called is a method of."""
        function = self.node.func
        return function.value if isinstance(function, ast.Attribute) else None

    @property
    def place(self) -> Place:
        """Where the call is."""
        return self.body.source.place(self.node.lineno)

    @property
    def text(self) -> str:
        """What is called, as it is written; a long expression is cut."""
        text = ast.unparse(self.node.func)
        return text if len(text) <= 60 else f"….{self.attribute}"

    def matches(self, patterns: Iterable[str]) -> bool:
        """Whether one of the dotted names is like one of *patterns*."""
        return any(fnmatchcase(name, each) for name in self.names for each in patterns)

    def keyword(self, name: str) -> ast.expr | None:
        """Return the argument *name*, if it is given by its name."""
        return next((each.value for each in self.node.keywords if each.arg == name), None)

    def argument(self, position: int, name: str) -> ast.expr | None:
        """Return the argument at *position*, or called *name*."""
        if position < len(self.node.args):
            given = self.node.args[position]
            return None if isinstance(given, ast.Starred) else given
        return self.keyword(name)

    def constant(self, node: ast.expr | None) -> Any:
        """Return the value of *node*, an argument, if it is one that is fixed; else ``None``."""
        return self.body.constant(node)


class Body:
    """A function, or the rest of a module, and what its names stand for."""

    def __init__(
        self,
        source: Source,
        node: ast.AST,
        name: str,
        *,
        function: FunctionType | None = None,
        namespace: Mapping[str, Any] | None = None,
        owner: type | None = None,
    ) -> None:
        self.source = source
        self.node = node
        self.name = name
        self.owner = owner
        self._function = function
        self._namespace = namespace if namespace is not None else {}

    def __repr__(self) -> str:
        return f"<Body {self.name} of {self.source.path}>"

    @property
    def line(self) -> int:
        """The line on which the function's ``def`` is."""
        return getattr(self.node, "lineno", 1)

    @property
    def place(self) -> Place:
        """Where the function is."""
        return self.source.place(self.line)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the function, without its decorators; of a module, what is in no other."""
        if isinstance(self.node, ast.Module):
            return tuple(_without_functions(self.node))
        if isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef):
            roots: list[ast.AST] = [self.node.args, *self.node.body]
        else:
            roots = [self.node]
        return tuple(each for root in roots for each in ast.walk(root))

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """The calls in the function, those of functions within it included."""
        return tuple(
            Call(node, self.meaning(node.func), self)
            for node in self.nodes
            if isinstance(node, ast.Call)
        )

    @cached_property
    def attributes(self) -> frozenset[str]:
        """The names of all attributes that the function uses."""
        return frozenset(each.attr for each in self.nodes if isinstance(each, ast.Attribute))

    @cached_property
    def parameters(self) -> tuple[ast.arg, ...]:
        """The function's parameters, in their order."""
        if not isinstance(self.node, Function):
            return ()
        arguments = self.node.args
        return (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)

    @cached_property
    def globals_set(self) -> frozenset[str]:
        """The names that the function declares with ``global``."""
        return frozenset(
            n for each in self.nodes if isinstance(each, ast.Global) for n in each.names
        )

    @cached_property
    def assigned(self) -> Mapping[str, list[ast.expr]]:
        """What is assigned to each local name, ``with … as`` included."""
        found: dict[str, list[ast.expr]] = {}
        for node in self.nodes:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        found.setdefault(target.id, []).append(node.value)
            elif isinstance(node, ast.AnnAssign | ast.NamedExpr | ast.AugAssign):
                if isinstance(node.target, ast.Name) and node.value is not None:
                    found.setdefault(node.target.id, []).append(node.value)
            elif isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name):
                found.setdefault(node.optional_vars.id, []).append(node.context_expr)
        return found

    @cached_property
    def _imports(self) -> Mapping[str, str]:
        if isinstance(self.node, ast.Module):
            return {}
        return dict(imports_of(self.node, self.source.package))

    @cached_property
    def _locals(self) -> frozenset[str]:
        stored = {
            each.id
            for each in self.nodes
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store | ast.Del)
        }
        inner = {
            each.name
            for each in self.nodes
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        }
        if isinstance(self.node, ast.Module):
            return frozenset()
        everything = {each.arg for each in self.nodes if isinstance(each, ast.arg)}
        return frozenset((stored | inner | everything) - self.globals_set)

    @cached_property
    def _closure(self) -> Mapping[str, Any]:
        function = self._function
        found: dict[str, Any] = {}
        for name, cell in zip(
            getattr(getattr(function, "__code__", None), "co_freevars", ()),
            getattr(function, "__closure__", None) or (),
            strict=False,
        ):
            try:
                found[name] = cell.cell_contents
            except ValueError:  # not yet filled
                continue
        return found

    def meaning(self, node: ast.expr, depth: int = 0) -> Meaning:
        """Return what the expression *node* stands for in this function."""
        if depth > 12:
            return Meaning()
        if isinstance(node, ast.Name):
            return self._name(node.id, depth)
        if isinstance(node, ast.Attribute):
            return _attribute(self.meaning(node.value, depth + 1), node.attr)
        if isinstance(node, ast.Call):
            return self._called(node, depth)
        if isinstance(node, ast.Await):
            return self.meaning(node.value, depth + 1)
        if isinstance(node, ast.BinOp):
            return self.meaning(node.left, depth + 1)
        if isinstance(node, ast.Subscript):
            base = self.meaning(node.value, depth + 1)
            return Meaning(frozenset(f"{each}[]" for each in base.names))
        return Meaning()

    def constant(self, node: ast.expr | None, depth: int = 0) -> Any:
        """Return the value of *node* if it is fixed, as a number or a text is; else ``None``."""
        if node is None or depth > 6:
            return None
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            pass
        if isinstance(node, ast.BinOp) and isinstance(
            node.op, ast.Add | ast.Sub | ast.Mult | ast.FloorDiv | ast.Div
        ):
            left, right = self.constant(node.left, depth + 1), self.constant(node.right, depth + 1)
            return _computed(node.op, left, right)
        if isinstance(node, ast.Name):
            assigned = self.assigned.get(node.id, [])
            if node.id in self._locals:
                return self.constant(assigned[0], depth + 1) if len(assigned) == 1 else None
            if (values := self._module_assigned.get(node.id)) and not self._namespace:
                return self.constant(values[0], depth + 1)
        if isinstance(node, ast.Call) and "datetime.timedelta" in self.meaning(node.func).names:
            return self._timedelta(node, depth)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "total_seconds":
            return self.constant(getattr(node.func, "value", None), depth + 1)
        meaning = self.meaning(node)
        if is_a(meaning.value, bool, int, float, str, bytes):
            return meaning.value
        return meaning.value.total_seconds() if is_a(meaning.value, timedelta) else None

    @cached_property
    def _module_assigned(self) -> Mapping[str, list[ast.expr]]:
        found: dict[str, list[ast.expr]] = {}
        for node in self.source.tree.body:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        found.setdefault(target.id, []).append(node.value)
        return found

    def _timedelta(self, node: ast.Call, depth: int) -> float | None:
        units = {"weeks": 604_800, "days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
        given = {"days": node.args[0]} if node.args else {}
        given |= {each.arg: each.value for each in node.keywords if each.arg}
        total = 0.0
        for unit, value in given.items():
            number = self.constant(value, depth + 1)
            if not isinstance(number, int | float):
                return None
            total += number * units.get(unit, 0)
        return total

    def _name(self, name: str, depth: int) -> Meaning:
        if name in self._imports:
            return _imported(self._imports[name], is_run=self._function is not None)
        if name in self._locals:
            return self._local(name, depth)
        if name in self._closure:
            return _of_value(self._closure[name])
        imported = self.source.imports.get(name)
        if name in self._namespace:
            found = _of_value(self._namespace[name])
            own = {imported} if imported else {f"{self.source.module_name}.{name}"}
            return Meaning(found.names | _public(own), found.value)
        if imported:
            return _imported(imported, is_run=self._function is not None)
        if hasattr(builtins, name):
            return Meaning(frozenset({f"builtins.{name}"}), getattr(builtins, name))
        return Meaning(frozenset({f"{self.source.module_name}.{name}"}))

    def _local(self, name: str, depth: int) -> Meaning:
        parameters = [each.arg for each in self.parameters]
        if name in parameters:
            if parameters[0] == name and self.owner is not None and name in ("self", "cls"):
                return Meaning(frozenset({"self"}), Instance(self.owner))
            annotation = self.parameters[parameters.index(name)].annotation
            if annotation is not None and name not in self.assigned:
                return _instance(self.meaning(annotation, depth + 1))
        names: set[str] = set()
        value: Any = _MISSING
        for each in self.assigned.get(name, []):
            if any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(each)):
                continue
            found = self.meaning(each, depth + 1)
            names |= found.names
            value = found.value if found.is_known else value
        return Meaning(frozenset(names), value)

    def _called(self, node: ast.Call, depth: int) -> Meaning:
        called = self.meaning(node.func, depth + 1)
        if called.value is super and self.owner is not None:
            return Meaning(frozenset({"super()"}), Instance(self.owner))
        model = self._model(node, called)
        return _of_value(model) if model is not None else _instance(called)

    def _model(self, node: ast.Call, called: Meaning) -> type | None:
        """Return the model of Django's that the call *node* gives, if it is one that is fixed."""
        if _GET_USER_MODEL in called.names:
            return django_models.user_model()
        if not _GET_MODEL & called.names:
            return None
        by_name = {each.arg: each.value for each in node.keywords}
        given = [*node.args, *(by_name[n] for n in ("app_label", "model_name") if n in by_name)]
        names = [self.constant(each) for each in given]
        return django_models.model(*names) if all(isinstance(n, str) for n in names) else None


def _instance(meaning: Meaning) -> Meaning:
    value = meaning.value
    names = frozenset(f"{each}()" for each in meaning.names)
    return Meaning(names, Instance(value) if is_a(value, type) else _MISSING)


def _attribute(base: Meaning, attribute: str) -> Meaning:
    names = _public({f"{each}.{attribute}" for each in base.names})
    value = base.value
    if value is _MISSING:
        return Meaning(names)
    if is_a(value, ModuleType):
        found = vars(value).get(attribute, _MISSING)
        if found is _MISSING:
            found = sys.modules.get(f"{value.__name__}.{attribute}", _MISSING)
    elif is_a(value, Instance):
        found = inspect.getattr_static(value.cls, attribute, _MISSING)
    elif is_a(value, type):
        found = inspect.getattr_static(value, attribute, _MISSING)
    else:
        found = inspect.getattr_static(type(value), attribute, _MISSING)
    if is_a(found, staticmethod, classmethod):
        found = found.__func__
    if is_a(found, property):
        found = found.fget
    if found is _MISSING:
        return Meaning(names)
    if classes := django_models.behind(found):
        return Meaning(names, Instance(classes[0]))
    meaning = _of_value(found)
    return Meaning(names | meaning.names, meaning.value)


def _imported(dotted: str, *, is_run: bool) -> Meaning:
    names = _public({dotted})
    value = _loaded(dotted, is_run=is_run)
    if value is _MISSING:
        return Meaning(names)
    meaning = _of_value(value)
    return Meaning(names | meaning.names, meaning.value)


def _loaded(dotted: str, *, is_run: bool) -> Any:
    """Return the object *dotted*.

    :param is_run: whether a task would import it: then a module of the project is imported.
    """
    module_name, _, attribute = dotted.rpartition(".")
    if dotted in sys.modules:
        return sys.modules[dotted]
    module = sys.modules.get(module_name)
    if module is None and module_name and is_run:
        module = _import(module_name)
    if module is None:
        return _MISSING
    if attribute in vars(module):
        return vars(module)[attribute]
    if is_run:
        _import(dotted)
    return sys.modules.get(dotted, _MISSING)


@functools.cache
def is_project_module(name: str) -> bool | None:
    """Whether the top-level module *name* is of the project; ``None`` if there is none."""
    if name in sys.builtin_module_names:
        return False
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = spec.submodule_search_locations or []
    files = [spec.origin] if spec.origin else [f"{each}/__init__.py" for each in folders]
    return any(is_of_project(each) for each in files)


@functools.cache
def _import(module_name: str) -> ModuleType | None:
    """Import a module that a task's body would, if it is of the project."""
    if not is_project_module(module_name.partition(".")[0]):
        return None
    try:
        return importlib.import_module(module_name)
    except BaseException as exc:
        # What a project's module raises is of any kind; the task itself would meet it, later.
        if isinstance(exc, KeyboardInterrupt):
            raise
        return None


def _of_value(value: Any) -> Meaning:
    if is_a(value, PromiseProxy):
        value = maybe_evaluate(value)  # a task that is declared before its app is finalised
    if is_a(value, ModuleType):
        return Meaning(frozenset({value.__name__}), value)
    target = value
    if is_a(value, MethodType):
        target = value.__func__
    if is_a(target, functools.partial):
        target = target.func
    if is_a(target, type, FunctionType, BuiltinFunctionType):
        module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
        return Meaning(_public({f"{module}.{name}"}) if module and name else frozenset(), value)
    cls = type(value)
    return Meaning(_public({f"{cls.__module__}.{cls.__qualname__}()"}), value)


def _public(names: Iterable[str]) -> frozenset[str]:
    found = set()
    for name in names:
        for private, public in _PUBLIC_NAMES:
            if name.startswith(private):
                name = public + name.removeprefix(private)
                break
        found.add(name)
    return frozenset(found)


def _computed(operator: ast.operator, left: Any, right: Any) -> Any:
    if not (isinstance(left, int | float) and isinstance(right, int | float)):
        return None
    if isinstance(operator, ast.Add):
        return left + right
    if isinstance(operator, ast.Sub):
        return left - right
    if isinstance(operator, ast.Mult):
        return left * right
    return left / right if right else None


def _without_functions(root: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a module that run when it is imported."""
    pending = [root]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending += node.decorator_list
        elif not isinstance(node, ast.Lambda):
            pending += ast.iter_child_nodes(node)


class Bodies:
    """The bodies that were read, each once."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._of_functions: dict[Any, Body | None] = {}

    def of(self, function: FunctionType, owner: type | None = None) -> Body | None:
        """Return the body of *function*, a method of *owner*; ``None`` if it has no source."""
        key = (function.__code__, owner)
        if key not in self._of_functions:
            self._of_functions[key] = self._read(function, owner)
        return self._of_functions[key]

    def _read(self, function: FunctionType, owner: type | None) -> Body | None:
        code = function.__code__
        source = self._sources.get(code.co_filename)
        if source is None:
            return None
        candidates = source.functions.get(code.co_firstlineno, [])
        for node in candidates:
            if getattr(node, "name", "<lambda>") == code.co_name:
                return Body(
                    source,
                    node,
                    function.__qualname__.rpartition("<locals>.")[2],
                    function=function,
                    namespace=function.__globals__,
                    owner=owner,
                )
        return None

    def of_source(self, source: Source) -> list[Body]:
        """Return the bodies of a file: of the module, and of each function that is in no other."""
        module = next(
            (
                each
                for each in list(sys.modules.values())
                if getattr(each, "__file__", None) == str(source.path)
            ),
            None,
        )
        namespace = vars(module) if module is not None else {}
        found = [Body(source, source.tree, "<module>", namespace=namespace)]

        def collect(nodes: list[ast.stmt], prefix: str, owner: Any) -> None:
            for node in nodes:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    found.append(
                        Body(source, node, prefix + node.name, namespace=namespace, owner=owner)
                    )
                elif isinstance(node, ast.ClassDef):
                    cls = (vars(owner) if owner else namespace).get(node.name)
                    collect(
                        node.body, f"{prefix}{node.name}.", cls if isinstance(cls, type) else None
                    )
                elif isinstance(node, ast.If | ast.Try | ast.With):
                    inner = [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]
                    collect(inner, prefix, owner)

        collect(source.tree.body, "", None)
        return found
