"""A worker's turn, the statement itself: what it hands in, what it leases, and in what order it goes on."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from llm_mcp.errors import InvalidInput, LeaseLost
from llm_mcp.events import Cursor
from llm_mcp.job import Lease
from llm_mcp.store import events
from llm_mcp.store import leases as verbs
from llm_mcp.store.leases import START, Finished, Place, Turn
from llm_mcp.store.pool import Connection, Database
from tests.integration.rows import add, claim, whole


def turn(db: Database, *, n: int, finished: list[Finished] | None = None, **more: Any) -> Turn:
    """One turn of the worker `w` for echo jobs."""
    asked: dict[str, Any] = {"kinds": ["echo"], "lease_s": 60.0, "ageing_s": 600.0, "finished": finished or [], **more}
    return verbs.turn(db, "w", uuid4(), n=n, **asked)


def result(held: Lease, text: str = "{}") -> Finished:
    return Finished(held.job_id, held.token, text)


def payloads(found: Turn) -> list[str]:
    return [held.payload for held in found.leases]


def age(sql: Connection, seconds: float, payload: str) -> None:
    sql.execute(
        "UPDATE llm.jobs SET queued_at = queued_at - make_interval(secs => %s) WHERE payload = %s", (seconds, payload)
    )


# — both halves —


def test_results_alone(db: Database, dsn: str) -> None:
    add(db), add(db), add(db)
    first, second, third = claim(db, n=3)
    found = turn(db, n=0, finished=[result(third, "3"), result(first, "1")])
    assert (found.finished, found.leases, found.found) == (2, [], 0)
    for held, text in ((first, "1"), (third, "3")):
        row, attempts = whole(dsn, held.job_id)["job"], whole(dsn, held.job_id)["attempts"]
        assert (row["status"], row["result"], row["lease_token"], row["claim_id"]) == ("done", text, None, None)
        assert [(one["attempt"], one["lease_token"], one["status"]) for one in attempts] == [(1, held.token, "done")]
        assert attempts[0]["started_at"] == row["begun_at"]
    assert whole(dsn, second.job_id)["job"]["status"] == "running"


def test_a_claim_alone(db: Database) -> None:
    ids = [add(db, payload=str(n)) for n in range(3)]
    found = turn(db, n=2)
    assert [held.job_id for held in found.leases] == ids[:2]
    assert (found.finished, found.found, found.left) == (0, 2, 0)
    assert len({held.token for held in found.leases}) == 2


def test_both_in_one_commit(db: Database, dsn: str, sql: Connection) -> None:
    add(db, payload="1"), add(db, payload="2")
    (held,) = claim(db)
    found = turn(db, n=1, finished=[result(held)])
    assert (found.finished, payloads(found)) == (1, ["2"])
    xids = sql.execute("SELECT DISTINCT xmin::text FROM llm.jobs").fetchall()
    assert len(xids) == 1


def test_nothing_at_all(db: Database) -> None:
    add(db, delay_s=100.0), add(db, kind="other")
    found = turn(db, n=5)
    assert (found.leases, found.finished, found.found, found.place) == ([], 0, 0, None)
    assert found.wait_s == pytest.approx(100, abs=5)


def test_results_of_strangers_do_not_keep_the_rest_from_being_taken(db: Database, dsn: str) -> None:
    """A late one, one that nobody knows, one said twice in a batch and one said before: the others stand."""
    for n in range(4):
        add(db, payload=str(n))
    lost, twice, before, mine = claim(db, n=4)
    verbs.release(db, [(lost.job_id, lost.token)])
    verbs.complete(db, before.job_id, before.token, result='"first"')
    stranger = Finished(uuid4(), 1, "{}")
    batch = [result(lost), result(twice), result(twice), result(before, '"second"'), result(mine), stranger]
    found = turn(db, n=1, finished=batch)
    assert found.finished == 2
    assert [held.job_id for held in found.leases] == [lost.job_id]  # it was given back: there to be had
    assert {held.token for held in (lost,)} | {1} == set(verbs.refusals(db, batch))
    assert isinstance(verbs.refusals(db, batch)[lost.token], LeaseLost)
    assert whole(dsn, before.job_id)["job"]["result"] == '"first"'
    assert len(whole(dsn, twice.job_id)["attempts"]) == 1


def test_the_last_words_of_a_stream_come_with_its_result(db: Database) -> None:
    """In one commit; what was written before, and is said again for a lost reply, is there once."""
    add(db), add(db)
    held, lost = claim(db, n=2)
    events.append(db, held.job_id, held.token, [(1, "delta", '{"text":"a"}')])
    verbs.release(db, [(lost.job_id, lost.token)])
    words = [(1, "delta", '{"text":"a"}'), (2, "delta", '{"text":"\\u00e4 \\"b\\""}'), (3, "usage", "{}")]
    batch = [Finished(one.job_id, one.token, "{}", events=words) for one in (held, lost)]
    for _ in range(2):
        turn(db, n=0, finished=batch)
    glance = events.follow(db, held.job_id, Cursor())
    assert (glance.status, glance.items) == ("done", words)
    assert events.follow(db, lost.job_id, Cursor()).items == []


def test_one_result_the_server_refuses_undoes_the_whole_turn(db: Database, dsn: str) -> None:
    ids = [add(db), add(db), add(db)]
    good, bad = claim(db, n=2)
    with pytest.raises(InvalidInput):
        turn(db, n=1, finished=[result(good), result(bad, "\x00")])
    assert [whole(dsn, job_id)["job"]["status"] for job_id in ids] == ["running", "running", "queued"]


def test_a_claim_that_was_lost_with_its_results_is_recovered_whole(db: Database, dsn: str) -> None:
    """What a claimer does: hand in again, then ask what the claim took."""
    add(db, payload="1"), add(db, payload="2")
    (held,) = claim(db)
    claim_id = uuid4()
    verbs.turn(db, "w", claim_id, kinds=["echo"], n=1, lease_s=60, ageing_s=600, finished=[result(held)])
    assert (verbs.complete_many(db, [result(held)]), verbs.refusals(db, [result(held)])) == ((0, []), {})
    assert [one.payload for one in verbs.claimed(db, "w", claim_id)] == ["2"]
    assert len(whole(dsn, held.job_id)["attempts"]) == 1


# — short and long kinds —


@pytest.mark.parametrize(("free", "taken", "left"), [(0, "sss", 3), (1, "lsss", 2), (2, "lslss", 1), (3, "lslsls", 0)])
def test_long_jobs_are_taken_for_free_threads_only(db: Database, free: int, taken: str, left: int) -> None:
    for n in range(6):
        add(db, kind="long" if n % 2 == 0 else "short")
    found = turn(db, n=6, kinds=["long", "short"], short=["short"], free=free)
    assert "".join(held.kind[0] for held in found.leases) == taken
    assert (found.found, found.left) == (6, left)


@pytest.mark.parametrize(("free", "taken"), [(0, 3), (1, 3), (4, 4)])
def test_what_waits_in_memory_beyond_the_free_threads_is_bounded_in_bytes(db: Database, free: int, taken: int) -> None:
    for _ in range(5):
        add(db, payload=f'"{"x" * 10 * 2**20}"')
    found = turn(db, n=5, short=["echo"], free=free)
    assert (len(found.leases), found.left) == (taken, 5 - taken)
    assert len(turn(db, n=5, short=["echo"], free=free).leases) == 5 - taken


def test_what_was_left_is_there_for_others_at_once(db: Database) -> None:
    add(db, kind="long")
    assert turn(db, n=4, kinds=["long"], free=0).left == 1
    assert len(turn(db, n=4, kinds=["long"], free=1).leases) == 1


def test_a_limit_counts_what_the_same_turn_finishes(db: Database, sql: Connection) -> None:
    sql.execute("INSERT INTO llm.limits (kind, max_running) VALUES ('echo', 2)")
    for n in range(5):
        add(db, payload=str(n))
    first, second = turn(db, n=5).leases
    assert turn(db, n=5).leases == []
    found = turn(db, n=5, finished=[result(first), result(second)])
    assert (found.finished, payloads(found)) == (2, ["2", "3"])


# — going on from where it was —


def test_a_turn_goes_on_where_the_last_one_ended(db: Database) -> None:
    for n in range(6):
        add(db, payload=str(n))
    place: Place | None = START
    came: list[str] = []
    while place is not None:
        found = turn(db, n=2, place=place)
        came += payloads(found)
        place = found.place
    assert came == ["0", "1", "2", "3", "4", "5"]


def test_there_is_a_place_only_while_there_is_more_of_one_priority(db: Database) -> None:
    for n in range(4):
        add(db, payload=str(n), priority=int(n < 2))
    assert turn(db, n=3).place is None  # of two priorities
    assert turn(db, n=3).place is None  # the last one
    add(db, payload="4", priority=7)
    place = turn(db, n=1).place
    assert place is not None
    assert (place.priority_from, place.priority_to, place.aged_from) == (7, 7, "infinity")
    assert payloads(turn(db, n=9, place=place)) == []


def test_rows_of_one_instant_are_not_passed_over(db: Database, sql: Connection) -> None:
    for n in range(4):
        add(db, payload=str(n))
    sql.execute("UPDATE llm.jobs SET queued_at = (SELECT min(queued_at) FROM llm.jobs)")
    first = turn(db, n=2)
    assert first.place is not None
    second = turn(db, n=2, place=first.place)
    assert len(second.leases) == 2


def test_who_came_meanwhile_with_a_higher_priority_is_seen_from_the_head_only(db: Database) -> None:
    for n in range(4):
        add(db, payload=str(n))
    place = turn(db, n=2).place
    assert place is not None
    add(db, payload='"urgent"', priority=5)
    assert payloads(turn(db, n=1, place=place)) == ["2"]
    assert payloads(turn(db, n=1)) == ['"urgent"']


def test_the_aged_first_and_a_place_among_them(db: Database, sql: Connection) -> None:
    for n in range(6):
        add(db, payload=str(n), priority=n)
    for n in range(4):
        age(sql, 700 - n, str(n))
    first = turn(db, n=2)
    assert payloads(first) == ["0", "1"]
    assert first.place is not None
    second = turn(db, n=2, place=first.place)
    assert payloads(second) == ["2", "3"]
    assert second.place is not None
    assert payloads(turn(db, n=2, place=second.place)) == []  # no more that aged: the head says who is next
    assert payloads(turn(db, n=2)) == ["5", "4"]


def test_a_turn_over_the_edge_of_age_goes_on_among_the_fresh(db: Database, sql: Connection) -> None:
    for n in range(5):
        add(db, payload=str(n))
    age(sql, 700, "0")
    found = turn(db, n=3)
    assert payloads(found) == ["0", "1", "2"]
    assert found.place is not None
    assert found.place.aged_from == "infinity"
    assert payloads(turn(db, n=3, place=found.place)) == ["3", "4"]


# — when to look again —


def test_who_has_a_place_left_is_told_when_the_next_delayed_job_is_due(db: Database) -> None:
    add(db)
    add(db, delay_s=5.0), add(db, delay_s=50.0), add(db, kind="other", delay_s=1.0)
    full = turn(db, n=1)
    assert (len(full.leases), full.wait_s) == (1, None)
    assert turn(db, n=2).wait_s == pytest.approx(5, abs=2)


def test_a_retry_is_due_when_its_pause_ends(db: Database) -> None:
    add(db)
    (held,) = claim(db)
    verbs.fail(db, held.job_id, held.token, error="no", retryable=True, delay_s=7.0)
    assert turn(db, n=1).wait_s == pytest.approx(7, abs=2)


def test_a_due_job_is_taken_not_waited_for(db: Database) -> None:
    job_id = add(db, delay_s=0.05)
    end = time.monotonic() + 5
    leases: list[UUID] = []
    while not leases and time.monotonic() < end:
        found = turn(db, n=1)
        leases = [held.job_id for held in found.leases]
        assert leases or found.wait_s is not None
    assert leases == [job_id]
