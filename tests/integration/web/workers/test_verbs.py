"""`/v1/workers`: the verbs of workers in any language, one call at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from llm_mcp.store.pool import Connection
from tests.integration.web.test_submit import made
from tests.integration.web.workers.calls import Foreign


def due(sql: Connection, claimed: Any) -> None:
    """Let a job that failed be claimed again now."""
    sql.execute("UPDATE llm.jobs SET run_at = now() WHERE id = %s", (claimed["job"]["id"],))


def test_nothing_to_claim_is_an_empty_object(one: Foreign, kind: str) -> None:
    assert one.claim(kind) == {}


def test_a_claimed_job_is_whole(one: Foreign, kind: str) -> None:
    payload = {"prompt": "Hi & <you>", "n": [1, None, 1.5]}
    claimed = one.begin(kind, payload=payload, priority=7)
    job = claimed["job"]
    assert (job["kind"], job["payload"], job["status"]) == (kind, payload, "running")
    assert (job["attempts"], job["max_attempts"], job["priority"]) == (1, 3, 7)
    assert job["worker_id"] == one.worker_id
    assert {"queued_at", "updated_at", "lease_until"} <= set(job)
    assert not {"result", "error", "deadline_at"} & set(job)
    assert claimed["lease_token"] > 0
    assert claimed["lease_seconds"] == 60


def test_a_job_is_claimed_once(one: Foreign, two: Foreign, kind: str) -> None:
    one.begin(kind)
    assert two.claim(kind) == {}


@pytest.mark.parametrize(
    ("asked", "granted"), [({}, 60), (0, 60), (-5, 60), (7, 7), (3600, 3600), (10**9, 3600), (2**63 - 1, 3600)]
)
def test_the_length_of_a_lease(one: Foreign, sql: Connection, kind: str, asked: Any, granted: int) -> None:
    made(one.client, {"kind": kind})
    claimed = one.claim(kind, **({} if asked == {} else {"lease_seconds": asked}))
    assert claimed["lease_seconds"] == granted
    row = sql.execute(
        "SELECT extract(epoch FROM lease_until - begun_at)::float8 AS s FROM llm.jobs WHERE id = %s",
        (claimed["job"]["id"],),
    ).fetchone()
    assert row is not None
    assert granted - 1 < row["s"] < granted + 1


def test_a_completed_job_has_its_result_and_figures(one: Foreign, sql: Connection, kind: str) -> None:
    claimed = one.begin(kind)
    result = {"ok": True, "response": "hello", "tokens_in": 3}
    assert one.say("complete", claimed, result=result, metrics={"ms": 12}) == (200, {"ok": True})
    job = one.job(claimed)
    assert (job["status"], job["result"]) == ("done", result)
    row = sql.execute("SELECT status, metrics, worker_id FROM llm.job_attempts WHERE job_id = %s", (job["id"],))
    assert row.fetchall() == [{"status": "done", "metrics": '{"ms":12}', "worker_id": one.worker_id}]


@pytest.mark.parametrize(
    ("given", "kept"), [({}, {}), ({"result": []}, []), ({"result": "x"}, "x"), ({"result": 0}, 0)]
)
def test_any_json_is_a_result(one: Foreign, kind: str, given: Any, kept: Any) -> None:
    claimed = one.begin(kind)
    assert one.say("complete", claimed, **given)[0] == 200
    assert one.job(claimed)["result"] == kept


@pytest.mark.parametrize("worker", ["one", "plain"])
def test_to_complete_twice_is_fine_and_changes_nothing(request: pytest.FixtureRequest, kind: str, worker: str) -> None:
    who: Foreign = request.getfixturevalue(worker)
    claimed = who.begin(kind)
    assert who.say("complete", claimed, result=1) == (200, {"ok": True})
    assert who.say("complete", claimed, result=2) == (200, {"ok": True})
    assert who.job(claimed)["result"] == 1


@pytest.mark.parametrize("worker", ["one", "plain"])
@pytest.mark.parametrize(
    ("verb", "fields"),
    [
        ("complete", {"result": "stale"}),
        ("heartbeat", {}),
        ("events", {"events": [{"seq": 1, "type": "delta", "data": {"text": "x"}}]}),
    ],
)
def test_what_comes_too_late_changes_nothing(
    request: pytest.FixtureRequest,
    two: Foreign,
    expire: Callable[[Any], None],
    kind: str,
    worker: str,
    verb: str,
    fields: Any,
) -> None:
    stale: Foreign = request.getfixturevalue(worker)
    lost = stale.begin(kind)
    expire(lost)
    held = two.claim(kind)
    assert held["job"]["id"] == lost["job"]["id"]
    before = two.job(held)
    status, told = stale.say(verb, lost, **fields)
    assert (status, told["error"]) == (409, "lease_lost")
    assert two.job(held) == before
    assert two.say("complete", held, result="right") == (200, {"ok": True})
    status, told = stale.say(verb, lost, **fields)
    assert (status, told["error"]) == (409, "lease_lost")
    assert two.job(held)["result"] == "right"


def test_a_failure_that_comes_too_late(
    one: Foreign, plain: Foreign, two: Foreign, expire: Callable[[Any], None], kind: str
) -> None:
    """With a token it is refused; a contract client, which could say no more, is told that nothing was changed."""
    for stale, status in ((one, 409), (plain, 200)):
        lost = stale.begin(kind)
        expire(lost)
        held = two.claim(kind)
        before = two.job(held)
        answer = stale.say("fail", lost, error="stale")
        assert answer[0] == status
        assert ("warnings" in answer[1]) == (status == 200)
        assert two.job(held) == before
        two.say("complete", held)


def test_who_never_held_a_job_cannot_speak_for_it(plain: Foreign, two: Foreign, kind: str) -> None:
    held = two.begin(kind)
    for verb in ("complete", "fail", "heartbeat"):
        status, told = plain.say(verb, held)
        assert (status, told["error"]) == (409, "lease_lost")
    assert two.job(held)["status"] == "running"


def test_another_workers_token_is_no_token(one: Foreign, two: Foreign, kind: str) -> None:
    held, other = two.begin(kind), one.begin(kind)
    status, told = one.say("complete", {"job": held["job"], "lease_token": other["lease_token"]})
    assert (status, told["error"]) == (409, "lease_lost")
    assert one.say("complete", {"job": held["job"], "lease_token": held["lease_token"]})[0] == 409
    assert two.say("complete", held)[0] == 200


@pytest.mark.parametrize("verb", ["complete", "fail", "heartbeat"])
def test_a_token_of_an_earlier_attempt_is_none_of_this_one(
    one: Foreign, expire: Callable[[Any], None], kind: str, verb: str
) -> None:
    """The worker has the job again; what it still says of the first attempt is not of the second."""
    first = one.begin(kind)
    expire(first)
    second = one.claim(kind)
    before = one.job(second)
    status, told = one.say(verb, first)
    assert (status, told["error"]) == (409, "lease_lost")
    assert one.job(second) == before
    assert one.say("complete", second, result="second") == (200, {"ok": True})


@pytest.mark.parametrize("verb", ["complete", "fail", "heartbeat"])
@pytest.mark.parametrize("job_id", ["{uuid}", "nope", "{UPPER}"])
def test_no_such_job(one: Foreign, verb: str, job_id: str) -> None:
    named = job_id.format(uuid=uuid4(), UPPER=str(uuid4()).upper())
    status, told = one.post(verb, {"worker_id": one.worker_id, "job_id": named})
    assert (status, told["error"]) == (404, "not_found")


def test_a_failed_job_is_tried_again_later(one: Foreign, sql: Connection, kind: str) -> None:
    claimed = one.begin(kind, max_attempts=2)
    status, told = one.say("fail", claimed, error="out of memory", metrics={"ms": 5}, retry_after_s=30)
    assert (status, told) == (200, {"ok": True, "status": "queued"})
    row = sql.execute(
        "SELECT j.error, extract(epoch FROM j.run_at - now())::float8 AS s, a.metrics FROM llm.jobs j"
        " JOIN llm.job_attempts a ON a.job_id = j.id WHERE j.id = %s",
        (claimed["job"]["id"],),
    ).fetchone()
    assert row is not None
    assert (row["error"], row["metrics"]) == ("out of memory", '{"ms":5}')
    assert 25 < row["s"] < 32
    assert one.claim(kind) == {}
    due(sql, claimed)
    again = one.claim(kind)
    assert again["job"]["attempts"] == 2
    assert again["job"]["error"] == "out of memory"
    assert one.say("fail", again, error="again")[1] == {"ok": True, "status": "error"}
    job = one.job(again)
    assert (job["status"], job["reason"], job["error"]) == ("error", "failed", "again")


def test_a_failure_that_is_not_to_be_retried(one: Foreign, kind: str) -> None:
    claimed = one.begin(kind)
    assert one.say("fail", claimed, error="no such model", retryable=False)[1]["status"] == "error"
    assert one.job(claimed)["reason"] == "failed"


@pytest.mark.parametrize("worker", ["one", "plain"])
def test_to_fail_twice_is_fine(request: pytest.FixtureRequest, kind: str, worker: str) -> None:
    who: Foreign = request.getfixturevalue(worker)
    claimed = who.begin(kind, max_attempts=1)
    for _ in range(2):
        assert who.say("fail", claimed, error="boom") == (200, {"ok": True, "status": "error"})
    assert who.say("complete", claimed)[0] == 409


def test_a_lost_lease_counts_as_a_crash(one: Foreign, expire: Callable[[Any], None], kind: str) -> None:
    claimed = one.begin(kind, max_attempts=9)
    for _ in range(2):
        expire(claimed)
        claimed = one.claim(kind)
    expire(claimed)
    job = one.job(claimed)
    assert (job["status"], job["reason"], job["attempts"]) == ("error", "crashed", 3)


@pytest.mark.parametrize(
    ("lease", "extend", "left"),
    [
        (5, {}, 30),
        (5, {"extend_seconds": 0}, 30),
        (5, {"extend_seconds": -9}, 30),
        (5, {"extend_seconds": 100}, 100),
        (5, {"extend_seconds": 10**9}, 3600),
        (600, {}, 600),
        (600, {"extend_seconds": 1}, 600),
    ],
)
def test_a_heartbeat_prolongs_and_never_shortens(
    plain: Foreign, sql: Connection, kind: str, lease: int, extend: Any, left: int
) -> None:
    made(plain.client, {"kind": kind})
    claimed = plain.claim(kind, lease_seconds=lease)
    assert plain.say("heartbeat", claimed, **extend) == (200, {"ok": True, "lease_seconds": left})
    row = sql.execute(
        "SELECT extract(epoch FROM lease_until - now())::float8 AS s FROM llm.jobs WHERE id = %s",
        (claimed["job"]["id"],),
    ).fetchone()
    assert row is not None
    assert left - 2 < row["s"] <= left


def test_a_cancelled_job_is_told_at_the_next_heartbeat(one: Foreign, kind: str) -> None:
    claimed = one.begin(kind)
    one.client.post(f"/v1/jobs/{claimed['job']['id']}/cancel")
    status, told = one.say("heartbeat", claimed)
    assert (status, told["error"]) == (409, "lease_lost")
    assert "is error" in told["message"]


def test_a_claim_id_brings_the_same_job_again(one: Foreign, two: Foreign, kind: str) -> None:
    made(one.client, {"kind": kind})
    claim_id = str(uuid4())
    first = one.claim(kind, claim_id=claim_id, lease_seconds=5)
    assert one.claim(kind, claim_id=claim_id)["lease_token"] == first["lease_token"]
    made(one.client, {"kind": kind})
    again = one.claim(kind, claim_id=claim_id, lease_seconds=50)
    assert (again["job"]["id"], again["lease_token"]) == (first["job"]["id"], first["lease_token"])
    assert again["job"]["attempts"] == 1
    assert again["job"]["lease_until"] > first["job"]["lease_until"]
    assert two.claim(kind, claim_id=claim_id)["job"]["id"] != first["job"]["id"]
    assert one.say("complete", first)[0] == 200
    assert one.claim(kind, claim_id=claim_id) == {}
