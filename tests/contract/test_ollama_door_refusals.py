"""Our door says no to what the device says no to, in the same words; what differs is written down here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from llm_mcp.embedded.postgres import EmbeddedPostgres

from .device import Device, ask, device
from .fronted import Front, fronting
from .test_device_refusals import ASK, CHAT, GENERATE, JSON, NO_VECTORS, OTHERS, _named

__all__ = ["device"]

# Ollama says 500 to some mistakes of its caller, which a client would be right to repeat: here they are 400. Vectors
# of a model without any are 501 in both forms: the older form is asked of the device in the newer.
STATUS = {500: 400}
OLDER_FORM = {("/api/embeddings", NO_VECTORS): 501}
# A template our own device cannot read is a failure of the device to us: it is tried again, and told as it is.
TEMPLATE = "template: 'range .Messages' is not supported"
# One text for `stop` is a list of one here.
ONE_STOP = 'option "stop" must be of type array'
ROWS = [row for row in [("/api/generate", *row) for row in GENERATE] + OTHERS if row[-1] != ONE_STOP]


@pytest.fixture(scope="module")
def front(
    postgres: EmbeddedPostgres, template: str, device: Device, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    with fronting(postgres, template, device, tmp_path_factory.mktemp("front")) as made:
        yield made


@pytest.mark.parametrize(("path", "body", "status", "text"), ROWS, ids=map(_named, ROWS))
def test_what_the_device_refuses_is_refused_in_the_same_words(
    front: Front, path: str, body: Any, status: int, text: str
) -> None:
    answer = ask(front, "POST", path, body)
    wanted = status if text == TEMPLATE else OLDER_FORM.get((path, text), STATUS.get(status, status))
    assert (answer.status, answer.headers["Content-Type"], answer.error) == (wanted, JSON, text)


def test_what_only_looks_wrong_is_answered(front: Front) -> None:
    options = {"num_predict": 1, "seed": 2**60, "top_k": -5, "repeat_last_n": -1, "temperature": -1, "unknown": 1}
    odd = {**ASK, "options": {**options, "repeat_penalty": 1e300, "num_keep": 10**12}, "strange": []}
    assert ask(front, "POST", "/api/generate", odd).lines[-1]["eval_count"] == 1
    trailing = json.dumps({**ASK, "stream": False, "options": {"num_predict": 1}}).encode() + b" and more"
    assert ask(front, "POST", "/api/generate", trailing).json["done"]
    halves = b'{"model":"tiny","prompt":"\\ud800 \\uDFFF","stream":false,"system":"\xff","options":{"num_predict":1}}'
    assert ask(front, "POST", "/api/generate", halves).json["done"]
    nulls = dict.fromkeys(("system", "options", "format", "keep_alive", "think", "context", "stream"))
    assert ask(front, "POST", "/api/generate", {**ASK, **nulls, "raw": None, "options": {"num_predict": 1}}).lines
    stopped = {**ASK, "options": {"num_predict": 1, "stop": "a"}}
    assert ask(front, "POST", "/api/generate", stopped).lines[-1]["done"]


def test_what_no_database_takes_is_refused_here_and_answered_by_a_device(front: Front, device: Device) -> None:
    body = {**CHAT, "messages": [{"role": "user", "content": "a\0b"}], "options": {"num_predict": 1}}
    assert ask(device, "POST", "/api/chat", body).status == 200
    refused = ask(front, "POST", "/api/chat", body)
    assert (refused.status, refused.error) == (400, "messages[0].content: U+0000 is not allowed in text")


def test_pages_of_websites_are_not_served(front: Front) -> None:
    port = front.address[1]
    assert ask(front, "POST", "/api/generate", ASK, Host=f"evil.example:{port}").status == 421
    assert ask(front, "POST", "/api/generate", ASK, Origin="https://evil.example").status == 403
