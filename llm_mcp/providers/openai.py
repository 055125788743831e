"""OpenAI's dialect, spoken by OpenAI and by most servers of models: chat completions and embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from llm_mcp.errors import ProviderError
from llm_mcp.http import Answer, Wire

from . import faults, sse
from .asked import messages_of, options_of, passed_on, secrets_of, texts_of
from .base import Model, OnDelta, Reply, Usage
from .exchange import asking, count, parsed
from .joined import Joined
from .pieces import Pieces

_ENDPOINTS = ("/chat/completions", "/embeddings", "/models")
# Ollama's options that this dialect knows, and its names for them.
_OPTIONS = {
    "frequency_penalty": "frequency_penalty",
    "num_predict": "max_tokens",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
    "stop": "stop",
    "temperature": "temperature",
    "top_p": "top_p",
}


class OpenAI:
    """The models behind one endpoint that speaks OpenAI's dialect.

    Parameters: `base_url`, the API's base or the full address of one of its calls; `api_key`; `default_model` and
    `default_embed_model`, for payloads that name none.
    """

    name = "openai"
    key_name = "OPENAI_API_KEY"

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr | None,
        *,
        default_model: str,
        default_embed_model: str | None = None,
    ) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._default_model = default_model
        self._default_embed_model = default_embed_model

    def generate(self, asked: Mapping[str, Any], *, wire: Wire, on_delta: OnDelta) -> Reply:
        """Answer `asked["prompt"]` as a chat of one message: this dialect's newer models know nothing else."""
        return self.chat(asked, wire=wire, on_delta=on_delta)

    def chat(self, asked: Mapping[str, Any], *, wire: Wire, on_delta: OnDelta) -> Reply:
        """Answer `asked["messages"]`; `data` is the `chat.completion` object."""
        body = self._chat_body(asked)
        try:
            return self._stream(body, asked, wire, on_delta)
        except ProviderError as error:
            if not (error.code == "bad_request" and "stream_options" in str(error)):
                raise
        # An older server: it answers without counting.
        del body["stream_options"]
        return self._stream(body, asked, wire, on_delta)

    def embed(self, asked: Mapping[str, Any], *, wire: Wire) -> Reply:
        """Turn texts into vectors; `data` is the `list` object of embeddings."""
        texts = texts_of(asked)
        model = asked.get("model") or self._default_embed_model
        if not model:
            raise ProviderError(f"{self.name}: name a model to embed with", retryable=False, code="bad_request")
        body = {**passed_on(asked), "model": model, "input": texts}
        secrets = self._secrets(asked)
        with asking(
            wire, self.name, self._url("/embeddings"), body, headers=self._headers(), secrets=secrets
        ) as answer:
            raw = answer.read()
        data = parsed(self.name, raw)
        self._refuse_error(data, asked)
        vectors = data.get("data")
        wanted = 1 if isinstance(texts, str) else len(texts)
        if not isinstance(vectors, list) or len(vectors) != wanted:
            got = len(vectors) if isinstance(vectors, list) else 0
            raise ProviderError(f"{self.name}: {got} vectors for {wanted} texts", retryable=False)
        if isinstance(texts, str) and isinstance(vectors[0], dict):
            data["embedding"] = vectors[0].get("embedding")
        return Reply(model=model, usage=self._usage(raw), data=data)

    def models(self, *, wire: Wire) -> list[Model]:
        """Return what the endpoint lists."""
        with asking(
            wire, self.name, self._url("/models"), headers=self._headers(), secrets=self._secrets({})
        ) as answer:
            entries = parsed(self.name, answer.read()).get("data")
        return [
            Model(name=entry["id"], entry=entry)
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, dict) and isinstance(entry.get("id"), str)
        ]

    # — what a dialect of this dialect may say differently —

    def _headers(self) -> dict[str, str]:
        """Return the headers of every call. Raises ProviderError when there is no key."""
        if self._api_key is None:
            raise ProviderError(f"missing {self.key_name}", retryable=False, code="unauthorized")
        return {"authorization": f"Bearer {self._api_key.get_secret_value().strip()}"}

    def _usage(self, counted: bytes) -> Usage:
        """Return what a finished answer says it used; `counted` is the JSON text that said it, b"" when none did."""
        usage = parsed(self.name, counted).get("usage") if counted else None
        counts = usage if isinstance(usage, dict) else {}
        return Usage(count(counts.get("prompt_tokens")), count(counts.get("completion_tokens")))

    # — the parts of a call —

    def _url(self, endpoint: str) -> str:
        parts = urlsplit(self._base_url)
        path = parts.path.rstrip("/")
        for known in _ENDPOINTS:
            path = path.removesuffix(known)
        return urlunsplit((parts.scheme, parts.netloc, path + endpoint, parts.query, ""))

    def _secrets(self, asked: Mapping[str, Any]) -> list[str]:
        key = [self._api_key.get_secret_value().strip()] if self._api_key is not None else []
        return [*key, *secrets_of(asked)]

    def _chat_body(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        options = options_of(asked)
        body = {theirs: options[ours] for ours, theirs in _OPTIONS.items() if options.get(ours) is not None}
        body.update(passed_on(asked))
        for name in ("temperature", "max_tokens"):
            if asked.get(name) is not None:
                body[name] = asked[name]
        if "max_tokens" in body and urlsplit(self._base_url).hostname == "api.openai.com":
            # There the newer models refuse the older name, which is the only one that other servers know.
            body.setdefault("max_completion_tokens", body.pop("max_tokens"))
        body["model"] = asked.get("model") or self._default_model
        body["messages"] = messages_of(asked)
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
        return body

    def _stream(self, body: Mapping[str, Any], asked: Mapping[str, Any], wire: Wire, on_delta: OnDelta) -> Reply:
        pieces, joined = Pieces(on_delta), Joined()
        ends: dict[int, Any] = {}
        counted = b""
        url, secrets = self._url("/chat/completions"), self._secrets(asked)
        with asking(wire, self.name, url, body, headers=self._headers(), secrets=secrets) as answer:
            for raw in _documents(answer):
                chunk = parsed(self.name, raw)
                self._refuse_error(chunk, asked)
                for choice in _choices_of(chunk):
                    self._refuse_error(choice, asked)
                    index, said = choice["index"], choice["message"]
                    ends[index] = choice.get("finish_reason") or ends.get(index)
                    if index == 0:
                        pieces.add_thinking(said.get("reasoning") or said.get("reasoning_content"))
                        pieces.add_text(said.get("content"), _logprobs(choice))
                        pieces.add_tool_calls(_tool_calls(said))
                counted = raw if chunk.get("usage") else counted
                joined.add(chunk)
        if not ends or not all(ends.values()):
            raise faults.broken(self.name, "the stream ended in the middle of the answer")
        if "error" in ends.values():
            raise ProviderError(f"{self.name}: the model failed in the middle of its answer", retryable=True)
        pieces.end()
        return Reply(
            model=body["model"],
            usage=self._usage(counted),
            data=_completion(joined),
            text=pieces.text,
            thinking=pieces.thinking,
        )

    def _refuse_error(self, data: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
        if data.get("error"):
            raise faults.complaint(self.name, data["error"], secrets=self._secrets(asked))


def _documents(answer: Answer) -> Iterator[bytes]:
    """Yield the JSON texts of an answer, streamed or, from a server that does not stream, the one it is.

    What follows `[DONE]` is read and dropped: the end of the body is near, and only then can the connection be kept.
    """
    if "json" in answer.headers.get("content-type", ""):
        yield answer.read()
        return
    done = False
    for data in sse.events(answer.lines()):
        done = done or data == b"[DONE]"
        if not done:
            yield data


def _choices_of(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a chunk's choices, made in place what they are in an answer that is not streamed: index and message."""
    found = chunk.get("choices")
    choices = [choice for choice in found if isinstance(choice, dict)] if isinstance(found, list) else []
    for choice in choices:
        message = choice.pop("delta", None) or choice.get("message")
        choice["message"] = message if isinstance(message, dict) else {}
        if not isinstance(choice.get("index"), int):
            choice["index"] = 0
    return choices


def _logprobs(choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tokens of a choice's text with their log probabilities, where they came."""
    found = choice.get("logprobs")
    tokens = found.get("content") if isinstance(found, dict) else None
    return [token for token in tokens if isinstance(token, dict)] if isinstance(tokens, list) else []


def _tool_calls(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the pieces of a message's calls of tools, numbered: in an answer that was not streamed they are not."""
    found = said.get("tool_calls")
    calls = [call for call in found if isinstance(call, dict)] if isinstance(found, list) else []
    return [{"index": place, **call} for place, call in enumerate(calls)]


def _completion(joined: Joined) -> dict[str, Any]:
    """Return the `chat.completion` object that the chunks were of."""
    data = {**joined.whole(), "object": "chat.completion"}
    for choice in data["choices"]:
        message = choice["message"]
        message.setdefault("role", "assistant")
        message.setdefault("content", None)
        for call in message.get("tool_calls") or []:
            call.pop("index", None)
    return data
