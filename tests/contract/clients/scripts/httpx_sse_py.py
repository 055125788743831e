"""The `httpx-sse` package of Python: the streams as server-sent events, and the job's own stream too."""

from __future__ import annotations

import json
from typing import Any

import httpx
from checking import FIRM, LONG, SERVER, cancel, raised, run, same
from httpx_sse import ServerSentEvent, SSEError, connect_sse

CLIENT = httpx.Client(base_url=SERVER, timeout=60, trust_env=False)
HELLO = [{"role": "user", "content": "hello"}]


def events(method: str, path: str, **asked: Any) -> list[ServerSentEvent]:
    """Return all events of a stream."""
    with connect_sse(CLIENT, method, path, **asked) as source:
        return list(source.iter_sse())


def submit(tokens: int) -> str:
    """Submit a job and return its id."""
    payload = {"model": "tiny", "prompt": "the cat", "options": {**FIRM, "num_predict": tokens}}
    answer = CLIENT.post("/v1/jobs", json={"kind": "ollama.generate", "payload": payload})
    return str(answer.json()["job_id"])


def text(found: list[ServerSentEvent]) -> str:
    """Return the text of the deltas."""
    return "".join(json.loads(one.data).get("text", "") for one in found if one.event == "delta")


def chat() -> None:
    """A whole answer of OpenAI's dialect."""
    answer = CLIENT.post("/v1/chat/completions", json={"model": "tiny", "messages": HELLO, "max_tokens": 12})
    same(answer.json()["usage"]["completion_tokens"], 12)


def stream() -> None:
    """A stream of OpenAI's dialect: whole JSON documents without names or ids, then the mark of the end."""
    asked = {"model": "tiny", "messages": HELLO, "max_tokens": 30, "stream": True, **FIRM}
    *found, last = events("POST", "/v1/chat/completions", json=asked)
    same(last.data, "[DONE]")
    same({(one.event, one.id) for one in found}, {("message", "")})
    said = "".join(json.loads(one.data)["choices"][0]["delta"].get("content", "") for one in found)
    whole = CLIENT.post("/v1/chat/completions", json={**asked, "stream": False}).json()
    same(said, whole["choices"][0]["message"]["content"])


def job() -> None:
    """A job's own stream: its status first, its words, and its end; each with an id."""
    job_id = submit(40)
    found = events("GET", f"/v1/jobs/{job_id}/stream")
    same(found[0].event, "status")
    same(found[-1].event, "end")
    same(text(found), CLIENT.get(f"/v1/jobs/{job_id}").json()["result"]["response"])


def resumed() -> None:
    """A stream that broke is taken up where it was, without a gap and without a repeat."""
    job_id = submit(40)
    found = events("GET", f"/v1/jobs/{job_id}/stream")
    words = [one for one in found if one.event == "delta"]
    assert len(words) > 1
    assert all(one.id for one in words)
    rest = events("GET", f"/v1/jobs/{job_id}/stream", headers={"Last-Event-ID": words[0].id})
    same(text([words[0], *rest]), text(found))


def cancelled() -> None:
    """A job that somebody cancels ends its streams: an error in the dialect, the job itself in its own."""
    asked = {"model": "tiny", "messages": HELLO, "max_tokens": LONG, "stream": True}
    with connect_sse(CLIENT, "POST", "/v1/chat/completions", json=asked) as source:
        pieces = source.iter_sse()
        next(pieces)
        cancel(source.response.headers["x-llm-mcp-job"])
        same(json.loads(list(pieces)[-1].data)["error"]["code"], "cancelled")
    job_id = submit(LONG)
    with connect_sse(CLIENT, "GET", f"/v1/jobs/{job_id}/stream") as source:
        pieces = source.iter_sse()
        while next(pieces).event != "delta":
            pass
        cancel(job_id)
        [last] = [json.loads(one.data) for one in pieces if one.event == "status"][-1:]
    same(last["status"], "error")


def errors() -> None:
    """What is no stream is told apart."""
    asked = {"model": "nope", "messages": HELLO, "stream": True}
    raised(SSEError, lambda: events("POST", "/v1/chat/completions", json=asked))
    same(CLIENT.post("/v1/chat/completions", json=asked).status_code, 404)


if __name__ == "__main__":
    run(chat, stream, job, resumed, cancelled, errors)
