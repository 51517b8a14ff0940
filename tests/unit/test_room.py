"""How many direct calls are under way: what a refusal and successes change."""

from __future__ import annotations

import asyncio

import pytest

from lambda_celery.invoke.room import Room


def test_there_is_room_for_as_many_as_are_accepted_after_a_refusal():
    async def main():
        room = Room(5)
        for _ in range(5):
            await room.take()
        room.refused()
        room.refused()
        assert room.under_way == 3
        waiting = asyncio.ensure_future(room.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        room.give_back()
        await waiting
        assert room.under_way == 3

    asyncio.run(main())


def test_it_grows_by_one_with_every_round_of_successes():
    async def main():
        room = Room(3)
        for _ in range(3):
            await room.take()
        for _ in range(2):
            room.refused()
        room.accepted()  # a round of one
        await room.take()
        await room.take()
        third = asyncio.ensure_future(room.take())
        await asyncio.sleep(0)
        assert not third.done()
        room.accepted()
        await third
        room.accepted()  # a round of two
        await room.take()
        await asyncio.wait_for(room.take(), 30)
        assert room.under_way == 3

    asyncio.run(main())


def test_there_is_always_room_for_one():
    async def main():
        room = Room(2)
        for _ in range(3):
            await asyncio.wait_for(room.take(), 30)
            room.refused()

    asyncio.run(main())


@pytest.mark.parametrize("was_its_turn", [True, False])
def test_who_is_cancelled_leaves_its_turn_to_the_next(was_its_turn):
    async def main():
        room = Room(1)
        await room.take()
        first, second = (asyncio.ensure_future(room.take()) for _ in range(2))
        await asyncio.sleep(0)
        if was_its_turn:
            room.give_back()
            first.cancel()
        else:
            first.cancel()
            room.give_back()
        await asyncio.wait_for(second, 30)
        assert first.cancelled()
        assert room.under_way == 1

    asyncio.run(main())
