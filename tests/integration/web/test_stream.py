"""`GET /v1/jobs/{id}/stream`: which frames come, in which order, and how a reader goes on after a break."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg

from llm_mcp.runtime import Runtime
from llm_mcp.store import leases as rows
from llm_mcp.web import create_app
from tests.integration.web.client import Client
from tests.integration.web.frames import Frame, parse, split, text
from tests.integration.web.played import Player
from tests.integration.web.test_reading import read
from tests.integration.web.test_submit import made
from tests.waiting import until

EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("progress", {"fraction": 0.0, "note": "loading"}),
    ("delta", {"thinking": "hm"}),
    ("delta", {"text": "Ünï "}),
    ("delta", {"text": "two\nlines\r\n\n"}),
    ("delta", {"text": "<tag> & \u2028 \U0001f600 "}),
    ("progress", {"fraction": 1.0, "note": ""}),
    ("delta", {"text": "end"}),
    ("usage", {"tokens_in": 3, "tokens_out": 4}),
]
TEXT = "Ünï two\nlines\r\n\n<tag> & \u2028 \U0001f600 end"


@contextmanager
def opened(client: Client, job_id: str, after: str = "") -> Iterator[Iterator[Frame]]:
    """Open a stream and give its events as they come."""
    headers = {"Last-Event-ID": after} if after else {}
    answer = client.get(f"/v1/jobs/{job_id}/stream", headers=headers)
    assert answer.status_code == 200
    try:
        yield parse(answer.iter_encoded())
    finally:
        answer.close()


def whole(client: Client, job_id: str, after: str = "") -> list[Frame]:
    """Return all events of a stream that ends by itself."""
    with opened(client, job_id, after) as frames:
        return list(frames)


def ids(frames: list[Frame]) -> list[str]:
    """Return the ids of the events that have one."""
    return [frame.id for frame in frames if frame.id]


def finished(client: Client, player: Player, kind: str) -> str:
    """Return the id of a job that streamed EVENTS and is done."""
    job_id = str(made(client, {"kind": kind})["id"])
    attempt = player.claim(job_id, kind)
    attempt.add(*EVENTS)
    attempt.done({"response": TEXT})
    return job_id


# — frames —


def test_the_head(client: Client, player: Player, kind: str) -> None:
    answer = client.get(f"/v1/jobs/{finished(client, player, kind)}/stream")
    assert answer.status_code == 200
    assert answer.mimetype == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert "Content-Length" not in answer.headers
    answer.close()


def test_a_status_frame_is_one_event_and_one_data_line(client: Client, kind: str) -> None:
    job_id = made(client, {"kind": kind, "payload": {"two": "lines\n"}})["id"]
    answer = client.get(f"/v1/jobs/{job_id}/stream")
    first = next(split(answer.iter_encoded()))
    answer.close()
    lines = first.split(b"\n")
    assert [line.split(b": ")[0] for line in lines] == [b"event", b"data", b"retry"]
    assert lines[0] == b"event: status"
    assert lines[2] == b"retry: 2000"


def test_a_payload_from_plain_sql_stays_on_its_line(client: Client, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("""SELECT llm.submit('test.sql', E'{"a": 1,\\r\\n\\n "b": "x y"}')""").fetchone()
    assert row is not None
    with opened(client, str(row[0])) as frames:
        assert next(frames).data["payload"] == {"a": 1, "b": "x y"}


def test_a_job_from_its_beginning(client: Client, player: Player, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    with opened(client, job_id) as frames:
        first = next(frames)
        assert first == Frame("status", "", read(client, job_id), 2000)
        assert first.data["status"] == "queued"
        attempt = player.claim(job_id, kind)
        assert next(frames) == Frame("status", "", read(client, job_id))
        for number, (name, data) in enumerate(EVENTS, 1):
            attempt.add((name, data))
            assert next(frames) == Frame(name, f"1:{number}", data)
        attempt.done({"response": TEXT})
        assert next(frames) == Frame("status", "", read(client, job_id))
        assert next(frames) == Frame("end", "", {"status": "done"})
        assert next(frames, None) is None


def test_a_running_job_says_so_first(client: Client, player: Player, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    player.claim(job_id, kind).say("a", "b")
    with opened(client, job_id) as frames:
        assert next(frames) == Frame("status", "", read(client, job_id), 2000)
        assert [next(frames) for _ in range(2)] == [
            Frame("delta", "1:1", {"text": "a"}),
            Frame("delta", "1:2", {"text": "b"}),
        ]


def test_a_finished_job_is_told_whole_with_one_status(client: Client, player: Player, kind: str) -> None:
    job_id = finished(client, player, kind)
    frames = whole(client, job_id)
    assert [(frame.event, frame.data) for frame in frames[:-2]] == EVENTS
    assert ids(frames) == [f"1:{n}" for n in range(1, len(EVENTS) + 1)]
    assert frames[-2:] == [Frame("status", "", read(client, job_id)), Frame("end", "", {"status": "done"})]
    assert frames[0].retry == 2000
    assert text(frames) == TEXT


def test_a_failed_job_ends_too(client: Client, player: Player, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    with opened(client, job_id) as frames:
        next(frames)
        attempt = player.claim(job_id, kind)
        attempt.say("half")
        attempt.fail("no luck", retryable=False)
        *_, status, end = frames
    assert (status.event, status.data["reason"], status.data["error"]) == ("status", "failed", "no luck")
    assert end == Frame("end", "", {"status": "error"})


def test_a_cancelled_job_ends_its_streams(client: Client, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    with opened(client, job_id) as frames:
        next(frames)
        client.another().post(f"/v1/jobs/{job_id}/cancel")
        assert [frame.event for frame in frames] == ["status", "end"]


def test_a_heartbeat_makes_no_frame(client: Client, runtime: Runtime, player: Player, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    attempt = player.claim(job_id, kind)
    with opened(client, job_id) as frames:
        next(frames)
        for _ in range(3):
            rows.heartbeat(runtime.db, [(attempt.job_id, attempt.lease.token)], lease_s=60.0)
            runtime.announce(attempt.job_id)
        attempt.say("x")
        assert next(frames).event == "delta"


def test_a_retry_shows_each_status_and_a_reset(client: Client, player: Player, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    seen = []
    with opened(client, job_id) as frames:
        seen.append(next(frames))
        first = player.claim(job_id, kind)
        first.say("wrong ")
        seen += [next(frames), next(frames)]
        first.fail("broke")
        seen.append(next(frames))
        second = player.claim(job_id, kind)
        second.say("right")
        seen += [next(frames), next(frames), next(frames)]
        second.done({"response": "right"})
        seen += list(frames)
    assert [(frame.event, frame.id, frame.data.get("status")) for frame in seen] == [
        ("status", "", "queued"),
        ("status", "", "running"),
        ("delta", "1:1", None),
        ("status", "", "queued"),
        ("status", "", "running"),
        ("reset", "2:0", None),
        ("delta", "2:1", None),
        ("status", "", "done"),
        ("end", "", "done"),
    ]
    assert seen[5].data == {"attempt": 2}
    assert text(seen) == "right"


def test_a_waiting_job_is_told_its_place(client: Client, kind: str) -> None:
    made(client, {"kind": kind})
    with opened(client, made(client, {"kind": kind})["id"]) as frames:
        assert next(frames).data["status"] == "queued"
        assert next(frames) == Frame("queue", "", {"position": 2})


def test_an_unknown_job_is_one_error_frame(client: Client) -> None:
    job_id = uuid4()
    [frame] = whole(client, str(job_id))
    assert frame.event == "error"
    assert frame.data["error"] == "not_found"
    assert set(frame.data) == {"error", "message"}


# — places —


def test_a_stream_takes_a_place_and_gives_it_back(runtime: Runtime, client: Client, kind: str) -> None:
    runtime.settings = runtime.settings.model_copy(update={"max_streams": 2})
    app = create_app(runtime)
    streams = app.extensions["streams"]
    one, two, three = (Client(app) for _ in range(3))
    job_id = made(client, {"kind": kind})["id"]
    with opened(one, job_id) as first, opened(two, job_id) as second:
        next(first)
        next(second)
        assert streams.open == 2
        refused = three.get(f"/v1/jobs/{job_id}/stream")
        assert (refused.status_code, refused.json["error"]) == (503, "too_many_streams")
        assert int(refused.headers["Retry-After"]) >= 1
        assert three.get("/health").status_code == 200
        assert three.get("/v1/jobs").status_code == 200
    assert streams.open == 0
    with opened(three, job_id) as frames:
        assert next(frames).event == "status"
    head = three.head(f"/v1/jobs/{job_id}/stream")
    head.close()
    assert head.status_code == 200
    assert [frame.event for frame in whole(three, str(uuid4()))] == ["error"]
    assert three.get("/v1/jobs/nope/stream").status_code == 404
    assert three.get(f"/v1/jobs/{job_id}/stream?starting_after=x").status_code == 400
    assert streams.open == 0


def test_a_place_is_given_back_once(runtime: Runtime, client: Client) -> None:
    streams = client.application.extensions["streams"]
    leave, other = streams.enter(), streams.enter()
    leave()
    leave()
    assert streams.open == 1
    other()
    assert streams.open == 0


def test_a_draining_process_says_goodbye_and_takes_no_more(client: Client, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    streams = client.application.extensions["streams"]
    with opened(client, job_id) as frames:
        next(frames)
        streams.draining.set()
        assert list(frames) == [Frame("bye", "", {}, 500)]
    refused = client.get(f"/v1/jobs/{job_id}/stream")
    assert (refused.status_code, refused.json["error"]) == (503, "too_many_streams")
    until(lambda: streams.open == 0)
