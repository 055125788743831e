"""Who is there: machines that register, workers that ask, and what they serve."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from llm_mcp.jobs import Jobs
from llm_mcp.store.pool import Connection
from tests.integration.web.client import Client
from tests.integration.web.test_submit import made
from tests.integration.web.workers.calls import Foreign


def test_a_worker_that_asks_serves_its_kinds(one: Foreign, client: Client, sql: Connection, kind: str) -> None:
    sql.execute("DELETE FROM llm.workers")  # some take every kind
    waiting = made(client, {"kind": kind})
    assert "no live worker" in waiting["warnings"][0]
    assert one.claim(f"not.{kind}") == {}
    assert "warnings" in client.get(f"/v1/jobs/{waiting['id']}").json
    made(client, {"kind": kind, "priority": 9})
    one.claim(kind)
    assert "warnings" not in client.get(f"/v1/jobs/{waiting['id']}").json


def test_a_worker_that_asks_in_turns_serves_all_it_asks_for(one: Foreign, jobs: Jobs, kind: str) -> None:
    one.claim(f"{kind}.a")
    one.claim(f"{kind}.b")
    (worker,) = (worker for worker in jobs.workers() if worker.id == one.worker_id)
    assert worker.kinds == [f"{kind}.a", f"{kind}.b"]
    one.claim()
    (worker,) = (worker for worker in jobs.workers() if worker.id == one.worker_id)
    assert worker.kinds == []


def test_who_registers_alone_serves_nothing_yet(one: Foreign, jobs: Jobs) -> None:
    one.post("register", {"worker": {"id": one.worker_id}})
    assert one.worker_id not in {worker.id for worker in jobs.workers()}


def test_registering_tells_of_the_machine(one: Foreign, sql: Connection, jobs: Jobs, kind: str) -> None:
    worker = {"id": one.worker_id, "name": "box", "platform": "Linux", "arch": "x86_64", "host": "box.lan"}
    assert one.post("register", {"worker": {**worker, "tags": {"ollama": True}}}) == (200, {"worker_id": one.worker_id})
    sql.execute("""UPDATE llm.devices SET tags = '{"found": 1, "ollama": false}', status = 'offline'""")
    one.post("register", {"worker": {**worker, "name": "bigbox", "tags": {"ollama": True}}})
    row = sql.execute("SELECT * FROM llm.devices WHERE id = %s", (one.worker_id,)).fetchone()
    assert row is not None
    assert {name: row[name] for name in worker} == {**worker, "name": "bigbox"}
    assert (row["tags"], row["status"]) == ({"found": 1, "ollama": True}, "online")
    assert row["last_seen"] >= row["created_at"]
    one.claim(kind)
    (seen,) = (worker for worker in jobs.workers() if worker.id == one.worker_id)
    assert (seen.name, seen.host, seen.pid) == ("bigbox", "box.lan", None)


@pytest.mark.parametrize("body", ["null", "{}", '{"worker": null}', '{"worker": {}}', '{"worker": {"id": "  "}}'])
def test_a_worker_without_an_id_gets_one(one: Foreign, body: str) -> None:
    before = time.time_ns()
    status, told = one.post("register", body)
    assert status == 200
    name, _, number = told["worker_id"].partition("-")
    assert name == "worker"
    assert before <= int(number) <= time.time_ns()


def test_a_living_worker_of_ours_is_not_spoken_for(one: Foreign, sql: Connection, kind: str) -> None:
    sql.execute(
        "INSERT INTO llm.workers (id, kinds, life_key) VALUES (%s, '{x}', 77)",
        (one.worker_id,),
    )
    one.claim(kind)
    row = sql.execute("SELECT kinds, life_key FROM llm.workers WHERE id = %s", (one.worker_id,)).fetchone()
    assert row == {"kinds": ["x"], "life_key": 77}


def test_a_machine_that_is_away(one: Foreign, client: Client, sql: Connection) -> None:
    one.post("register", {"worker": {"id": one.worker_id, "tags": {"ollama": True}}})
    for device in (one.worker_id, f"nobody-{uuid4()}"):
        answer = client.post("/v1/devices/offline", json={"device_id": device, "reason": "refused\u0000"[:7]})
        assert (answer.status_code, answer.json) == (200, {"ok": True})
    row = sql.execute("SELECT status, tags FROM llm.devices WHERE id = %s", (one.worker_id,)).fetchone()
    assert row is not None
    assert row["status"] == "offline"
    assert row["tags"]["ollama"] is True
    assert row["tags"]["last_error"] == "refused"
    assert row["tags"]["last_error_at"].endswith("Z")
    assert client.post("/v1/devices/offline", json={}).json["error"] == "device_id_required"
