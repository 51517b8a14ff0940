"""Whether somebody has put something around a library's function, which must not be missed."""

from __future__ import annotations

from types import FunctionType, MethodType
from typing import Any


def is_plain(function: Any, module: Any) -> bool:
    """Whether *function*, or bound method, is one that *module* defines, with nothing around it.

    Not by name: what monitoring puts around a function takes over its name, and wrapt's proxies
    every other attribute as well, but not its type.
    """
    if type(function) is MethodType:
        function = function.__func__
    return type(function) is FunctionType and function.__globals__ is vars(module)
