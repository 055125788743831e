"""Batches: from a file of requests to the files of their answers, whatever happens between."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import psycopg
import pytest

from llm_mcp import batch_steps
from llm_mcp.batches import KIND, Batches, submit_step
from llm_mcp.errors import ProviderError
from llm_mcp.job import Status
from llm_mcp.providers.fake import Fail, Pause, Text
from llm_mcp.store import batches
from tests.integration.web.batches.conftest import CHAT, OVER, Play, Stage, line
from tests.waiting import until


def uuid_of(batch: Any) -> UUID:
    """Return a batch's own id."""
    return UUID(batch["id"].removeprefix("batch_"))


def rows(dsn: str, query: str) -> list[Any]:
    """Return the rows of a query."""
    with psycopg.connect(dsn) as conn:
        return conn.execute(query).fetchall()


def test_a_batch_answers_every_line(play: Play, dsn: str) -> None:
    stage = play([Text("Hello")])
    made = stage.create([line(f"r{n}") for n in range(7)], metadata={"a": "b"})
    assert (made["object"], made["status"], made["metadata"]) == ("batch", "validating", {"a": "b"})
    assert made["expires_at"] - made["created_at"] == 86400
    batch = stage.over(made["id"])
    assert (batch["status"], batch["errors"], batch["error_file_id"]) == ("completed", None, None)
    assert batch["request_counts"] == {"total": 7, "completed": 7, "failed": 0}
    for instant in ("in_progress_at", "finalizing_at", "completed_at"):
        assert batch["created_at"] <= batch[instant] <= batch["completed_at"]
    found = stage.lines(batch["output_file_id"])
    assert [one["custom_id"] for one in found] == [f"r{n}" for n in range(7)]
    for one in found:
        assert one["error"] is None
        assert one["response"]["status_code"] == 200
        assert one["response"]["body"]["object"] == "chat.completion"
        assert one["response"]["body"]["choices"][0]["message"]["content"] == "Hello"
        assert one["id"] == f"batch_req_{one['response']['request_id']}"
    file = stage.client.get(f"/v1/files/{batch['output_file_id']}").json
    assert (file["purpose"], file["filename"]) == ("batch_output", f"{made['id']}_output.jsonl")
    assert file["expires_at"] - file["created_at"] == 30 * 86400
    assert rows(dsn, "SELECT DISTINCT priority, source FROM llm.jobs WHERE kind <> 'batch.run'") == [(-10, "batch")]
    assert rows(dsn, "SELECT count(*) FROM llm.batch_lines") == [(0,)]


@pytest.mark.parametrize(
    ("url", "body", "kind"),
    [
        (CHAT, {}, "chat.completion"),
        ("/v1/completions", {"prompt": "hi"}, "text_completion"),
        ("/v1/responses", {"input": "hi"}, "response"),
        ("/v1/embeddings", {"model": "play-embed", "input": ["a", "b"], "encoding_format": "base64"}, "list"),
    ],
)
def test_every_endpoint_has_answers_of_its_own(play: Play, url: str, body: dict[str, Any], kind: str) -> None:
    stage = play([Text("Hello")])
    batch = stage.over(stage.create([line("a", url, **body)], url)["id"])
    assert batch["request_counts"] == {"total": 1, "completed": 1, "failed": 0}, stage.lines(batch["error_file_id"])
    [one] = stage.lines(batch["output_file_id"])
    assert one["response"]["body"]["object"] == kind
    if kind == "response":
        told = one["response"]["body"]
        assert stage.client.get(f"/v1/responses/{told['id']}").json == told
    if kind == "list":
        assert isinstance(one["response"]["body"]["data"][1]["embedding"], str)


def test_lines_that_fail_are_in_the_error_file(play: Play) -> None:
    stage = play([Text("ok")])
    lines = [
        line("good"),
        line("no model", model="nobody-has-this"),
        line("stream", stream=True),
        line("two", n=2),
        line("empty", messages=[]),
        line("odd", temperature="hot"),
    ]
    batch = stage.over(stage.create(lines)["id"])
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 6, "completed": 1, "failed": 5}
    assert [one["custom_id"] for one in stage.lines(batch["output_file_id"])] == ["good"]
    told = {one["custom_id"]: one["response"] for one in stage.lines(batch["error_file_id"])}
    assert {name: response["status_code"] for name, response in told.items()} == {
        "no model": 404,
        "stream": 400,
        "two": 400,
        "empty": 400,
        "odd": 400,
    }
    assert told["no model"]["body"]["error"]["code"] == "model_not_found"
    assert told["odd"]["body"]["error"]["param"] == "temperature"


def test_a_refusal_of_the_provider_is_the_lines_own(play: Play) -> None:
    refused = ProviderError("fake answered 429: no", retryable=False, code="quota", status=429)
    stage = play([Fail(refused)])
    batch = stage.over(stage.create([line("a")])["id"])
    [one] = stage.lines(batch["error_file_id"])
    assert one["response"]["status_code"] == 429
    assert one["response"]["body"]["error"]["code"] == "quota"


def fields(**changed: Any) -> dict[str, Any]:
    """Return a good line with these changes."""
    return {**line("a"), **changed}


@pytest.mark.parametrize(
    ("lines", "faults"),
    [
        ([line("a"), line("b"), line("a")], [("duplicate_custom_id", 3)]),
        ([fields(custom_id=7), fields(method="GET")], [("invalid_input", 1), ("invalid_method", 2)]),
        (
            [fields(url="/v1/embeddings"), line("b"), fields(custom_id="c", body=[])],
            [("invalid_url", 1), ("invalid_body", 3)],
        ),
        ([[1]], [("invalid_json_line", 1)]),
    ],
)
def test_a_file_with_a_bad_line_runs_nothing(play: Play, dsn: str, lines: list[Any], faults: list[Any]) -> None:
    stage = play()
    batch = stage.over(stage.create(lines)["id"])
    assert (batch["status"], batch["request_counts"]["total"]) == ("failed", 0)
    assert [(fault["code"], fault["line"]) for fault in batch["errors"]["data"]] == faults
    assert rows(dsn, "SELECT count(*) FROM llm.jobs WHERE kind <> 'batch.run'") == [(0,)]
    assert rows(dsn, "SELECT count(*) FROM llm.batch_lines") == [(0,)]


@pytest.mark.parametrize(("data", "code"), [(b"\n \n", "empty_file"), (b'{"a":\n', "invalid_json")])
def test_files_that_are_none(play: Play, data: bytes, code: str) -> None:
    stage = play()
    file = stage.upload(data).json["id"]
    asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    batch = stage.over(stage.client.post("/v1/batches", json=asked).json["id"])
    assert batch["errors"]["data"][0]["code"] == code


def test_only_so_many_lines_are_under_way(play: Play, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_steps, "PORTION", 3)
    gate = threading.Event()
    stage = play([Pause(gate), Text("x")])
    made = stage.create([line(f"r{n}") for n in range(20)])
    until(lambda: rows(dsn, "SELECT count(*) FROM llm.jobs WHERE kind = 'ollama.chat'") == [(6,)])
    until(lambda: len(stage.model.calls) == 4)  # as many as there are threads, so no step can be in between
    assert stage.get(made["id"])["request_counts"] == {"total": 20, "completed": 0, "failed": 0}
    assert rows(dsn, "SELECT count(*) FROM llm.jobs WHERE kind = 'ollama.chat'") == [(6,)]
    gate.set()
    batch = stage.over(made["id"])
    assert batch["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
    assert len(stage.model.calls) == 20
    assert [one["custom_id"] for one in stage.lines(batch["output_file_id"])] == [f"r{n}" for n in range(20)]


def test_what_is_done_counts_before_anybody_notes_it(play: Play) -> None:
    gate = threading.Event()
    stage = play([Text("done")], [Text("done")], [Pause(gate), Text("late")])
    made = stage.create([line(f"r{n}") for n in range(4)])
    until(lambda: stage.get(made["id"])["request_counts"]["completed"] == 2)
    gate.set()
    whole(stage, stage.over(made["id"]), 4)


def test_a_cancelled_batch_keeps_what_is_done(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_steps, "PORTION", 1)
    stage = play([Text("done")], [Text("done")], [Pause()])
    made = stage.create([line(f"r{n}") for n in range(9)])
    until(lambda: stage.get(made["id"])["request_counts"]["completed"] == 2)
    told = stage.client.post(f"/v1/batches/{made['id']}/cancel")
    assert (told.status_code, told.json["status"]) == (200, "cancelling")
    assert told.json["cancelling_at"] is not None
    batch = stage.over(made["id"])
    assert (batch["status"], batch["request_counts"]) == ("cancelled", {"total": 9, "completed": 2, "failed": 7})
    assert batch["cancelled_at"] is not None
    done, ended = stage.lines(batch["output_file_id"]), stage.lines(batch["error_file_id"])
    assert sorted(one["custom_id"] for one in done + ended) == [f"r{n}" for n in range(9)]
    assert {one["error"]["code"] for one in ended} == {"batch_cancelled"}
    assert {one["response"] for one in ended} == {None}
    assert stage.client.post(f"/v1/batches/{made['id']}/cancel").json == batch


def test_a_line_that_ended_by_the_cancel_itself_is_cancelled_too(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_steps, "PORTION", 3)
    stage = play([Pause()], [Pause()], [Pause()])
    made = stage.create([line(f"r{n}") for n in range(3)])
    running = until(lambda: [job for job in stage.jobs.page(status=Status.RUNNING) if job.kind == "ollama.chat"])
    stage.jobs.cancel(running[0].id)
    stage.client.post(f"/v1/batches/{made['id']}/cancel")
    batch = stage.over(made["id"])
    ended = stage.lines(batch["error_file_id"])
    assert [(one["response"], one["error"]["code"]) for one in ended] == [(None, "batch_cancelled")] * 3


def test_a_batch_that_is_over_cannot_be_cancelled(play: Play) -> None:
    stage = play([Text("x")])
    batch = stage.over(stage.create([line("a")])["id"])
    answer = stage.client.post(f"/v1/batches/{batch['id']}/cancel")
    assert (answer.status_code, answer.json["error"]["code"]) == (409, "batch_not_cancellable")


def test_a_batch_whose_time_is_over_is_expired(play: Play, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_steps, "PORTION", 1)
    stage = play([Text("done")], [Text("done")], [Pause()])
    made = stage.create([line(f"r{n}") for n in range(9)])
    until(lambda: stage.get(made["id"])["request_counts"]["completed"] == 2)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("UPDATE llm.batches SET expires_at = now()")

        def late() -> Any:
            # Again and again: a step that had looked at the batch before may submit lines of the old deadline.
            conn.execute(
                "UPDATE llm.jobs SET deadline_at = now() WHERE status IN ('queued', 'running') AND deadline_at > now()"
            )
            return (found := stage.get(made["id"]))["status"] in OVER and found

        batch = until(late, timeout_s=30)
    assert (batch["status"], batch["request_counts"]) == ("expired", {"total": 9, "completed": 2, "failed": 7})
    assert batch["expired_at"] is not None
    assert {one["error"]["code"] for one in stage.lines(batch["error_file_id"])} == {"batch_expired"}


def test_batches_are_listed_page_by_page(play: Play) -> None:
    stage = play(works=False)
    made = [stage.create([line("a")])["id"] for _ in range(3)]
    first = stage.client.get("/v1/batches?limit=2").json
    assert [batch["id"] for batch in first["data"]] == [made[2], made[1]]
    assert (first["has_more"], first["last_id"]) == (True, made[1])
    rest = stage.client.get(f"/v1/batches?after={made[1]}").json
    assert ([batch["id"] for batch in rest["data"]], rest["has_more"]) == ([made[0]], False)


def test_the_same_key_is_the_same_batch(play: Play, dsn: str) -> None:
    stage = play(works=False)
    file = stage.upload(b"{}").json["id"]
    asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    first, again = (
        stage.client.post("/v1/batches", json=asked, headers={"Idempotency-Key": "k"}).json for _ in range(2)
    )
    assert first == again
    assert rows(dsn, "SELECT count(*) FROM llm.jobs") == [(1,)]
    other = {**asked, "endpoint": "/v1/embeddings"}
    assert stage.client.post("/v1/batches", json=other, headers={"Idempotency-Key": "k"}).status_code == 422


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"input_file_id": None}, "input_file_id"),
        ({"input_file_id": "file-" + "0" * 32}, "input_file_id"),
        ({"input_file_id": "nothing"}, "input_file_id"),
        ({"endpoint": "/v1/models"}, "endpoint"),
        ({"endpoint": None}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"completion_window": None}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata.a"),
    ],
)
def test_bad_requests_name_their_field(play: Play, changed: dict[str, Any], param: str) -> None:
    stage = play(works=False)
    file = stage.upload(b"{}").json["id"]
    asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h", **changed}
    answer = stage.client.post("/v1/batches", json=asked)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)


def test_ids_that_name_no_batch(play: Play) -> None:
    client = play(works=False).client
    for name in ("batch_x", "x", "batch_" + "0" * 32):
        assert client.get(f"/v1/batches/{name}").status_code == 404
        assert client.post(f"/v1/batches/{name}/cancel").status_code == 404


# — what goes wrong between —


def whole(stage: Stage, batch: Any, count: int) -> None:
    """Check that each line of a batch was answered, once."""
    assert batch["request_counts"] == {"total": count, "completed": count, "failed": 0}
    found = [one["custom_id"] for one in stage.lines(batch["output_file_id"])]
    assert found == [f"r{n}" for n in range(count)]


def test_a_step_that_runs_twice_does_nothing_twice(play: Play, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_steps, "PORTION", 3)
    stage = play([Text("x")])
    made = stage.create([line(f"r{n}") for n in range(40)])
    for n in range(12):  # two at once, at any time
        submit_step(stage.jobs, uuid_of(made), n % 4, word=f"again{n}", priority=5)
    whole(stage, stage.over(made["id"]), 40)
    assert len(stage.model.calls) == 40
    until(
        lambda: (
            not stage.jobs.unserved() and rows(dsn, "SELECT count(*) FROM llm.jobs WHERE status = 'queued'") == [(0,)]
        )
    )


def test_a_step_that_died_anywhere_is_made_good_by_the_next(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every statement of a step fails once, after it was done."""
    monkeypatch.setattr(batch_steps, "PORTION", 3)
    broken: set[str] = set()
    names = ("add_lines", "start", "note", "take", "driven_by", "finalize", "end")
    for name in names:
        real = getattr(batches, name)

        def once(*args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
            answer = _real(*args, **kwargs)
            if _name not in broken:
                broken.add(_name)
                raise RuntimeError(f"died after {_name}")
            return answer

        monkeypatch.setattr(batches, name, once)
    stage = play([Text("x")])
    made = stage.create([line(f"r{n}") for n in range(10)])
    whole(stage, stage.over(made["id"]), 10)
    assert broken == set(names)
    assert len(stage.model.calls) == 10


def test_a_batch_nothing_drives_goes_on_when_it_is_looked_at(play: Play, dsn: str) -> None:
    stage = play(works=False)
    made = stage.create([line("r0")])
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "UPDATE llm.jobs SET status = 'error', reason = 'crashed', finished_at = now() WHERE kind = %s", (KIND,)
        )
    worker = stage.work()
    try:
        whole(stage, stage.over(made["id"]), 1)
    finally:
        worker.drain(0.0)


def test_a_batch_that_goes_on_is_left_alone(play: Play, dsn: str) -> None:
    stage = play(works=False)
    made = stage.create([line("r0")])
    for _ in range(3):
        stage.get(made["id"])
        Batches(stage.jobs).page(n=5, before=None)
    assert rows(dsn, "SELECT count(*) FROM llm.jobs") == [(1,)]
