"""How long a task's run may take, by how long its runs have taken."""

from __future__ import annotations

#: The part of the way down to a shorter run that the estimate goes with each of them. A single
#: slow run, of a cold database or a provider's hiccup, is forgotten after some tens of runs.
_DECAY = 0.1


class RunTimes:
    """The longest runs of this process's tasks, which fade."""

    def __init__(self) -> None:
        self._longest: dict[str, float] = {}

    def note(self, task_name: str, seconds: float) -> None:
        """Take a run of *seconds* into account."""
        longest = self._longest.get(task_name, 0.0)
        if seconds < longest:
            seconds += (longest - seconds) * (1 - _DECAY)
        self._longest[task_name] = seconds

    def expected_seconds(self, task_name: str) -> float:
        """Return the seconds that the next run may well take; 0 if there was none."""
        return self._longest.get(task_name, 0.0)
