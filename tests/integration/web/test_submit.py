"""`POST /v1/jobs`: what is accepted, with which defaults, and what comes back."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.web.client import Client
from tests.integration.web.played import Player

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def post(client: Client, body: Any, **options: Any) -> Any:
    """Submit: `body` is bytes or text as they are, or any JSON value."""
    data = body if isinstance(body, bytes | str) else json.dumps(body)
    return client.post("/v1/jobs", data=data, **options)


def made(client: Client, body: Any, **options: Any) -> Any:
    """Submit a job that is accepted, and return it as it reads then."""
    answer = post(client, body, **options)
    assert answer.status_code == 202, answer.json
    return client.get(f"/v1/jobs/{answer.json['job_id']}").json


def test_a_submit_is_answered_with_the_id_and_where_to_find_it(client: Client) -> None:
    answer = post(client, {"kind": "echo", "payload": {"a": 1}})
    assert answer.status_code == 202
    assert answer.content_type == "application/json"
    assert list(answer.json) == ["job_id"]
    assert re.fullmatch(UUID, answer.json["job_id"])
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json['job_id']}"
    assert client.get(answer.headers["Location"]).json["id"] == answer.json["job_id"]


def test_defaults(client: Client) -> None:
    job = made(client, {"kind": "echo"})
    assert job["payload"] == {}
    assert (job["priority"], job["source"], job["max_attempts"]) == (0, "", 3)
    assert "deadline_at" not in job


def test_nulls_mean_absent_except_for_the_payload(client: Client) -> None:
    nulls = ", ".join(f'"{name}": null' for name in ("payload", "priority", "source", "max_attempts", "deadline_at"))
    job = made(client, f'{{"kind": "echo", {nulls}}}')
    assert job["payload"] is None
    assert (job["priority"], job["source"], job["max_attempts"]) == (0, "", 3)
    assert "deadline_at" not in job


@pytest.mark.parametrize(("given", "kept"), [(0, 3), (-1, -1), (1, 1), (-(2**31), -(2**31)), (2**31 - 1, 2**31 - 1)])
def test_max_attempts(client: Client, given: int, kept: int) -> None:
    assert made(client, {"kind": "echo", "max_attempts": given})["max_attempts"] == kept


def test_a_negative_max_attempts_is_one_try(client: Client, player: Player, kind: str) -> None:
    job = made(client, {"kind": kind, "max_attempts": -5})
    player.claim(job["id"], kind).fail("no luck")
    after = client.get(f"/v1/jobs/{job['id']}").json
    assert (after["status"], after["reason"], after["attempts"]) == ("error", "failed", 1)


@pytest.mark.parametrize("priority", [-(2**31), -1, 2**31 - 1])
def test_priorities_are_any_32_bits(client: Client, priority: int) -> None:
    assert made(client, {"kind": "echo", "priority": priority})["priority"] == priority


@pytest.mark.parametrize(
    "payload",
    [None, [], "text", 0, -1.5, True, {"deep": [[[{"er": None}]]]}, {"<a>&": "</script>\u2028 ünï \U0001f600"}, ""],
)
def test_a_payload_is_any_json_and_comes_back_equal(client: Client, payload: Any) -> None:
    assert made(client, {"kind": "echo", "payload": payload})["payload"] == payload


def test_names_match_in_any_case_and_the_last_of_two_counts(client: Client) -> None:
    job = made(client, '{"Kind": "wrong", "KIND": "echo", "pAYLOAD": {"Case": 1}, "PRIORITY": 1, "priority": 7}')
    assert (job["kind"], job["payload"], job["priority"]) == ("echo", {"Case": 1}, 7)
    assert made(client, '{"kind": "wrong", "kind": "echo"}')["kind"] == "echo"


@pytest.mark.parametrize("rest", ["", "\n", "garbage", '{"kind": "other"}', "\x00\xff", "]"])
def test_text_after_the_first_value_is_ignored(client: Client, rest: str, count: Callable[[], int]) -> None:
    before = count()
    assert made(client, b' \r\n\t{"kind": "echo"}' + rest.encode())["kind"] == "echo"
    assert count() == before + 1


def test_unknown_fields_are_named_and_ignored(client: Client) -> None:
    answer = post(client, {"kind": "echo", "prioritty": 5, "Model": "x", "é" * 200: 1})
    assert answer.status_code == 202
    assert answer.json["warnings"] == [
        "unknown field 'prioritty' was ignored",
        "unknown field 'Model' was ignored",
        f"unknown field '{'é' * 100}' was ignored",
    ]
    assert len(post(client, {"kind": "echo", **{f"u{n}": n for n in range(500)}}).json["warnings"]) == 20


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_the_content_type_does_not_matter(client: Client, content_type: str | None) -> None:
    assert made(client, {"kind": "echo", "payload": 1}, content_type=content_type)["payload"] == 1


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("2050-11-22T07:00:31Z", "2050-11-22T07:00:31.000000Z"),
        ("2050-11-22T07:00:31.5145289+05:30", "2050-11-22T01:30:31.514528Z"),
        ("2020-01-01T00:00:00-11:00", "2020-01-01T11:00:00.000000Z"),
    ],
)
def test_deadlines(client: Client, given: str, shown: str) -> None:
    assert made(client, {"kind": "echo", "deadline_at": given})["deadline_at"] == shown


def test_an_empty_deadline_is_none(client: Client) -> None:
    assert "deadline_at" not in made(client, {"kind": "echo", "deadline_at": ""})


def test_a_kind_nobody_knows_waits_and_says_so_until_a_worker_serves_it(
    client: Client, player: Player, kind: str
) -> None:
    job = made(client, {"kind": kind, "payload": ["any", {"thing": None}]})
    warning = f"no live worker serves the kind {kind!r}; the job waits until one comes"
    assert (job["status"], job["warnings"]) == ("queued", [warning])
    player.report("echo")
    assert client.get(f"/v1/jobs/{job['id']}").json["warnings"] == [warning]
    player.report("echo", kind)
    assert "warnings" not in client.get(f"/v1/jobs/{job['id']}").json
    player.leave()
    assert client.get(f"/v1/jobs/{job['id']}").json["warnings"] == [warning]


# — idempotency —


def key(text: str) -> dict[str, Any]:
    return {"headers": {"Idempotency-Key": text}}


def test_the_same_key_returns_the_first_job(client: Client, count: Callable[[], int]) -> None:
    before = count()
    first = post(client, {"kind": "echo", "payload": {"a": 1}}, **key("k1"))
    again = post(client, {"kind": "echo", "payload": {"a": 1}, "priority": 9}, **key("k1"))
    assert (again.status_code, again.json, again.headers["Location"]) == (202, first.json, first.headers["Location"])
    assert post(client, {"kind": "echo", "payload": {"a": 1}}, **key("k2")).json != first.json
    assert count() == before + 2


@pytest.mark.parametrize("other", [{"kind": "echo", "payload": {"a": 2}}, {"kind": "other", "payload": {"a": 1}}])
def test_the_same_key_for_something_else_is_refused(client: Client, other: Any, count: Callable[[], int]) -> None:
    assert post(client, {"kind": "echo", "payload": {"a": 1}}, **key("other")).status_code == 202
    before = count()
    refused = post(client, other, **key("other"))
    assert (refused.status_code, refused.json["error"]) == (422, "idempotency_key_reused")
    assert count() == before


def test_many_at_once_with_one_key_are_one_job(client: Client, count: Callable[[], int]) -> None:
    before = count()
    ids: list[str] = []

    def submit() -> None:
        ids.append(post(client.another(), {"kind": "echo"}, **key("same")).json["job_id"])

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1
    assert count() == before + 1


@pytest.mark.parametrize("text", ["k" * 255, "!", " inner space ", '"quoted"', "order-1/2;3"])
def test_keys_that_are_fine(client: Client, text: str) -> None:
    assert post(client, {"kind": "echo"}, **key(text)).status_code == 202


@pytest.mark.parametrize("text", ["", "k" * 256, "ключ".encode().decode("latin-1"), "caf\xe9", "a\tb", "a,b"])
def test_keys_that_are_not(client: Client, text: str, count: Callable[[], int]) -> None:
    before = count()
    refused = client.post("/v1/jobs", data='{"kind": "echo"}', environ_overrides={"HTTP_IDEMPOTENCY_KEY": text})
    assert (refused.status_code, refused.json["error"], refused.json["field"]) == (
        400,
        "invalid_input",
        "Idempotency-Key",
    )
    assert count() == before
