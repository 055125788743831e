"""Prompts, payloads and keys reach no log line, whatever the level and the form, and no error's body."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.integration.web.door import Door
from tests.integration.web.played import Player

CANARY = "canary-3141592653"
NUMBER = "31415926535897932384"


def sized(body: bytes, *, head: bytes = b"", length: int | None = None) -> bytes:
    """Return a whole submit; `length` is what its head claims."""
    claimed = len(body) if length is None else length
    return b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %d\r\n\r\n%s" % (head, claimed, body)


def job(payload: Any, kind: str = "echo", **fields: Any) -> bytes:
    """Return the body of a submit."""
    return json.dumps({"kind": kind, "payload": payload, **fields}).encode()


def refused_requests() -> Iterator[tuple[str, bytes]]:
    """Yield (name, request) of everything that is refused while the canary is in it."""
    c = CANARY.encode()
    yield "not json", sized(b'{"kind": "echo", "payload": ' + c)
    yield "not utf-8", sized(b'{"kind": "echo", "payload": "' + c + b'\xff"}')
    yield "a text", sized(b'"' + c + b'"')
    yield "nul", sized(job({"prompt": CANARY + "\x00"}))
    yield "surrogate", sized(b'{"kind": "echo", "payload": "' + c + b'\\ud800"}')
    yield "infinite", sized(b'{"kind": "echo", "payload": {"prompt": "' + c + b'", "n": 1e999}}')
    yield "big number", sized(b'{"kind": "echo", "payload": ' + NUMBER.encode() + b"}")
    yield "deep", sized(b'{"kind": "echo", "payload": ' + b"[" * 99 + b'"' + c + b'"' + b"]" * 99 + b"}")
    yield "kind", sized(job({}, kind=CANARY * 20))
    yield "kind of another type", sized(b'{"kind": ["' + c + b'"]}')
    yield "control character", sized(job({}, kind=CANARY + "\n"))
    yield "source", sized(job({}, source=CANARY * 20))
    yield "priority", sized(job({}, priority=CANARY))
    yield "deadline", sized(job({}, deadline_at=CANARY))
    yield "delay", sized(job({}, delay_s=CANARY))
    for kind in ("ollama.generate", "ollama.chat", "ollama.embed", "openai.chat", "openai.embed", "openrouter.chat"):
        yield f"{kind} as a text", sized(job(CANARY, kind=kind))
        yield f"{kind} prompt", sized(job({"prompt": [CANARY]}, kind=kind))
        yield f"{kind} messages", sized(job({"messages": CANARY, "input": {"x": CANARY}, "images": CANARY}, kind=kind))
    for kind in ("ollama.chat", "openai.chat", "openrouter.chat"):
        yield f"{kind} content", sized(job({"messages": [{"role": [CANARY], "content": {"x": CANARY}}]}, kind=kind))
    yield "key", sized(job({}), head=b"Idempotency-Key: " + c * 20 + b"\r\n")
    yield "two keys", sized(job({}), head=b"Idempotency-Key: %s\r\nIdempotency-Key: %s\r\n" % (c, c))
    yield "reused key", sized(job({"other": CANARY}), head=b"Idempotency-Key: " + c + b"\r\n")
    yield "too large", sized(job(CANARY + "x" * 2**20))
    yield "shorter than it is", sized(job({"prompt": CANARY}), length=5)
    yield "chunks", b"POST /v1/jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n" % c
    yield "trailers", (b"POST /v1/jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n%s\r\n\r\n" % c)
    yield "request line", b"%s\r\n\r\n" % c
    yield "header", b"GET /health HTTP/1.1\r\n%s %s\r\n\r\n" % (c, c)
    yield "header without end", b"GET /health HTTP/1.1\r\nA: %s\r\n\r\n" % (c * 1000)
    yield "path", b"GET /%s HTTP/1.1\r\n\r\n" % c
    yield "method", b"DELETE /v1/jobs?q=%s HTTP/1.1\r\n\r\n" % c
    yield "filter", b"GET /v1/jobs?kind=%s%%00&limit=5 HTTP/1.1\r\n\r\n" % c
    yield "status", b"GET /v1/jobs?status=%s HTTP/1.1\r\n\r\n" % c
    yield "cursor", b"GET /v1/jobs?cursor=%s HTTP/1.1\r\n\r\n" % c
    yield "id", b"GET /v1/jobs/%s HTTP/1.1\r\n\r\n" % c
    yield "place", b"GET /v1/jobs/%s/stream HTTP/1.1\r\nLast-Event-ID: %s\r\n\r\n" % (str(uuid4()).encode(), c)


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_canary_is_seen_by_nobody(
    open_door: Callable[..., Door], player: Player, dsn: str, form: str, kind: str
) -> None:
    door = open_door(log_level="DEBUG", log_format=form, max_body_bytes=2**20)
    door.call("POST", "/v1/jobs", job({"prompt": CANARY}), Idempotency_Key=CANARY)
    for name, raw in refused_requests():
        status, _, body = door.exchange(raw)
        assert 400 <= status < 500, (name, status, body)
        assert CANARY.encode() not in body, name
        assert json.loads(body)["error"], name

    # And what goes well: the job itself is for its owner, the log is not.
    job_id = door.submit(kind, {"prompt": CANARY}, source=CANARY)
    attempt = player.claim(job_id, kind)
    attempt.say(CANARY)
    with door.watch(job_id) as watch:
        watch.until("delta")
        attempt.done({"response": CANARY})
        assert watch.rest()[-1].event == "end"
    assert door.call("GET", f"/v1/jobs/{job_id}")[1]["result"] == {"response": CANARY}
    assert door.call("GET", f"/v1/jobs?source={CANARY}")[0] == 200
    assert door.call("POST", f"/v1/jobs/{job_id}/cancel", job(CANARY))[0] == 409

    # And what nobody foresaw: an error that quotes what was sent.
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "CREATE FUNCTION llm.quote() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'cannot take %', NEW.payload USING ERRCODE = 'XX000'; END $$"
        )
        conn.execute("CREATE TRIGGER quote BEFORE INSERT ON llm.jobs FOR EACH ROW EXECUTE FUNCTION llm.quote()")
        status, error = door.call("POST", "/v1/jobs", job({"prompt": CANARY}))
        conn.execute("DROP FUNCTION llm.quote() CASCADE")
    assert (status, error) == (500, {"error": "internal_error", "message": "internal error"})
    door.terminate()
    assert "request failed" in door.log
    assert "InternalError_" in door.log
    assert "canary" not in door.log
    assert NUMBER not in door.log
