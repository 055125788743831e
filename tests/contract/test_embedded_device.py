"""The wire of the embedded device, byte by byte where it matters, against what a real Ollama 0.33 was seen to send."""

from __future__ import annotations

import json
import re
from typing import Any

from .device import Device, ask, device

__all__ = ["device"]

FIRM = {"temperature": 0, "seed": 7}
TEXT = "text/plain"
JSON = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
FIGURES = [
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
]
DETAILS = {"parent_model", "format", "family", "families", "parameter_size", "quantization_level"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
LONG = "the cat sat on the mat and ran to the sun. " * 200


def spoken(device: Device, **body: Any) -> Any:
    """Return the answer to a whole /api/generate of `tiny` with a few tokens."""
    options = {**FIRM, "num_predict": 8, **body.pop("options", {})}
    return ask(device, "POST", "/api/generate", {"model": "tiny", "stream": False, "options": options, **body}).json


def test_small_routes(device: Device) -> None:
    for method, body in (("GET", b"Ollama is running"), ("HEAD", b"")):
        root = ask(device, method, "/")
        assert (root.status, root.headers["Content-Type"], root.body) == (200, "text/plain; charset=utf-8", body)
    version = ask(device, "GET", "/api/version")
    assert (version.status, version.headers["Content-Type"], list(version.json)) == (200, JSON, ["version"])
    assert ask(device, "HEAD", "/api/version").body == b""


def test_a_wrong_path_or_method_is_plain_text(device: Device) -> None:
    for method, path in (("GET", "/api/nope"), ("POST", "/"), ("POST", "/api/pull"), ("GET", "/v1/models")):
        lost = ask(device, method, path, b"{}" if method == "POST" else None)
        assert (lost.status, lost.headers["Content-Type"], lost.body) == (404, TEXT, b"404 page not found")
    for method, path in (("GET", "/api/generate"), ("DELETE", "/api/chat"), ("POST", "/api/tags")):
        refused = ask(device, method, path)
        assert (refused.status, refused.headers["Content-Type"]) == (405, TEXT)
        assert refused.body == b"405 method not allowed"


def test_tags_ps_and_show_have_ollamas_keys(device: Device) -> None:
    spoken(device, prompt="hello")
    (listed,) = (m for m in ask(device, "GET", "/api/tags").json["models"] if m["name"] == "tiny:latest")
    assert list(listed) == ["name", "model", "modified_at", "size", "digest", "details", "capabilities"]
    assert set(listed["details"]) == DETAILS | {"context_length", "embedding_length"}
    assert re.fullmatch(r"[0-9a-f]{64}", listed["digest"])
    assert TIME.fullmatch(listed["modified_at"])
    (loaded,) = (m for m in ask(device, "GET", "/api/ps").json["models"] if m["name"] == "tiny:latest")
    head = ["name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length"]
    assert (list(loaded), set(loaded["details"])) == (head, DETAILS)
    assert (loaded["digest"], loaded["size_vram"], loaded["context_length"]) == (listed["digest"], 0, 2048)
    shown = ask(device, "POST", "/api/show", {"model": "tiny"}).json
    assert {"modelfile", "template", "details", "model_info", "tensors", "capabilities", "modified_at"} <= set(shown)
    assert shown["model_info"]["general.architecture"] == "llama"


def test_a_generate_stream_line_by_line(device: Device) -> None:
    body = {"model": "tiny", "prompt": "the cat", "options": {**FIRM, "num_predict": 6}}
    answer = ask(device, "POST", "/api/generate", body)
    assert (answer.status, answer.headers["Content-Type"]) == (200, NDJSON)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    *pieces, last = answer.lines
    for piece in pieces:
        assert list(piece) == ["model", "created_at", "response", "done"]
        assert (piece["model"], piece["done"]) == ("tiny", False)
        assert piece["response"]
        assert TIME.fullmatch(piece["created_at"])
    assert set(last) == {"model", "created_at", "response", "done", "done_reason", "context", *FIGURES}
    assert (last["response"], last["done"], last["done_reason"], last["eval_count"]) == ("", True, "length", 6)
    assert all(type(last[figure]) is int and last[figure] > 0 for figure in FIGURES)
    assert last["prompt_eval_duration"] + last["eval_duration"] <= last["total_duration"]


def test_a_whole_answer_is_one_object(device: Device) -> None:
    answer = ask(device, "POST", "/api/chat", {**CHAT, "stream": False, "options": {**FIRM, "num_predict": 6}})
    assert (answer.status, answer.headers["Content-Type"]) == (200, JSON)
    assert set(answer.json) == {"model", "created_at", "message", "done", "done_reason", *FIGURES}
    assert list(answer.json["message"]) == ["role", "content"]
    *pieces, last = ask(device, "POST", "/api/chat", {**CHAT, "options": {**FIRM, "num_predict": 6}}).lines
    assert list(last["message"]) == ["role", "content"]
    assert "".join(piece["message"]["content"] for piece in pieces) == answer.json["message"]["content"]


def test_load_and_unload_by_an_empty_request(device: Device) -> None:
    for path, empty in (
        ("/api/generate", {"response": ""}),
        ("/api/chat", {"message": {"role": "assistant", "content": ""}}),
    ):
        for keep, reason in (("5m", "load"), (0, "unload"), ("0s", "unload")):
            answer = ask(device, "POST", path, {"model": "tiny", "keep_alive": keep}).json
            assert TIME.fullmatch(answer.pop("created_at"))
            assert answer == {"model": "tiny", **empty, "done": True, "done_reason": reason}
            assert ("tiny:latest" in device.loaded()) is (reason == "load")


def test_figures_that_are_zero_are_left_out(device: Device) -> None:
    silent = spoken(device, prompt="hello", options={"num_predict": 0})
    assert (silent["response"], silent["done_reason"]) == ("", "length")
    assert "eval_count" not in silent
    assert silent["prompt_eval_count"] == len(silent["context"]) > 0


def test_an_answer_ends_at_its_stop_text_or_its_length(device: Device) -> None:
    free = spoken(device, prompt="the cat", options={"num_predict": 30})
    assert (free["done_reason"], free["eval_count"]) == ("length", 30)
    word = free["response"].split()[4]
    stopped = spoken(device, prompt="the cat", options={"num_predict": 30, "stop": [word]})
    assert stopped["done_reason"] == "stop"
    assert stopped["eval_count"] < 30
    assert free["response"].startswith(stopped["response"])
    assert word not in stopped["response"]


def test_characters_of_several_tokens_arrive_whole(device: Device) -> None:
    """At a high temperature the tiny model writes raw bytes, one a token: some happen to make a character."""
    whole = 0
    for seed in range(6):
        options = {"temperature": 40.0, "top_k": 0, "top_p": 1.0, "seed": seed, "num_predict": 200}
        body = {"model": "tiny", "prompt": "hello", "options": options}
        *pieces, last = ask(device, "POST", "/api/generate", body).lines
        text = "".join(piece["response"] for piece in pieces)
        assert spoken(device, prompt="hello", options=options)["response"] == text
        assert len(pieces) < last["eval_count"]
        whole += sum(not character.isascii() for character in text.replace("\ufffd", ""))
    assert whole > 10


def test_a_prompt_is_built_from_system_template_raw_and_context(device: Device) -> None:
    def tokens(**body: Any) -> int:
        count = spoken(device, prompt="hello", **body)["prompt_eval_count"]
        assert isinstance(count, int)
        return count

    plain = tokens(raw=True)
    assert plain == 1 + len(" hello")
    assert tokens() == plain + len("user: ") + len("\nassistant:")
    assert tokens(system="be kind") == tokens() + len("system: be kind\n")
    template = "{{ if .System }}{{ .System }}/{{ end }}{{ .Prompt }}!"
    assert tokens(template=template) == plain + 1
    assert tokens(template=template, system="kind") == plain + 1 + len("kind/")
    first = spoken(device, prompt="hello", options={"num_predict": 5})
    assert len(first["context"]) == first["prompt_eval_count"] + 5
    assert tokens(context=first["context"]) == len(first["context"]) + tokens() - 1
    assert "context" not in spoken(device, prompt="hello", raw=True)


def test_a_gap_is_filled_by_a_model_with_the_marks_for_it(device: Device) -> None:
    body = {"prompt": "the cat", "suffix": " on the mat"}
    assert spoken(device, model="filler", **body)["eval_count"] == 8
    refused = ask(device, "POST", "/api/generate", {"model": "tiny", **body})
    assert (refused.status, refused.error) == (400, "registry.ollama.ai/library/tiny:latest does not support insert")


def test_json_is_held_to(device: Device) -> None:
    for seed in range(4):
        options = {"temperature": 1.0, "seed": seed, "num_predict": 60}
        text = spoken(device, prompt="hello", format="json", options=options)["response"]
        assert text.startswith("{")
    schema = {"type": "array", "items": {"enum": ["a", 1, None]}, "minItems": 1, "maxItems": 3}
    for seed in range(4):
        text = spoken(
            device, prompt="hello", format=schema, options={"seed": seed, "temperature": 1, "num_predict": 99}
        )
        assert set(json.loads(text["response"])) <= {"a", 1, None}


def test_a_prompt_that_is_too_long_is_cut_unless_told_not_to(device: Device) -> None:
    short = spoken(device, prompt=LONG, options={"num_ctx": 512, "num_keep": 10})
    assert 200 < short["prompt_eval_count"] < 512
    messages = [{"role": "user", "content": f"{n} " + "x" * 60} for n in range(30)]
    chat = {"model": "tiny", "messages": [{"role": "system", "content": "s"}, *messages], "stream": False}
    cut = ask(device, "POST", "/api/chat", {**chat, "options": {"num_ctx": 512, "num_predict": 1}}).json
    # The system's message, the six newest (a seventh would make 512, and leave no room for an answer), and the frame.
    assert cut["prompt_eval_count"] == len("< system: s\n") + 6 * len(f"user: 29 {'x' * 60}\n") + len("assistant:")
    for path, body in (("/api/generate", {"prompt": LONG}), ("/api/chat", {"messages": chat["messages"]})):
        refused = ask(device, "POST", path, {"model": "tiny", **body, "options": {"num_ctx": 512}, "truncate": False})
        assert refused.status == 400
        inner = json.loads(refused.error)["error"]
        assert (inner["type"], inner["n_ctx"]) == ("exceed_context_size_error", 512)


def test_an_answer_may_outgrow_the_context_unless_told_not_to(device: Device) -> None:
    options = {"num_ctx": 256, "num_predict": 400}
    assert spoken(device, prompt="hello", options=options)["eval_count"] == 400
    confined = spoken(device, prompt="hello", options=options, shift=False)
    assert confined["done_reason"] == "length"
    assert confined["prompt_eval_count"] + confined["eval_count"] == 256


def test_the_context_asked_for_is_loaded(device: Device) -> None:
    for wish, context in ((300, 512), (1_000_000, 2048)):
        spoken(device, prompt="hello", options={"num_ctx": wish})
        (loaded,) = (m for m in ask(device, "GET", "/api/ps").json["models"] if m["name"] == "tiny:latest")
        assert loaded["context_length"] == context


def test_names_are_found_with_tag_registry_and_in_any_case(device: Device) -> None:
    for name in ("tiny:latest", "TINY", "registry.ollama.ai/library/tiny:latest"):
        assert spoken(device, model=name, prompt="hello")["model"] == name


def test_nothing_to_embed_is_no_vectors(device: Device) -> None:
    nothings: list[Any] = [[], "", None]
    for nothing in nothings:
        answer = ask(device, "POST", "/api/embed", {"model": "tiny-embed", "input": nothing})
        assert answer.json == {"model": "tiny-embed", "embeddings": []}
    assert ask(device, "POST", "/api/embeddings", {"model": "tiny-embed"}).json == {"embedding": []}
    cut = ask(device, "POST", "/api/embed", {"model": "tiny-embed", "input": LONG}).json
    assert cut["prompt_eval_count"] == 2048
