"""Canvas, as https://docs.celeryq.dev/en/stable/userguide/canvas.html describes it."""

from __future__ import annotations

import pytest
from celery import chain, chord, group
from celery.canvas import StampingVisitor
from celery.exceptions import ChordError

WAIT_SECONDS = 120


def value(signature):
    """Run *signature* and return its result."""
    return signature.delay().get(timeout=WAIT_SECONDS)


class TestChain:
    def test_hands_each_result_on(self, peer):
        assert value(chain(peer.add.s(1, 2), peer.add.s(10), peer.add.s(100))) == 113

    def test_with_an_immutable_signature_hands_nothing_on(self, peer):
        assert value(peer.add.s(1, 2) | peer.add.si(10, 20)) == 30

    def test_of_chains(self, peer):
        inner = peer.add.s(1) | peer.add.s(2)

        assert value(chain(peer.add.s(0, 0), inner, inner)) == 6

    def test_stops_at_a_failure_and_calls_the_errback(self, peer, trace):
        steps = peer.fail.si("step 1") | peer.write.si(trace.key, "step 2")
        result = steps.on_error(peer.errback_new_style.s(key=trace.key)).delay()

        with pytest.raises(ValueError, match="step 1"):
            result.parent.get(timeout=WAIT_SECONDS)
        assert trace.next() == ["new", result.parent.id, "step 1", True]
        assert trace.rest() == []

    def test_knows_its_parents(self, peer):
        result = chain(peer.add.s(1, 2), peer.add.s(10)).delay()

        assert result.get(timeout=WAIT_SECONDS) == 13
        assert result.parent.get(timeout=WAIT_SECONDS) == 3

    def test_steps_know_root_and_parent(self, peer):
        result = chain(peer.add.s(1, 2), peer.request_fields.si()).delay()

        fields = result.get(timeout=WAIT_SECONDS)
        assert fields["root_id"] == fields["parent_id"] == result.parent.id


class TestGroup:
    def test_gives_the_results_in_order(self, peer):
        assert value(group(peer.add.s(n, n) for n in range(4))) == [0, 2, 4, 6]

    def test_takes_partial_arguments(self, peer):
        result = group(peer.add.s(1), peer.add.s(2)).delay(10)

        assert result.get(timeout=WAIT_SECONDS) == [11, 12]

    def test_of_chains_and_groups(self, peer):
        nested = group(peer.add.s(1, 1) | peer.add.s(1), group(peer.add.s(2, 2), peer.add.s(3, 3)))

        assert value(nested) == [3, 4, 6]

    def test_that_is_empty_has_no_results(self, peer):
        assert group([]).apply_async(app=peer.app).get(timeout=WAIT_SECONDS) == []

    def test_members_know_their_group(self, peer):
        result = group(peer.request_fields.s(), peer.request_fields.s()).delay()

        found = {each["group"] for each in result.get(timeout=WAIT_SECONDS)}
        assert found == {result.id}

    def test_in_which_one_fails_gives_the_others_results(self, peer):
        result = group(peer.add.s(1, 1), peer.fail.s("second")).delay()

        with pytest.raises(ValueError, match="second"):
            result.get(timeout=WAIT_SECONDS)
        assert result[0].get(timeout=WAIT_SECONDS) == 2


class TestChord:
    def test_gives_all_results_to_its_body(self, peer):
        assert value(chord([peer.add.s(n, n) for n in range(5)], peer.tsum.s())) == 20

    def test_of_one(self, peer):
        assert value(chord([peer.add.s(1, 1)], peer.tsum.s())) == 2

    def test_is_what_a_group_and_a_task_in_a_chain_become(self, peer):
        header = group(peer.add.s(1, 1), peer.add.s(2, 2))

        assert value(header | peer.tsum.s()) == 6
        assert value(peer.add.s(1, 0) | group(peer.add.s(1), peer.add.s(2)) | peer.tsum.s()) == 5
        assert value(header | peer.tsum.s() | peer.add.s(100)) == 106
        assert value(header | group(peer.tsum.s(), peer.tsum.s())) == [6, 6]

    def test_with_chains_and_chords_in_its_header(self, peer):
        inner = chord([peer.add.s(1, 1), peer.add.s(2, 2)], peer.tsum.s())

        assert value(chord([inner, peer.add.s(1, 1) | peer.add.s(1)], peer.tsum.s())) == 9

    def test_with_a_failing_header_calls_the_bodys_errback(self, peer, trace):
        body = peer.tsum.s().on_error(peer.errback_old_style.s(trace.key))
        result = chord([peer.add.s(1, 1), peer.fail.s("part")], body).delay()

        with pytest.raises(ChordError, match="part"):
            peer.result(result.id).get(timeout=WAIT_SECONDS)
        assert trace.next() == ["old", result.id]

    def test_waits_for_a_member_that_retries(self, peer, trace):
        header = [peer.retry_with.s(trace.key, {"countdown": 0}, 2), peer.add.s(1, 1)]

        assert value(chord(header, peer.tsum.s())) == 4

    def test_takes_members_in_while_it_runs(self, peer):
        assert value(chord([peer.join_chord.s(1), peer.add.s(1, 1)], peer.tsum.s())) == 104

    def test_waits_for_a_member_that_raised_and_came_back(self, lambda_peer, trace):
        """On a worker the member fails, and the chord with it."""
        header = [lambda_peer.raise_then_retry.s(trace.key), lambda_peer.add.s(1, 1)]

        assert value(chord(header, lambda_peer.echo.s())) == [None, 2]


class TestMap:
    def test_map(self, peer):
        assert value(peer.tsum.map([[1, 2], [3, 4]])) == [3, 7]

    def test_starmap(self, peer):
        assert value(peer.add.starmap(zip(range(3), range(3), strict=True))) == [0, 2, 4]

    def test_chunks(self, peer):
        result = peer.add.chunks(zip(range(5), range(5), strict=True), 2).apply_async()

        assert result.get(timeout=WAIT_SECONDS) == [[0, 2], [4, 6], [8]]

    def test_chunks_as_a_group_with_a_chord(self, peer):
        chunks = peer.add.chunks([(1, 1), (2, 2), (3, 3)], 2).group()

        assert value(chunks | peer.echo.s()) == [[2, 4], [6]]


class TestErrbacks:
    def test_old_style_takes_the_id(self, peer, trace):
        result = peer.fail.apply_async(link_error=peer.errback_old_style.s(trace.key))

        assert trace.next() == ["old", result.id]

    def test_new_style_takes_request_exception_and_traceback(self, peer, trace):
        result = peer.fail.apply_async(link_error=peer.errback_new_style.s(key=trace.key))

        assert trace.next() == ["new", result.id, "no such template", True]
        assert trace.rest() == []

    def test_of_a_group_is_called_for_each_failure(self, peer, trace):
        members = group(peer.fail.s("a"), peer.fail.s("b"))
        members.link_error(peer.errback_new_style.s(key=trace.key))
        members.delay()

        assert sorted(each[2] for each in trace.take(2)) == ["a", "b"]

    def test_is_not_called_while_attempts_are_left(self, lambda_peer, trace):
        """On a worker there is one attempt; here as many as the queue's maxReceiveCount."""
        result = lambda_peer.fail_undeclared.apply_async(
            (trace.key,), link_error=lambda_peer.errback_new_style.s(key=trace.key)
        )

        with pytest.raises(ValueError, match="no such template"):
            result.get(timeout=WAIT_SECONDS)
        *runs, errback = trace.take(6)
        assert runs == ["ran"] * 5
        assert errback[0] == "new"


class TestReplace:
    @pytest.mark.parametrize(
        ("how", "expected"), [("signature", 6), ("group", [5, 1]), ("chord", 6)]
    )
    def test_by(self, peer, how, expected):
        assert value(peer.replace_by.s(how, 5)) == expected

    def test_in_a_chain_goes_on_with_the_replacement(self, peer):
        assert value(peer.replace_by.s("signature", 5) | peer.add.s(100)) == 106
        assert value(peer.replace_by.s("group", 5) | peer.tsum.s()) == 6

    def test_in_a_chord_counts_as_the_member(self, peer):
        header = [peer.replace_by.s("signature", 5), peer.add.s(1, 1)]

        assert value(chord(header, peer.tsum.s())) == 8


class TestStamping:
    class Visitor(StampingVisitor):
        def on_signature(self, sig, **headers):
            return {"order": "7", "stamped_headers": ["order"]}

    def test_by_a_visitor_reaches_every_step(self, peer):
        steps = peer.stamps.si() | group(peer.stamps.si(), peer.stamps.si())
        steps.stamp(self.Visitor())
        result = steps.delay()

        assert result.get(timeout=WAIT_SECONDS) == [{"order": "7"}, {"order": "7"}]
        assert result.parent.get(timeout=WAIT_SECONDS) == {"order": "7"}

    def test_by_keywords(self, peer):
        signature = peer.stamps.s()
        signature.stamp(order="7")

        assert value(signature) == {"order": "7"}

    def test_reaches_callbacks(self, peer, trace):
        signature = peer.add.s(1, 2)
        signature.link(peer.request_fields.si(trace.key))
        signature.stamp(self.Visitor())
        signature.delay()

        assert trace.next()["stamps"] == {"order": "7"}

    def test_again_with_append_stamps_keeps_both(self, peer):
        signature = peer.stamps.s()
        signature.stamp(order="6")
        signature.stamp(self.Visitor(), append_stamps=True)

        (found,) = value(signature).values()
        assert sorted(found) == ["6", "7"]


class TestMixedWithABrokerOfItsOwn:
    """One app: some tasks on SQS and Lambda, the others on Redis and a worker."""

    @pytest.fixture(autouse=True)
    def _their_worker(self, redis_worker):
        pass

    def test_chain_there_and_back(self, lambda_peer):
        steps = lambda_peer.add.s(1, 2) | lambda_peer.stays.s() | lambda_peer.add.s(1)

        assert value(steps) == 31

    def test_chain_that_begins_there(self, lambda_peer):
        result = (lambda_peer.stays_where.s(1) | lambda_peer.echo.s()).delay()

        x, hostname = result.get(timeout=WAIT_SECONDS)
        assert x == 1
        assert hostname.startswith("celery@")

    def test_chord_with_members_and_bodies_on_both(self, lambda_peer):
        header = [lambda_peer.add.s(1, 1), lambda_peer.stays.s(2)]

        assert value(chord(header, lambda_peer.tsum.s())) == 22
        assert value(chord(header, lambda_peer.tsum.s() | lambda_peer.stays.s())) == 220

    def test_link_to_a_task_there(self, lambda_peer, trace):
        lambda_peer.add.apply_async(
            (1, 2), link=lambda_peer.stays.s() | lambda_peer.write_result.s(trace.key)
        )

        assert trace.next() == 30
