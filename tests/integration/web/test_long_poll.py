"""`GET /v1/jobs/{id}?wait_s=`: the job as soon as it is finished."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from llm_mcp import hub
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.integration.web.client import Client
from tests.integration.web.door import Door
from tests.integration.web.played import Player
from tests.integration.web.test_submit import made
from tests.waiting import until

OpenDoor = Callable[..., Door]


@pytest.fixture
def open_places(client: Client) -> Callable[[], int]:
    streams = client.application.extensions["streams"]
    return lambda: int(streams.open)


def test_it_is_answered_as_soon_as_the_job_is_finished(
    client: Client, player: Player, kind: str, open_places: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_LOOK_ANYWAY_S", 30.0)
    job_id = made(client, {"kind": kind})["id"]
    attempt = player.claim(job_id, kind)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.another().get, f"/v1/jobs/{job_id}?wait_s=60")
        until(lambda: open_places() == 1)
        attempt.say("not yet")
        assert not waiting.done()
        ended = time.monotonic()
        attempt.done({"ok": True})
        found = waiting.result(20)
    assert time.monotonic() - ended < 10
    assert (found.status_code, found.json["status"], found.json["result"]) == (200, "done", {"ok": True})
    assert open_places() == 0


def test_it_is_answered_as_it_is_when_the_time_is_over(client: Client, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    began = time.monotonic()
    found = client.get(f"/v1/jobs/{job_id}?wait_s=0.3")
    assert 0.3 <= time.monotonic() - began < 2.0
    assert (found.status_code, found.json["status"]) == (200, "queued")


@pytest.mark.parametrize("wait_s", ["", "0", "0.0"])
def test_no_wait_takes_no_place(client: Client, kind: str, wait_s: str) -> None:
    client.application.extensions["streams"].draining.set()
    job_id = made(client, {"kind": kind})["id"]
    assert client.get(f"/v1/jobs/{job_id}?wait_s={wait_s}").json["status"] == "queued"


def test_a_finished_job_is_not_waited_for(client: Client, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    client.post(f"/v1/jobs/{job_id}/cancel")
    client.application.extensions["streams"].draining.set()  # there is no place, and none is needed
    assert client.get(f"/v1/jobs/{job_id}?wait_s=60").json["status"] == "error"


@pytest.mark.parametrize(
    "wait_s",
    [
        "-1",
        "61",
        "60.001",
        "100",
        "1e1",
        "abc",
        "nan",
        "inf",
        "1.",
        ".5",
        " 1",
        "1 ",
        "0x1",
        "\u0661",
        "1.2345",
        "true",
    ],
)
def test_waits_that_are_none(client: Client, kind: str, wait_s: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    found = client.get(f"/v1/jobs/{job_id}", query_string={"wait_s": wait_s})
    assert (found.status_code, found.json["error"], found.json["field"]) == (400, "invalid_input", "wait_s")


def test_no_such_job(client: Client) -> None:
    assert client.get(f"/v1/jobs/{uuid4()}?wait_s=60").status_code == 404
    assert client.get("/v1/jobs/nope?wait_s=60").status_code == 404


def test_waits_and_streams_share_the_places(runtime: Runtime, client: Client, kind: str) -> None:
    runtime.settings = runtime.settings.model_copy(update={"max_streams": 1})
    app = create_app(runtime)
    job_id = made(client, {"kind": kind})["id"]
    leave = app.extensions["streams"].enter()
    refused = Client(app).get(f"/v1/jobs/{job_id}?wait_s=5")
    assert (refused.status_code, refused.json["error"]) == (503, "too_many_streams")
    assert int(refused.headers["Retry-After"]) >= 1
    leave()
    assert Client(app).get(f"/v1/jobs/{job_id}?wait_s=0.01").status_code == 200
    assert app.extensions["streams"].open == 0


def test_a_draining_process_answers_at_once(client: Client, kind: str, open_places: Callable[[], int]) -> None:
    job_id = made(client, {"kind": kind})["id"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.another().get, f"/v1/jobs/{job_id}?wait_s=60")
        until(lambda: open_places() == 1)
        client.application.extensions["streams"].draining.set()
        assert waiting.result(5).json["status"] == "queued"


def test_a_client_that_leaves_frees_its_place(open_door: OpenDoor, kind: str) -> None:
    door = open_door(max_streams=1)
    job_id = door.submit(kind)

    def free() -> bool:
        return door.call("GET", f"/v1/jobs/{job_id}?wait_s=0.01")[0] == 200

    def waiting() -> socket.socket | None:
        connection = socket.create_connection((door.host, door.port))
        connection.sendall(f"GET /v1/jobs/{job_id}?wait_s=60 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        for _ in range(100):
            if not free():
                return connection
            if select.select([connection], [], [], 0)[0]:  # we were there before it, and it was refused
                break
        connection.close()
        return None

    connection = until(waiting)
    assert connection is not None
    connection.close()
    until(free, timeout_s=10)


def test_many_wait_at_once(open_door: OpenDoor, player: Player, kind: str) -> None:
    door = open_door(db_pool_size=2)
    job_id = door.submit(kind)
    found: list[str] = []

    def wait() -> None:
        found.append(door.call("GET", f"/v1/jobs/{job_id}?wait_s=60")[1]["status"])

    threads = [threading.Thread(target=wait) for _ in range(40)]
    for thread in threads:
        thread.start()
    attempt = player.claim(job_id, kind)
    attempt.done({})
    for thread in threads:
        thread.join(20)
    assert found == ["done"] * 40
