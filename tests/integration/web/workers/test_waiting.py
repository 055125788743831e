"""Claims that wait for a job: woken at once, bounded, ended with the process or the client, asked again and found."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from llm_mcp.errors import Unavailable
from llm_mcp.job import Submission
from llm_mcp.jobs import Jobs
from llm_mcp.remote import Remote, Waiter
from llm_mcp.remote import claims as claiming
from llm_mcp.runtime import Runtime
from llm_mcp.store import leases as lease_rows
from llm_mcp.store import remote as rows
from llm_mcp.store.listen import JOB_QUEUED
from llm_mcp.web import create_app
from tests.integration.web.client import Client
from tests.integration.web.door import Door
from tests.integration.web.test_submit import made
from tests.integration.web.workers.calls import Foreign
from tests.waiting import until

OpenDoor = Callable[..., Door]


@pytest.fixture
def slow_poll(runtime: Runtime) -> Runtime:
    """A runtime in which nobody finds a job by polling in the time of a test."""
    runtime.settings = runtime.settings.model_copy(update={"poll_s": 60.0})
    return runtime


@pytest.fixture
def client(slow_poll: Runtime) -> Client:
    return Client(create_app(slow_poll))


def heard(runtime: Runtime) -> None:
    until(lambda: runtime.listener.hears(JOB_QUEUED))


def places(client: Client) -> int:
    return int(client.application.extensions["streams"].open)


@pytest.mark.parametrize("every", [False, True])
def test_a_waiting_claim_has_the_job_at_once(client: Client, runtime: Runtime, kind: str, every: bool) -> None:
    worker = Foreign(client.another(), "w")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(worker.claim, *([] if every else [kind]), wait_s=60)
        until(lambda: places(client) == 1)
        heard(runtime)
        time.sleep(0.1)  # its own first look is over
        assert not waiting.done()
        began = time.monotonic()
        job_id = made(client, {"kind": kind})["id"]
        assert waiting.result(20)["job"]["id"] == job_id
    assert time.monotonic() - began < 10
    assert places(client) == 0


def test_a_claim_waits_as_long_as_it_said(client: Client, kind: str) -> None:
    began = time.monotonic()
    assert Foreign(client, "w").claim(kind, wait_s=0.4) == {}
    assert 0.4 <= time.monotonic() - began < 3.0


def test_a_delayed_job_ends_the_wait_when_it_is_due(client: Client, kind: str) -> None:
    job_id = made(client, {"kind": kind, "delay_s": 0.7})["id"]
    began = time.monotonic()
    assert Foreign(client, "w").claim(kind, wait_s=30)["job"]["id"] == job_id
    assert 0.4 < time.monotonic() - began < 5.0


def test_many_wait_and_each_gets_one(client: Client, jobs: Jobs, runtime: Runtime, kind: str) -> None:
    """One notice for the batch: who is served has the next one look."""
    n = 12
    with ThreadPoolExecutor(n) as pool:
        waiting = [pool.submit(Foreign(client.another(), f"w{i}").claim, kind, wait_s=60) for i in range(n)]
        until(lambda: places(client) == n)
        heard(runtime)
        made_ids = {str(job_id) for job_id in jobs.submit_many([Submission(kind=kind)] * n)}
        found = {one.result(20)["job"]["id"] for one in waiting}
    assert found == made_ids


def test_a_hint_costs_one_look_and_not_one_of_each_who_waits(
    jobs: Jobs, slow_poll: Runtime, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    look = lease_rows.turn

    def counted(*args: Any, **options: Any) -> object:
        looks.append(str(args[1]))
        return look(*args, **options)

    monkeypatch.setattr(lease_rows, "turn", counted)
    waiters = [Waiter() for _ in range(10)]
    remote = Remote.of(slow_poll)
    with ThreadPoolExecutor(10) as pool:
        waiting = [
            pool.submit(remote.claim, f"w{i}", kinds=[kind], wait_s=60, waiter=waiter)
            for i, waiter in enumerate(waiters)
        ]
        heard(slow_poll)
        until(lambda: len(looks) >= 10)
        time.sleep(0.3)
        looks.clear()
        jobs.submit(Submission(kind=f"other.{kind}"))
        until(lambda: looks)
        time.sleep(0.3)
        assert len(looks) == 1
        jobs.submit(Submission(kind=kind))
        until(lambda: any(one.done() for one in waiting))
        time.sleep(0.3)
        assert len(looks) == 3  # the one that found it, and one that looked whether there are more
        for waiter in waiters:
            waiter.nudge()
        assert sorted(one.result(20) is None for one in waiting) == [False] + [True] * 9


def test_who_leaves_the_head_of_the_line_passes_its_place_on(jobs: Jobs, slow_poll: Runtime, kind: str) -> None:
    remote, first, second = Remote.of(slow_poll), Waiter(), Waiter()
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(remote.claim, "one", kinds=[kind], wait_s=60, waiter=first)
        until(lambda: first.first)
        two = pool.submit(remote.claim, "two", kinds=[kind], wait_s=60, waiter=second)
        heard(slow_poll)
        first.nudge()
        assert one.result(20) is None
        until(lambda: second.first)
        job_id = jobs.submit(Submission(kind=kind))
        found = two.result(20)
        assert found is not None
        assert found.job.id == job_id


def test_waits_share_the_places_of_streams(client: Client, kind: str) -> None:
    client.application.extensions["streams"]._most = 1
    leave = client.application.extensions["streams"].enter()
    status, told = Foreign(client, "w").post("claim", {"worker_id": "w", "kinds": [kind], "wait_s": 5})
    assert (status, told["error"]) == (503, "too_many_streams")
    assert Foreign(client, "w").claim(kind) == {}  # who does not wait needs none
    leave()
    assert places(client) == 0


def test_a_draining_process_answers_at_once(client: Client, kind: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Foreign(client.another(), "w").claim, kind, wait_s=60)
        until(lambda: places(client) == 1)
        client.application.extensions["streams"].draining.set()
        assert waiting.result(5) == {}


def test_a_job_is_not_leased_to_a_client_that_left(open_door: OpenDoor, jobs: Jobs, kind: str) -> None:
    door = open_door(max_streams=1)
    asked = b'{"worker_id": "gone", "kinds": ["%s"], "wait_s": 60}' % kind.encode()
    with socket.create_connection((door.host, door.port)) as connection:
        head = f"POST /v1/workers/claim HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(asked)}\r\n\r\n"
        connection.sendall(head.encode() + asked)
        until(lambda: "gone" in {worker.id for worker in jobs.workers()})
    until(lambda: door.call("POST", "/v1/workers/claim", {"worker_id": "x", "kinds": ["x"], "wait_s": 0.01})[0] == 200)
    job_id = door.submit(kind)
    found = door.call("POST", "/v1/workers/claim", {"worker_id": "there", "kinds": [kind], "wait_s": 5})[1]
    assert found["job"]["id"] == job_id


@pytest.mark.parametrize("claim_id", [None, "5b1f4b0e-4a3c-4d53-9d0c-0a3f4e6f7a11"])
def test_a_job_whose_claimer_leaves_as_it_comes_is_given_back(
    client: Client, jobs: Jobs, kind: str, monkeypatch: pytest.MonkeyPatch, claim_id: str | None
) -> None:
    """But for one that said it would ask again."""
    ours, theirs = socket.socketpair()
    claim = Remote.claim

    def leaves(self: Remote, *args: Any, **options: Any) -> Any:
        found = claim(self, *args, **options)
        theirs.close()
        (place,) = client.application.extensions["streams"]._taken
        until(lambda: place.gone)
        return found

    monkeypatch.setattr(Remote, "claim", leaves)
    job_id = jobs.submit(Submission(kind=kind))
    asked = {"worker_id": "w", "kinds": [kind], "wait_s": 5, "claim_id": claim_id}
    with ours:
        client.post("/v1/workers/claim", json=asked, environ_overrides={"gunicorn.socket": ours})
    assert jobs.get(job_id).status == ("queued" if claim_id is None else "running")


def test_a_claim_that_was_given_up_and_asked_again_brings_one_job(client: Client, jobs: Jobs, kind: str) -> None:
    """The second request of a claim ends the first, wherever that one stands."""
    claim_id = str(uuid4())
    with ThreadPoolExecutor(3) as pool:
        waiting = [
            pool.submit(Foreign(client.another(), "w").claim, kind, wait_s=60, claim_id=claim_id) for _ in range(3)
        ]
        until(lambda: sum(one.done() for one in waiting) == 2)
        job_id = str(jobs.submit(Submission(kind=kind)))
        jobs.submit(Submission(kind=kind))
        found = [one.result(20) for one in waiting]
    assert [one["job"]["id"] for one in found if one] == [job_id]
    assert Foreign(client, "w").claim(kind, claim_id=claim_id)["job"]["id"] == job_id


def test_two_processes_agree_on_the_job_of_a_claim(client: Client, jobs: Jobs, kind: str, dsn: str) -> None:
    """As when both leased one under the same id before either looked."""
    one, two = (jobs.submit(Submission(kind=kind)) for _ in range(2))
    claim_id = uuid4()
    for _ in range(2):
        lease_rows.claim(jobs.runtime.db, "w", claim_id, kinds=[kind], n=1, lease_s=30.0, ageing_s=600.0)
    assert Foreign(client, "w").claim(kind, claim_id=str(claim_id))["job"]["id"] == str(one)
    assert jobs.get(two).status == "queued"


def test_a_lost_answer_of_the_database_is_asked_for_again(
    client: Client, jobs: Jobs, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = lease_rows.turn

    def lost(*args: Any, **options: Any) -> object:
        look(*args, **options)
        raise Unavailable("the connection broke")

    monkeypatch.setattr(lease_rows, "turn", lost)
    job_id = jobs.submit(Submission(kind=kind))
    assert Foreign(client, "w").claim(kind)["job"]["id"] == str(job_id)


def test_a_worker_that_waits_is_there_all_the_while(
    client: Client, jobs: Jobs, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    note = rows.seen

    def noted(db: Any, worker_id: str, **options: Any) -> None:
        seen.append(worker_id)
        note(db, worker_id, **options)

    monkeypatch.setattr(rows, "seen", noted)
    monkeypatch.setattr("llm_mcp.remote.presence._WRITE_S", 0.1)
    monkeypatch.setattr(claiming, "_NOTE_S", 0.1)
    Foreign(client, "waits").claim(kind, wait_s=0.6)
    assert 3 <= seen.count("waits") <= 8
    assert "waits" in {worker.id for worker in jobs.workers()}


def test_many_wait_in_one_process_and_it_serves_others(open_door: OpenDoor, kind: str) -> None:
    door = open_door(db_pool_size=2, max_streams=60)
    n, found = 50, list[str]()

    def wait(i: int) -> None:
        told = door.call(
            "POST", "/v1/workers/claim", {"worker_id": f"w{i}", "kinds": [kind], "wait_s": 60}, timeout_s=70
        )
        found.append(told[1]["job"]["id"])

    threads = [threading.Thread(target=wait, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    submitted = [door.submit(kind) for _ in range(n)]
    for thread in threads:
        thread.join(30)
    assert sorted(found) == sorted(submitted)
