"""How many calls are under way at a time: fewer than there are connections, where Lambda says so.

A function has so many environments, and the caller does not know how many. What is refused for
want of one (429) could only come again at random times, and the function would idle in between.
So the calls of one block share what they learn: after a refusal no more are under way than were
accepted, and the next is sent when one of those has ended. With every round of successes one more
is tried.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Room:
    """For how many calls there is room. For one event loop."""

    def __init__(self, most: int) -> None:
        """Begin with room for *most*, which are never exceeded."""
        self._most = most
        self._now = most
        self._successes = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        #: How many calls are under way.
        self.under_way = 0

    async def take(self) -> None:
        """Wait until there is room for one more call, and take it."""
        while self.under_way >= self._now:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._waiting.remove(turn)
                self._wake()  # it may have been this one's turn
                raise
            self._waiting.remove(turn)
        self.under_way += 1

    def give_back(self) -> None:
        """A call has ended, and nothing is known of the room that Lambda has."""
        self.under_way -= 1
        self._wake()

    def accepted(self) -> None:
        """A call has ended: Lambda had room for it."""
        self.under_way -= 1
        self._successes += 1
        if self._successes >= self._now < self._most:
            self._now += 1
            self._successes = 0
        self._wake()

    def refused(self) -> None:
        """A call was refused: there is no more room than the others have."""
        self.under_way -= 1
        self._now = max(1, min(self._now, self.under_way))
        self._successes = 0
        self._wake()

    def _wake(self) -> None:
        for turn in list(self._waiting)[: max(0, self._now - self.under_way)]:
            if not turn.done():
                turn.set_result(None)
