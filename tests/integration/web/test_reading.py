"""Reading jobs: the job object, pages of them, and cancelling."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from pydantic import SecretStr

from llm_mcp.errors import LeaseLost
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.integration.web.client import Client
from tests.integration.web.played import Player
from tests.integration.web.test_submit import made, post

INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
ALWAYS = {
    *("id", "kind", "payload", "status", "attempts", "max_attempts", "priority", "queued_at", "updated_at"),
    *("source", "queue"),
}


def read(client: Client, job_id: str) -> Any:
    """Return a job as it reads now."""
    return client.get(f"/v1/jobs/{job_id}").json


# — the job object —


def test_a_waiting_job(client: Client, player: Player, kind: str) -> None:
    player.report(kind)
    job = made(client, {"kind": kind, "payload": {"a": 1}, "priority": 5, "source": "me", "max_attempts": 2})
    assert set(job) == ALWAYS
    assert (job["kind"], job["payload"], job["status"]) == (kind, {"a": 1}, "queued")
    assert (job["attempts"], job["max_attempts"], job["priority"], job["source"]) == (0, 2, 5, "me")
    for name in ("queued_at", "updated_at"):
        assert re.fullmatch(INSTANT, job[name])
        assert abs((datetime.fromisoformat(job[name]) - datetime.now().astimezone()).total_seconds()) < 60


def test_a_running_job(client: Client, player: Player, kind: str) -> None:
    waiting = made(client, {"kind": kind, "deadline_at": "2050-01-01T00:00:00Z"})
    player.claim(waiting["id"], kind)
    job = read(client, waiting["id"])
    assert set(job) == ALWAYS | {"lease_until", "worker_id", "deadline_at"}
    assert (job["status"], job["attempts"], job["worker_id"]) == ("running", 1, "played")
    assert re.fullmatch(INSTANT, job["lease_until"])
    assert job["deadline_at"] == "2050-01-01T00:00:00.000000Z"
    assert job["queued_at"] == waiting["queued_at"]
    assert job["updated_at"] > waiting["updated_at"]


@pytest.mark.parametrize("result", [{"ok": True, "response": "<é>&"}, {}, [], 0, False, "", "text", 1.5])
def test_a_done_job(client: Client, player: Player, kind: str, result: Any) -> None:
    job_id = made(client, {"kind": kind})["id"]
    player.claim(job_id, kind).done(result)
    job = read(client, job_id)
    assert set(job) == ALWAYS | {"result", "finished_at"}
    assert (job["status"], job["result"]) == ("done", result)


def test_a_result_of_null_is_left_out(client: Client, player: Player, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    player.claim(job_id, kind).done(None)
    assert set(read(client, job_id)) == ALWAYS | {"finished_at"}


def test_a_retried_job_says_what_went_wrong(client: Client, player: Player, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    player.claim(job_id, kind).fail("the first try failed")
    waiting = read(client, job_id)
    assert set(waiting) == ALWAYS | {"error", "warnings"}
    assert (waiting["status"], waiting["attempts"], waiting["error"]) == ("queued", 1, "the first try failed")
    player.claim(job_id, kind).done({"ok": True})
    done = read(client, job_id)
    assert (done["status"], done["attempts"], done["error"]) == ("done", 2, "the first try failed")


def test_a_failed_job(client: Client, player: Player, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    player.claim(job_id, kind).fail("no luck", retryable=False)
    job = read(client, job_id)
    assert set(job) == ALWAYS | {"error", "reason", "finished_at"}
    assert (job["status"], job["reason"], job["error"]) == ("error", "failed", "no luck")


def test_a_payload_from_plain_sql_reads_as_it_was_written(client: Client, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("""SELECT llm.submit('echo', E'{"b": 1.50,\\n  "a": [1]}')""").fetchone()
    assert row is not None
    assert read(client, str(row[0]))["payload"] == {"b": 1.5, "a": [1]}


@pytest.mark.parametrize("path", ["", "/stream", "/cancel"])
@pytest.mark.parametrize(
    "job_id",
    [
        "nope",
        "0",
        "01A2144B-5D20-70A6-AFC6-473EDA9A8DD9",
        "{01a2144b-5d20-70a6-afc6-473eda9a8dd9}",
        "urn:uuid:01a2144b-5d20-70a6-afc6-473eda9a8dd9",
        "01a2144b5d2070a6afc6473eda9a8dd9",
        "01a2144b-5d20-70a6-afc6-473eda9a8dd9%20",
        "%00",
        "%ff%fe",
        "..",
        "0\u0661a2144b-5d20-70a6-afc6-473eda9a8dd",
        "x" * 5000,
    ],
)
def test_ids_that_are_none(client: Client, job_id: str, path: str) -> None:
    answer = client.open(f"/v1/jobs/{job_id}{path}", method="POST" if path == "/cancel" else "GET")
    assert (answer.status_code, answer.content_type, answer.json["error"]) == (404, "application/json", "not_found")


def test_unknown_ids(client: Client) -> None:
    for answer in (client.get(f"/v1/jobs/{uuid4()}"), client.post(f"/v1/jobs/{uuid4()}/cancel")):
        assert (answer.status_code, answer.json["error"]) == (404, "not_found")


# — cancelling —


def test_a_waiting_job_is_cancelled(client: Client, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    answer = client.post(f"/v1/jobs/{job_id}/cancel")
    assert answer.status_code == 200
    assert (answer.json["id"], answer.json["status"], answer.json["reason"]) == (job_id, "error", "cancelled")
    assert answer.json == read(client, job_id)


def test_a_running_job_is_cancelled_and_its_worker_told(client: Client, player: Player, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    attempt = player.claim(job_id, kind)
    assert client.post(f"/v1/jobs/{job_id}/cancel", data=b"any body").json["reason"] == "cancelled"
    with pytest.raises(LeaseLost):
        attempt.done({"late": True})
    assert "result" not in read(client, job_id)


@pytest.mark.parametrize("end", ["cancelled", "done", "failed"])
def test_a_finished_job_is_not(client: Client, player: Player, kind: str, end: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    match end:
        case "cancelled":
            client.post(f"/v1/jobs/{job_id}/cancel")
        case "done":
            player.claim(job_id, kind).done({})
        case "failed":
            player.claim(job_id, kind).fail("no", retryable=False)
    before = read(client, job_id)
    answer = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json["error"]) == (409, "already_finished")
    assert read(client, job_id) == before


# — pages —


def pages(client: Client, query: str) -> list[list[str]]:
    """Return the ids of each page, following the cursors to the end."""
    found, cursor = [], ""
    while True:
        page = client.get(f"/v1/jobs?{query}{cursor}").json
        found.append([job["id"] for job in page["items"]])
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def test_a_list_is_newest_first_and_without_what_is_heavy(client: Client, player: Player, kind: str) -> None:
    ids = [made(client, {"kind": kind, "payload": {"n": n}})["id"] for n in range(3)]
    for _ in ids:
        player.claim(None, kind).done({"big": "x" * 1000})
    listed = client.get(f"/v1/jobs?kind={kind}").json
    assert list(listed) == ["items", "next_cursor"]
    assert [job["id"] for job in listed["items"]] == ids[::-1]
    assert listed["next_cursor"] is None
    for job in listed["items"]:
        assert set(job) == (ALWAYS - {"payload"}) | {"finished_at"}
        whole = read(client, job["id"])
        assert {**job, "payload": whole["payload"], "result": whole["result"]} == whole


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 7), (2, [2, 2, 2, 1]), (3, [3, 3, 1]), (7, [7]), (200, [7])])
def test_pages_hold_every_job_once(client: Client, kind: str, limit: int, sizes: list[int]) -> None:
    ids = [made(client, {"kind": kind})["id"] for _ in range(7)]
    found = pages(client, f"kind={kind}&limit={limit}")
    assert [len(page) for page in found] == sizes
    assert [job_id for page in found for job_id in page] == ids[::-1]


def test_pages_are_stable_while_jobs_come_in(client: Client, kind: str) -> None:
    ids = [made(client, {"kind": kind})["id"] for _ in range(6)]
    first = client.get(f"/v1/jobs?kind={kind}&limit=2").json
    made(client, {"kind": kind})
    second = client.get(f"/v1/jobs?kind={kind}&limit=2&cursor={first['next_cursor']}").json
    made(client, {"kind": kind})
    third = client.get(f"/v1/jobs?kind={kind}&limit=2&cursor={second['next_cursor']}").json
    assert [job["id"] for page in (first, second, third) for job in page["items"]] == ids[::-1]
    assert third["next_cursor"] is None


def test_fifty_to_a_page_unless_told(client: Client, runtime: Runtime, kind: str) -> None:
    with psycopg.connect(runtime.dsn) as conn:
        conn.execute("SELECT llm.submit(%s) FROM generate_series(1, 201)", (kind,))
    assert [len(page) for page in pages(client, f"kind={kind}")] == [50, 50, 50, 50, 1]
    assert [len(page) for page in pages(client, f"kind={kind}&limit=200")] == [200, 1]


def test_filters(client: Client, player: Player, kind: str) -> None:
    done = made(client, {"kind": kind, "source": "a"})["id"]
    player.claim(done, kind).done({})
    failed = made(client, {"kind": kind, "source": "b"})["id"]
    player.claim(failed, kind).fail("no", retryable=False)
    running = made(client, {"kind": kind, "source": "a"})["id"]
    player.claim(running, kind)
    queued = made(client, {"kind": kind, "source": "b"})["id"]

    def found(query: str) -> list[str]:
        return [job["id"] for job in client.get(f"/v1/jobs?{query}").json["items"]]

    assert found(f"kind={kind}") == [queued, running, failed, done]
    for status, job_id in (("done", done), ("error", failed), ("running", running), ("queued", queued)):
        assert found(f"kind={kind}&status={status}") == [job_id]
    assert found(f"kind={kind}&source=a") == [running, done]
    assert found(f"kind={kind}&source=b&status=error") == [failed]
    assert found(f"kind={kind}&source=%25") == []
    assert found(f"kind={kind}&source=&status=&limit=&cursor=") == [queued, running, failed, done]
    assert found(f"kind={kind.upper()}") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [(f"limit={text}", "limit") for text in ("0", "-1", "201", "1.5", "1e2", "x", "٣", "9" * 5000, "%00", "+5", "0x10")]
    + [(f"status={text}", "status") for text in ("DONE", "cancelled", "done,error", "%00", "nope")]
    + [(f"cursor={text}", "cursor") for text in ("0", "nope", "%00", UUID(int=5).hex, "A" * 5000)]
    + [("cursor=01A2144B-5D20-70A6-AFC6-473EDA9A8DD9", "cursor")]
    + [("kind=%00", "kind"), ("kind=a%0Ab", "kind"), ("source=%00x", "source")],
)
def test_tampering(client: Client, query: str, field: str) -> None:
    answer = client.get(f"/v1/jobs?{query}")
    assert (answer.status_code, answer.json["error"], answer.json["field"]) == (400, "invalid_input", field)


@pytest.mark.parametrize("cursor", [UUID(int=0), UUID(int=2**128 - 1), uuid4()])
def test_a_cursor_is_a_place_and_needs_no_job(client: Client, kind: str, cursor: UUID) -> None:
    job_id = made(client, {"kind": kind})["id"]
    page = client.get(f"/v1/jobs?kind={kind}&cursor={cursor}").json
    assert [job["id"] for job in page["items"]] == ([job_id] if str(cursor) > job_id else [])


def test_unknown_parameters_are_named(client: Client, kind: str) -> None:
    answer = client.get(f"/v1/jobs?kind={kind}&stauts=done").json
    assert answer["warnings"] == ["unknown parameter 'stauts' was ignored"]


# — methods and paths —


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/jobs", {"GET", "HEAD", "POST"}),
        ("/v1/jobs/01a2144b-5d20-70a6-afc6-473eda9a8dd9", {"GET", "HEAD"}),
        ("/v1/jobs/01a2144b-5d20-70a6-afc6-473eda9a8dd9/stream", {"GET", "HEAD"}),
        ("/v1/jobs/01a2144b-5d20-70a6-afc6-473eda9a8dd9/cancel", {"POST"}),
    ],
)
def test_wrong_methods(client: Client, path: str, allowed: set[str]) -> None:
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "FROB"} - allowed:
        answer = client.open(path, method=method)
        assert answer.status_code == 405, method
        assert set(answer.headers["Allow"].split(", ")) == allowed | {"OPTIONS"}
        if method != "HEAD":
            assert (answer.content_type, answer.json["error"]) == ("application/json", "method_not_allowed")


@pytest.mark.parametrize(
    "path",
    ["/v1", "/v1/", "/v1/jobs/", "/v1/jobs//", "/v1//jobs", "/V1/jobs", "/v1/jobs/x/y", "/static/x", "/health/"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_paths(client: Client, path: str, method: str) -> None:
    answer = client.open(path, method=method)
    assert (answer.status_code, answer.content_type) == (404, "application/json")
    assert answer.json == {"error": "not_found", "message": "no such path"}


def test_a_slash_after_an_id_is_another_path(client: Client, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    assert client.get(f"/v1/jobs/{job_id}/").status_code == 404
    assert client.get(f"/v1/jobs/{job_id}/stream/").status_code == 404


@pytest.mark.parametrize("path", ["/health", "/version"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_health_answers_any_method(client: Client, path: str, method: str) -> None:
    answer = client.open(path, method=method)
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    if method != "HEAD":
        assert set(answer.json) == {"status", "version"}
        assert answer.json["status"] == "ok"


def test_health_needs_no_database(client: Client, runtime: Runtime) -> None:
    assert client.get("/health").status_code == 200
    assert "db" not in runtime._parts


def test_no_other_origin_is_let_in(client: Client) -> None:
    answer = client.get("/v1/jobs", headers={"Origin": "http://evil.example"})
    assert not [name for name, _ in answer.headers if name.lower().startswith("access-control")]


def test_head_is_a_get_without_a_body(client: Client, kind: str) -> None:
    job_id = made(client, {"kind": kind})["id"]
    for path in ("/v1/jobs", f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/stream"):
        answer = client.head(path)
        assert (answer.status_code, answer.data) == (200, b"")


# — without a database —


def test_a_missing_database_is_a_503_that_says_when_to_ask_again(runtime: Runtime) -> None:
    nowhere = SecretStr("postgresql://canary:pw@127.0.0.1:1/x")
    away = Runtime(runtime.settings.model_copy(update={"db_dsn": nowhere}))
    lost = Client(create_app(away))
    try:
        for answer in (post(lost, {"kind": "echo"}), lost.get("/v1/jobs"), lost.get(f"/v1/jobs/{uuid4()}")):
            assert (answer.status_code, answer.json["error"]) == (503, "unavailable")
            assert int(answer.headers["Retry-After"]) >= 1
            assert "canary" not in answer.text
            assert "127.0.0.1" not in answer.text
    finally:
        away.close()
