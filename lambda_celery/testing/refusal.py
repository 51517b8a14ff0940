"""What the services in memory refuse, in AWS's words."""

from __future__ import annotations

from typing import Any


class RefusedError(Exception):
    """AWS's answer to a request that it does not take."""

    def __init__(self, code: str, message: str, **answered: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.answer = {"Error": {"Code": code, "Message": message}, **answered}
