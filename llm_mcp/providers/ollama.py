"""Ollama, by its own API: generate, chat and embed, always streamed so that a call can be watched and cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from llm_mcp.answers import token_logprobs
from llm_mcp.errors import ProviderError
from llm_mcp.http import Answer, Wire

from . import faults
from .asked import messages_of, options_of, passed_on, secrets_of, system_of, texts_of
from .base import Model, OnDelta, Reply, Usage
from .exchange import asking, count, parsed
from .joined import Joined
from .native import native_messages, native_wishes, tool_call_pieces
from .pieces import Pieces

# Fields of a payload that are options here; most are OpenAI's, and Ollama would overlook them anywhere else.
_OPTIONS = {
    "frequency_penalty": "frequency_penalty",
    "max_completion_tokens": "num_predict",
    "max_tokens": "num_predict",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
    "stop": "stop",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
}


class Ollama:
    """The models of one Ollama.

    Parameters: `base_url`, its address, with or without `http://`; `default_model` and `default_embed_model`, for
    payloads that name none; without them the first loaded model of that sort is taken, else the first listed.
    """

    name = "ollama"

    def __init__(
        self, base_url: str, *, default_model: str | None = None, default_embed_model: str | None = None
    ) -> None:
        self._base_url = (base_url if "://" in base_url else f"http://{base_url}").rstrip("/")
        self._default_model = default_model
        self._default_embed_model = default_embed_model

    def generate(self, asked: Mapping[str, Any], *, wire: Wire, on_delta: OnDelta) -> Reply:
        """Complete `asked["prompt"]`; `data` is Ollama's answer to `/api/generate` with `stream: false`."""
        body = self._body(asked, wire)
        body["prompt"] = asked.get("prompt", "")
        system = system_of(asked)
        if system is not None:
            body["system"] = system
        return self._stream("/api/generate", body, asked, wire, on_delta)

    def chat(self, asked: Mapping[str, Any], *, wire: Wire, on_delta: OnDelta) -> Reply:
        """Answer `asked["messages"]`; `data` is Ollama's answer to `/api/chat` with `stream: false`."""
        body = self._body(asked, wire)
        body["messages"] = native_messages(messages_of(asked))
        return self._stream("/api/chat", body, asked, wire, on_delta)

    def embed(self, asked: Mapping[str, Any], *, wire: Wire) -> Reply:
        """Turn texts into vectors; `data` is Ollama's answer to `/api/embed`."""
        texts = texts_of(asked)
        options = options_of(asked)
        model = asked.get("model") or self._default_embed_model or self._first(wire, embeds=True)
        body = {**passed_on(asked), "model": model, "input": texts, **({"options": options} if options else {})}
        with self._asking(wire, "/api/embed", body, asked) as answer:
            data = parsed(self.name, answer.read())
        vectors = data.get("embeddings")
        wanted = 1 if isinstance(texts, str) else len(texts)
        if not isinstance(vectors, list) or len(vectors) != wanted:
            got = len(vectors) if isinstance(vectors, list) else 0
            raise ProviderError(f"{self.name}: {got} vectors for {wanted} texts", retryable=False)
        if isinstance(texts, str):
            data["embedding"] = vectors[0]
        return Reply(model=model, usage=Usage(tokens_in=count(data.get("prompt_eval_count"))), data=data)

    def models(self, *, wire: Wire) -> list[Model]:
        """Return the loaded models first, then the others it has, each in Ollama's order."""
        listed = {entry["name"]: entry for entry in self._listing(wire, "/api/tags")}
        loaded = [entry["name"] for entry in self._listing(wire, "/api/ps")]
        return [
            Model(name=name, loaded=name in loaded, capabilities=_capabilities(entry), entry=entry)
            for name in dict.fromkeys([*loaded, *listed])
            for entry in [listed.get(name, {})]
        ]

    def _body(self, asked: Mapping[str, Any], wire: Wire) -> dict[str, Any]:
        """Return what both text calls send."""
        options, body = options_of(asked), native_wishes(passed_on(asked))
        for ours, theirs in _OPTIONS.items():
            body.pop(ours, None)
            if asked.get(ours) is not None:
                options.setdefault(theirs, asked[ours])
        if isinstance(options.get("stop"), str):
            options["stop"] = [options["stop"]]
        body["model"] = asked.get("model") or self._default_model or self._first(wire, embeds=False)
        body["stream"] = True
        if options:
            body["options"] = options
        if asked.get("thinking") is not None:
            body.setdefault("think", asked["thinking"])
        return body

    def _stream(
        self, path: str, body: dict[str, Any], asked: Mapping[str, Any], wire: Wire, on_delta: OnDelta
    ) -> Reply:
        try:
            return self._once(path, body, asked, wire, on_delta)
        except ProviderError as error:
            wished = "think" in body and "think" not in asked
            if not (wished and error.code == "bad_request" and "does not support thinking" in str(error)):
                raise
        # `thinking` says what the caller would like to see, which a model without thoughts need not refuse.
        return self._once(path, {name: value for name, value in body.items() if name != "think"}, asked, wire, on_delta)

    def _once(
        self, path: str, body: Mapping[str, Any], asked: Mapping[str, Any], wire: Wire, on_delta: OnDelta
    ) -> Reply:
        pieces, joined, done, called = Pieces(on_delta), Joined(), False, 0
        with self._asking(wire, path, body, asked) as answer:
            for line in answer.lines():
                if not line.strip():
                    continue
                item = parsed(self.name, line)
                if item.get("error"):
                    raise faults.complaint(self.name, item["error"], secrets=secrets_of(asked))
                message = item.get("message")
                said = message if isinstance(message, dict) else item
                calls = said.get("tool_calls")
                called_now = tool_call_pieces(calls, called) if isinstance(calls, list) else []
                called += len(called_now)
                joined.add(item)
                done = done or item.get("done") is True
                pieces.add_thinking(said.get("thinking"))
                written = said.get("content" if said is message else "response")
                pieces.add_text(written, token_logprobs(item.get("logprobs")))
                pieces.add_tool_calls(called_now)
        if not done:
            raise faults.broken(self.name, "the stream ended in the middle of the answer")
        pieces.end()
        data = joined.whole()
        usage = Usage(count(data.get("prompt_eval_count")), count(data.get("eval_count")))
        return Reply(model=str(body["model"]), usage=usage, data=data, text=pieces.text, thinking=pieces.thinking)

    def _first(self, wire: Wire, *, embeds: bool) -> str:
        for model in self.models(wire=wire):
            if model.embeds == embeds:
                return model.name
        sort = "embedding model" if embeds else "model"
        raise ProviderError(f"{self.name}: no {sort} is installed there", retryable=False, code="not_found")

    def _listing(self, wire: Wire, path: str) -> list[dict[str, Any]]:
        with asking(wire, self.name, self._base_url + path) as answer:
            entries = parsed(self.name, answer.read()).get("models")
        return [
            entry
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, dict) and isinstance(entry.get("name"), str)
        ]

    @contextmanager
    def _asking(self, wire: Wire, path: str, body: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[Answer]:
        with asking(wire, self.name, self._base_url + path, body, secrets=secrets_of(asked)) as answer:
            yield answer


def _capabilities(entry: Mapping[str, Any]) -> frozenset[str]:
    said = entry.get("capabilities")
    return frozenset(map(str, said)) if isinstance(said, list) else frozenset()
