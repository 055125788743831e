"""The plain paths of the bridge, as the wire contract has them, over a real gRPC door."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from llm_mcp.config import Settings
from llm_mcp.jobs import Jobs
from tests.integration.mcp.served import Bridge, Frame
from tests.integration.rpc.served import Served
from tests.integration.web.played import Player
from tests.waiting import until

_FIELDS = {
    "id", "kind", "payload_json", "status", "attempts", "max_attempts", "lease_until", "deadline_at", "result_json",
    "error", "priority", "queued_at", "updated_at", "reason", "source", "queue", "worker_id", "finished_at",
    "lease_token", "warnings",
}  # fmt: skip


def _submitted(served: Bridge, body: Any, **headers: str) -> str:
    told = served.ask("POST", "/submit", body, **headers)
    assert told.status == 202, told
    assert list(told.json) == ["job_id"]
    assert told.headers["location"] == f"/jobs/{told.json['job_id']}"
    return str(told.json["job_id"])


def test_a_job_from_submission_to_result(served: Bridge, player: Player, kind: str) -> None:
    body = {"kind": kind, "payload": {"n": 1, "ä": "ö"}, "priority": 5, "source": "test", "max_attempts": 7}
    job_id = _submitted(served, {**body, "deadline_at": "2099-01-01T00:00:00Z"})
    job = served.ask("GET", f"/jobs/{job_id}").json
    assert set(job) == _FIELDS
    assert json.loads(job["payload_json"]) == {"n": 1, "ä": "ö"}
    assert (job["status"], job["result_json"], job["lease_until"], job["error"]) == ("queued", "", "", "")
    assert (job["priority"], job["source"], job["max_attempts"]) == (5, "test", 7)
    assert job["deadline_at"] == "2099-01-01T00:00:00Z"
    player.claim(job_id, kind).done({"ok": True})
    job = served.ask("GET", f"/jobs/{job_id}").json
    assert (job["status"], json.loads(job["result_json"])) == ("done", {"ok": True})


def test_what_is_left_out_is_as_the_contract_says(served: Bridge) -> None:
    job = served.ask("GET", f"/jobs/{_submitted(served, {})}").json
    assert (job["kind"], job["payload_json"], job["source"], job["max_attempts"]) == ("echo", "{}", "mcp", 3)
    job = served.ask("GET", f"/jobs/{_submitted(served, {'payload': [1, None], 'kind': None})}").json
    assert (job["kind"], json.loads(job["payload_json"])) == ("echo", [1, None])


@pytest.mark.parametrize(
    ("body", "status", "word", "field"),
    [
        (b"null", 400, "invalid_json", None),
        (b"", 400, "invalid_json", None),
        (b"{", 400, "invalid_json", None),
        (b"[]", 400, "invalid_json", None),
        (b'"x"', 400, "invalid_json", None),
        (b'{"kind": "echo"} {}', 400, "invalid_json", None),
        (b'{"kind": "echo", "payload": NaN}', 400, "invalid_json", "payload"),
        (b'{"kind": 7}', 400, "invalid_input", "kind"),
        (b'{"kind": "echo", "priority": "1"}', 400, "invalid_input", "priority"),
        (b'{"kind": "echo", "priority": 1.5}', 400, "invalid_input", "priority"),
        (b'{"kind": "echo", "priority": 2147483648}', 400, "invalid_input", "priority"),
        (b'{"kind": "echo", "max_attempts": true}', 400, "invalid_input", "max_attempts"),
        (b'{"kind": "echo", "deadline_at": "soon"}', 400, "invalid_deadline_at", "deadline_at"),
        (b'{"kind": "echo", "source": {}}', 400, "invalid_input", "source"),
        (b'{"kind": "ollama.generate", "payload": {"prompt": 7}}', 400, "invalid_payload", "payload.prompt"),
        (b'{"prompt": "x", "model": 7}', 400, "invalid_input", "model"),
        (b'{"prompt": "x", "device": "nowhere"}', 400, "invalid_input", "device"),
    ],
)
def test_a_bad_submission_is_told_why(served: Bridge, body: bytes, status: int, word: str, field: str | None) -> None:
    told = served.ask("POST", "/submit", body)
    assert (told.status, told.json["error"], told.json.get("field")) == (status, word, field), told.json
    assert told.json["message"]
    assert served.ask("GET", "/health").status == 200


def test_an_unknown_job(served: Bridge) -> None:
    for job_id in (str(uuid4()), "nonsense", "x" * 3000, "%00", str(uuid4()).upper()):
        told = served.ask("GET", f"/jobs/{job_id}")
        assert (told.status, told.json["error"]) == (404, "not_found"), job_id
        with served.watch(f"/jobs/{job_id}/stream") as watch:
            assert watch.status == 200
            assert [(frame.event, frame.data["error"]) for frame in watch.frames()] == [("error", "not_found")]


def test_the_same_key_is_the_same_job(served: Bridge, kind: str) -> None:
    first = _submitted(served, {"kind": kind}, Idempotency_Key="k1")
    assert _submitted(served, {"kind": kind}, Idempotency_Key="k1") == first
    told = served.ask("POST", "/submit", {"kind": kind, "payload": {"other": 1}}, Idempotency_Key="k1")
    assert (told.status, told.json["error"]) == (422, "idempotency_key_reused")
    told = served.ask("POST", "/submit", {"kind": kind}, Idempotency_Key="k" * 256)
    assert (told.status, told.json["field"]) == (400, "Idempotency-Key")


def test_a_stream_tells_all_and_ends(served: Bridge, player: Player, kind: str) -> None:
    job_id = _submitted(served, {"kind": kind})
    with served.watch(f"/jobs/{job_id}/stream") as watch:
        assert watch.headers["content-type"].startswith("text/event-stream")
        assert watch.headers["x-accel-buffering"] == "no"
        frames = watch.frames()
        first = next(frames)
        assert (first.event, first.id, first.data["status"]) == ("status", "", "queued")
        attempt = player.claim(job_id, kind)
        attempt.say("a", "b\r\n")
        attempt.done({"ok": True})
        rest = [frame for frame in frames if frame.event != "queue"]
    assert [frame.data["text"] for frame in rest if frame.event == "delta"] == ["a", "b\r\n"]
    assert [frame.id for frame in rest if frame.event == "delta"] == ["1:1", "1:2"]
    assert (rest[-1].event, rest[-1].data["status"]) == ("status", "done")
    assert json.loads(rest[-1].data["result_json"]) == {"ok": True}
    assert rest.count(rest[-1]) == 1


def test_a_stream_goes_on_where_it_was_left(served: Bridge, player: Player, kind: str) -> None:
    job_id = _submitted(served, {"kind": kind})
    attempt = player.claim(job_id, kind)
    attempt.say("a", "b", "c")
    attempt.done({})
    with served.watch(f"/jobs/{job_id}/stream", Last_Event_ID="1:2") as watch:
        assert [frame.data["text"] for frame in watch.frames() if frame.event == "delta"] == ["c"]
    with served.watch(f"/jobs/{job_id}/stream", Last_Event_ID="nonsense") as watch:
        assert watch.status == 400


def test_a_watcher_that_leaves_ends_the_call(
    bridge_settings: Settings, rpc_settings: Settings, tmp_path: Path, log: Path, kind: str
) -> None:
    """The core has places for two watchers: whose call went on without its watcher, would keep one."""
    with (
        Served(rpc_settings.model_copy(update={"max_streams": 2}), tmp_path / "rpc.log") as door,
        Bridge(bridge_settings.model_copy(update={"grpc_addr": door.target}), log) as bridge,
    ):
        job_id = _submitted(bridge, {"kind": kind})

        def watched() -> bool:
            with bridge.watch(f"/jobs/{job_id}/stream") as watch:
                return next(watch.frames()).event == "status"

        for _ in range(6):
            until(watched, every_s=0.05)


def test_a_core_that_is_away_and_comes_back(
    bridge_settings: Settings, rpc_settings: Settings, tmp_path: Path, log: Path, kind: str
) -> None:
    with Served(rpc_settings, tmp_path / "rpc.log") as first:
        target = first.target
        with Bridge(bridge_settings.model_copy(update={"grpc_addr": target}), log) as bridge:
            job_id = _submitted(bridge, {"kind": kind})
            first.kill()
            for told in (bridge.ask("GET", f"/jobs/{job_id}"), bridge.ask("POST", "/submit", {"kind": kind})):
                assert (told.status, told.json["error"]) == (503, "unavailable")
                assert int(told.headers["retry-after"]) >= 1
                assert "127.0.0.1" not in told.json["message"]
            assert bridge.ask("GET", "/health").status == 200
            with Served(rpc_settings.model_copy(update={"grpc_addr": target}), tmp_path / "rpc2.log"):
                until(lambda: bridge.ask("GET", f"/jobs/{job_id}").status == 200, every_s=0.1)


def test_a_watch_outlives_its_core(
    bridge_settings: Settings, rpc_settings: Settings, player: Player, tmp_path: Path, log: Path, kind: str
) -> None:
    told: list[Frame] = []
    with Served(rpc_settings, tmp_path / "rpc.log") as first:
        target = first.target
        with Bridge(bridge_settings.model_copy(update={"grpc_addr": target}), log) as bridge:
            job_id = _submitted(bridge, {"kind": kind})
            with bridge.watch(f"/jobs/{job_id}/stream") as watch:
                reading = threading.Thread(target=lambda: told.extend(watch.frames()))
                reading.start()
                attempt = player.claim(job_id, kind)
                attempt.say("a")
                until(lambda: any(frame.event == "delta" for frame in told))
                first.kill()
                attempt.say("b")
                with Served(rpc_settings.model_copy(update={"grpc_addr": target}), tmp_path / "rpc2.log"):
                    until(lambda: sum(frame.event == "delta" for frame in told) == 2)
                    attempt.done({})
                    reading.join(timeout=30)
                assert not reading.is_alive()
    assert [frame.data["text"] for frame in told if frame.event == "delta"] == ["a", "b"]
    assert [frame.data["status"] for frame in told if frame.event == "status"] == ["queued", "running", "done"]
    assert "error" not in {frame.event for frame in told}


def test_without_a_kind_a_model_is_asked(bridge_settings: Settings, served: Bridge, runtime: Any) -> None:
    told = served.ask("POST", "/submit", {"model": "auto", "prompt": "hi", "system": "be brief"})
    assert (told.status, told.json["error"]) == (503, "no_device")  # it went to the routing, and is no echo
    assert not Jobs(runtime).page(limit=1, kind="chat")
