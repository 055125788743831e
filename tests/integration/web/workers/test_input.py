"""What workers may not say: refused with the field's name, and nothing of it is written."""

from __future__ import annotations

import http.client
import json
from contextlib import suppress
from typing import Any

import pytest

from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.integration.web.client import Client
from tests.integration.web.door import Door
from tests.integration.web.workers.calls import Foreign

VERBS = ["register", "claim", "heartbeat", "events", "complete", "fail"]
HELD = ["heartbeat", "events", "complete", "fail"]
ID = "01890000-0000-7000-8000-000000000001"


def whole(verb: str, **changed: Any) -> dict[str, Any]:
    """Return a body that is right but for what was changed."""
    bodies: dict[str, dict[str, Any]] = {
        "register": {"worker": {"id": "w"}},
        "claim": {"worker_id": "w", "kinds": ["none.such"]},
        "heartbeat": {"worker_id": "w", "job_id": ID},
        "events": {"worker_id": "w", "job_id": ID, "events": [{"seq": 1, "type": "delta", "data": {"text": "x"}}]},
        "complete": {"worker_id": "w", "job_id": ID, "result": {}},
        "fail": {"worker_id": "w", "job_id": ID, "error": "e"},
    }
    return {**bodies[verb], **changed}


@pytest.fixture
def worker(client: Client) -> Foreign:
    return Foreign(client, "w")


def refuse(worker: Foreign, verb: str, body: Any, *, code: str, field: str | None, status: int = 400) -> None:
    found, told = worker.post(verb, body)
    assert (found, told["error"]) == (status, code), told
    if field is not None:
        assert told["field"] == field


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("body", ["", " ", "{", "[]", "1", '"x"', "{'a': 1}", "{" * 100_000, "[" * 100_000])
def test_no_object(worker: Foreign, verb: str, body: str) -> None:
    refuse(worker, verb, body, code="invalid_json", field="body")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "register"])
@pytest.mark.parametrize("body", ["null", "{}", '{"worker_id": "  ", "job_id": " "}'])
def test_a_worker_has_to_say_who_it_is(worker: Foreign, verb: str, body: str) -> None:
    code = "worker_id_required" if verb == "claim" else "worker_id_job_id_required"
    refuse(worker, verb, body, code=code, field="worker_id")


@pytest.mark.parametrize("verb", HELD)
def test_and_of_which_job_it_speaks(worker: Foreign, verb: str) -> None:
    refuse(worker, verb, whole(verb, job_id=""), code="worker_id_job_id_required", field="job_id")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "register"])
@pytest.mark.parametrize(
    ("name", "code"),
    [(1, "invalid_json"), ([], "invalid_json"), (True, "invalid_json"), ("w" * 201, "invalid_input")]
    + [(f"a{bad}", None) for bad in ("\x00", "\n", "\x1b", "\ud800")],
)
def test_names(worker: Foreign, verb: str, name: Any, code: str | None) -> None:
    status, told = worker.post(verb, whole(verb, worker_id=name))
    assert status == 400
    assert told["error"] == code or (code is None and told["error"] in ("invalid_json", "invalid_input"))
    assert told["field"] == "worker_id"


@pytest.mark.parametrize("verb", HELD)
@pytest.mark.parametrize(("token", "code"), [(-1, "invalid_input"), (2**63, None), (1.0, "invalid_json")])
def test_tokens(worker: Foreign, verb: str, token: Any, code: str | None) -> None:
    status, told = worker.post(verb, whole(verb, lease_token=token))
    assert (status, told["field"]) == (400, "lease_token")
    assert told["error"] == code or (code is None and told["error"] in ("invalid_json", "invalid_input"))


@pytest.mark.parametrize("verb", HELD)
@pytest.mark.parametrize("token", [0, None, 1, 2**63 - 1])
def test_tokens_of_no_lease(worker: Foreign, verb: str, token: Any) -> None:
    refuse(worker, verb, whole(verb, lease_token=token), code="not_found", field=None, status=404)


@pytest.mark.parametrize("field", ["lease_seconds", "wait_s", "extend_seconds"])
@pytest.mark.parametrize("value", ["1", "true", "[]", "{}", '"1"', "NaN", "9223372036854775808"])
def test_numbers(worker: Foreign, field: str, value: str) -> None:
    if field == "wait_s" and value == "1":
        value = "60.001"
    verb = "heartbeat" if field == "extend_seconds" else "claim"
    if value == "1":
        value = "1.5"
    body = json.dumps(whole(verb))[:-1] + f', "{field}": {value}}}'
    status, told = worker.post(verb, body)
    assert (status, told["field"]) == (400, field)


@pytest.mark.parametrize("wait_s", [-1, -0.001, 61, 1e308])
def test_waits(worker: Foreign, wait_s: float) -> None:
    refuse(worker, "claim", whole("claim", wait_s=wait_s), code="invalid_input", field="wait_s")


@pytest.mark.parametrize(
    ("kinds", "code", "field"),
    [
        ("echo", "invalid_json", "kinds"),
        ({}, "invalid_json", "kinds"),
        (1, "invalid_json", "kinds"),
        (["a", 1], "invalid_json", "kinds[1]"),
        (["a", None], "invalid_json", "kinds[1]"),
        (["a", ["b"]], "invalid_json", "kinds[1]"),
        ([f"k{n}" for n in range(10_000)], "invalid_input", "kinds"),
        (["a", "k" * 201], "invalid_input", "kinds[1]"),
        (["a\n"], "invalid_input", "kinds[0]"),
        (["a\x00"], "invalid_json", "kinds[0]"),
    ],
)
def test_kinds(worker: Foreign, kinds: Any, code: str, field: str) -> None:
    refuse(worker, "claim", whole("claim", kinds=kinds), code=code, field=field)


def test_a_thousand_kinds_are_fine(worker: Foreign) -> None:
    assert worker.post("claim", whole("claim", kinds=[f"{'k' * 190}{n}" for n in range(1000)])) == (200, {})


@pytest.mark.parametrize("claim_id", ["x", "1", "01890000-0000-7000-8000-00000000000", "'; --"])
def test_claim_ids(worker: Foreign, claim_id: str) -> None:
    refuse(worker, "claim", whole("claim", claim_id=claim_id), code="invalid_input", field="claim_id")


@pytest.mark.parametrize(
    ("described", "code", "field"),
    [
        ([], "invalid_json", "worker"),
        ("w", "invalid_json", "worker"),
        ({"id": 1}, "invalid_json", "worker.id"),
        ({"name": []}, "invalid_json", "worker.name"),
        ({"tags": []}, "invalid_json", "worker.tags"),
        ({"tags": "x"}, "invalid_json", "worker.tags"),
        ({"tags": {"a": "\x00"}}, "invalid_json", "worker.tags.a"),
        ({"host": "\x00"}, "invalid_json", "worker.host"),
        ({"host": "h\n"}, "invalid_input", "worker.host"),
        ({"id": "i" * 201}, "invalid_input", "worker.id"),
    ],
)
def test_machines(worker: Foreign, described: Any, code: str, field: str) -> None:
    refuse(worker, "register", {"worker": described}, code=code, field=field)


def test_many_tags(worker: Foreign) -> None:
    body = {"worker": {"id": "w", "tags": {"a": "x" * 70_000}}}
    refuse(worker, "register", body, code="body_too_large", field="worker.tags", status=413)


@pytest.mark.parametrize("verb", ["complete", "fail"])
@pytest.mark.parametrize("metrics", [[], "x", 1, True])
def test_figures(worker: Foreign, verb: str, metrics: Any) -> None:
    refuse(worker, verb, whole(verb, metrics=metrics), code="invalid_json", field="metrics")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"error": 1}, "error"),
        ({"error": {"a": 1}}, "error"),
        ({"retryable": "no"}, "retryable"),
        ({"retryable": 0}, "retryable"),
        ({"retry_after_s": -1}, "retry_after_s"),
        ({"retry_after_s": "1"}, "retry_after_s"),
        ({"retry_after_s": float("nan")}, "retry_after_s"),
        ({"retry_after_s": float("inf")}, "retry_after_s"),
    ],
)
def test_failures(worker: Foreign, changed: Any, field: str) -> None:
    status, told = worker.post("fail", json.dumps(whole("fail", **changed)))
    assert (status, told["field"]) == (400, field)


DELTA = {"seq": 1, "type": "delta", "data": {"text": "x"}}


@pytest.mark.parametrize(
    ("events", "field"),
    [
        (None, "events"),
        ({}, "events"),
        ([], "events"),
        ([DELTA] * 501, "events"),
        ([1], "events[0]"),
        ([{**DELTA, "seq": 0}], "events[0].seq"),
        ([{**DELTA, "seq": -1}], "events[0].seq"),
        ([{**DELTA, "seq": 2**31}], "events[0].seq"),
        ([{**DELTA, "seq": "1"}], "events[0].seq"),
        ([{**DELTA, "seq": True}], "events[0].seq"),
        ([DELTA, DELTA], "events[1].seq"),
        ([{**DELTA, "seq": 2}, DELTA], "events[1].seq"),
        ([{**DELTA, "type": "status"}], "events[0].type"),
        ([{**DELTA, "type": "end"}], "events[0].type"),
        ([{**DELTA, "type": 1}], "events[0].type"),
        ([{**DELTA, "data": "x"}], "events[0].data"),
        ([{**DELTA, "data": {}}], "events[0].data"),
        ([{**DELTA, "data": {"text": 1}}], "events[0].data.text"),
        ([{**DELTA, "data": {"thinking": None}}], "events[0].data.thinking"),
        ([{**DELTA, "data": {"tool_calls": {}}}], "events[0].data.tool_calls"),
        ([{**DELTA, "type": "progress", "data": {"fraction": 1.5}}], "events[0].data.fraction"),
        ([{**DELTA, "type": "progress", "data": {"fraction": float("nan")}}], "events[0].data.fraction"),
        ([{**DELTA, "type": "progress", "data": {"fraction": "1"}}], "events[0].data.fraction"),
        ([{**DELTA, "type": "progress", "data": {}}], "events[0].data.fraction"),
    ],
)
def test_events(worker: Foreign, events: Any, field: str) -> None:
    status, told = worker.post("events", json.dumps(whole("events", events=events)))
    assert (status, told["field"]) == (400, field)


@pytest.mark.parametrize("verb", VERBS)
def test_unknown_fields_are_named_and_names_match_in_any_case(worker: Foreign, verb: str) -> None:
    body = whole(verb, surprise=1)
    if verb in ("register", "claim"):
        status, told = worker.post(verb, {name.upper(): value for name, value in body.items()})
        assert status == 200
        assert told["warnings"] == ["unknown field 'SURPRISE' was ignored"]
    else:
        refuse(worker, verb, body, code="not_found", field=None, status=404)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_methods(client: Client, verb: str, method: str) -> None:
    answer = client.open(f"/v1/workers/{verb}", method=method)
    assert (answer.status_code, answer.json["error"]) == (405, "method_not_allowed")


def test_a_result_over_the_limit_is_refused_by_its_name_and_the_lease_stays(runtime: Runtime, kind: str) -> None:
    runtime.settings = runtime.settings.model_copy(update={"max_body_bytes": 4096})
    worker = Foreign(Client(create_app(runtime)), "big")
    claimed = worker.begin(kind)
    for size in (4000, 5000, 100_000):  # over it with the rest of the body, by itself, by far
        status, told = worker.say("complete", claimed, result="x" * size)
        assert (status, told["error"], told["field"]) == (413, "body_too_large", "result")
    assert worker.say("complete", claimed, metrics={"m": "x" * 3500})[0] == 200
    assert worker.job(claimed)["status"] == "done"


def test_fifty_megabytes_are_refused_by_the_server(door: Door, kind: str) -> None:
    job_id = door.submit(kind)
    door.call("POST", "/v1/workers/claim", {"worker_id": "big", "kinds": [kind]})
    connection = http.client.HTTPConnection(door.host, door.port, timeout=30)
    body = b'{"worker_id": "big", "job_id": "%s", "result": "' % job_id.encode()
    with suppress(OSError):  # it does not wait for the end of it
        connection.request("POST", "/v1/workers/complete", body + b"x" * (50 * 2**20) + b'"}')
    answer = connection.getresponse()
    told = json.loads(answer.read())
    assert (answer.status, told["error"], told["field"]) == (413, "body_too_large", "result")
    connection.close()
    assert door.call("POST", "/v1/workers/complete", {"worker_id": "big", "job_id": job_id, "result": 1})[0] == 200
