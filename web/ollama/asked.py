"""Reading Ollama's requests: types are checked in its words, knobs are the device's own matter.

What Ollama does not know is passed on too, for a newer one may; but not under a name that means something to us.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Literal

from flask import request

from llm_mcp.errors import TooLarge
from llm_mcp.ollama_words.duration import keep_alive
from llm_mcp.ollama_words.wire import Fields, Refusal, decode
from llm_mcp.ollama_words.wishes import think

from ..fields import Field

TextVerb = Literal["generate", "chat"]

_COMMON = (
    Field(name="stream", sort="flag", unless=True, about="Have the answer line by line as it is written."),
    Field(name="options", sort="object", about="Knobs of the model, the device's own matter."),
    Field(
        name="think",
        sort="any",
        forms=(Field(sort="flag"), Field(sort="text", words=("high", "medium", "low", "max"), required="-")),
        about="Whether to think before answering, or how hard.",
    ),
    Field(
        name="keep_alive",
        sort="any",
        forms=(Field(sort="number"), Field(sort="text")),
        about="How long the model stays loaded: seconds, or such as `10m`; 0 unloads it, below 0 is for ever.",
    ),
    Field(
        name="format",
        sort="any",
        about="`json`, or a schema the answer is to fit.",
    ),
    Field(name="truncate", sort="flag", about="Cut what does not fit the model."),
    Field(name="shift", sort="flag"),
    Field(name="logprobs", sort="flag", about="Have the tokens of the answer too."),
    Field(name="top_logprobs", sort="integer", about="How many of the likeliest, for each."),
)
_IMAGES = Field(name="images", sort="array", items=Field(sort="text"), about="Pictures, in base64.")
_MODEL = Field(name="model", sort="text", required="-", about="One of `/api/tags`.")
GENERATE = (
    _MODEL,
    Field(name="prompt", sort="text", about="Without one the model is only loaded, or unloaded."),
    *(Field(name=name, sort="text") for name in ("suffix", "system", "template")),
    Field(name="context", sort="array", items=Field(sort="integer"), about="Of an earlier answer, to go on from."),
    _IMAGES,
    Field(name="raw", sort="flag", about="Leave the prompt as it is."),
    *_COMMON,
)
CHAT = (
    _MODEL,
    Field(
        name="messages",
        sort="array",
        items=Field(
            sort="object",
            fields=(
                *(Field(name=name, sort="text") for name in ("role", "content", "thinking")),
                *(Field(name=name, sort="text") for name in ("tool_name", "tool_call_id")),
                _IMAGES,
                Field(name="tool_calls", sort="array", items=Field(sort="object")),
            ),
        ),
        about="Without any the model is only loaded, or unloaded.",
    ),
    Field(name="tools", sort="array", items=Field(sort="object"), about="Functions the model may call."),
    *_COMMON,
)
_VECTORS = tuple(field for field in _COMMON if field.name in ("options", "keep_alive"))
EMBED = (
    _MODEL,
    Field(
        name="input",
        sort="any",
        forms=(Field(sort="text"), Field(sort="array", items=Field(sort="text"))),
        about="Texts.",
    ),
    Field(name="truncate", sort="flag", unless=True, about="Cut what does not fit the model."),
    Field(name="dimensions", sort="integer", about="Cut the vectors to so many; 0: as they are."),
    *_VECTORS,
)
EMBEDDINGS = (_MODEL, Field(name="prompt", sort="text", about="The text."), *_VECTORS)
SHOW = (_MODEL, Field(name="verbose", sort="flag", unless=False, about="Have all of it."))

# Fields of our payloads; Ollama overlooks them at the top of a request.
_NOT_OLLAMAS = frozenset(
    {
        "constraints",
        "deadline_at",
        "device_id",
        "frequency_penalty",
        "idempotency_key",
        "input",
        "logit_bias",
        "max_attempts",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "name",
        "ollama_addr",
        "ollama_base_url",
        "ollama_host",
        "parallel_tool_calls",
        "presence_penalty",
        "priority",
        "prompt",
        "provider",
        "quality",
        "reasoning_effort",
        "response_format",
        "seed",
        "source",
        "stop",
        "stream",
        "stream_options",
        "system",
        "task",
        "temperature",
        "thinking",
        "tool_choice",
        "top_k",
        "top_p",
    }
)


@dataclass(frozen=True, slots=True)
class AskedText:
    """A request for text.

    `model` is the name the client wrote; `payload` is what the job carries for an Ollama, but for where it goes;
    `empty`: it only asks to load the model, or to unload it (`unloads`).
    """

    verb: TextVerb
    model: str
    stream: bool
    empty: bool
    unloads: bool
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AskedVectors:
    """A request for vectors: `texts` may be none."""

    model: str
    texts: list[str]
    payload: dict[str, Any]


def raw_body(limit_bytes: int) -> bytes:
    """Return the current request's body. Raises TooLarge."""
    raw = request.get_data(cache=False)
    if len(raw) > limit_bytes:
        raise TooLarge(f"the body is over {limit_bytes} bytes", code="body_too_large")
    return raw


def read_generate(raw: bytes) -> AskedText:
    """Return the request of a body of `/api/generate`. Raises Refusal 400."""
    fields = Fields(decode(raw, "GenerateRequest"), "GenerateRequest")
    texts = {name: fields.text(name) for name in ("prompt", "suffix", "system", "template")}
    for token in fields.items("context", "[]int"):
        if isinstance(token, bool) or not isinstance(token, int):
            raise fields.wrong("context", token, "int")
    _images(fields)
    fields.flag("raw")
    payload = {**_common(fields), **{name: text for name, text in texts.items() if text}, "prompt": texts["prompt"]}
    return _text("generate", fields, payload, empty=not texts["prompt"])


def read_chat(raw: bytes) -> AskedText:
    """Return the request of a body of `/api/chat`. Raises Refusal 400."""
    fields = Fields(decode(raw, "ChatRequest"), "ChatRequest")
    messages = [_message(message) for message in fields.objects("messages", "api.Message")]
    fields.objects("tools", "api.Tool")
    return _text("chat", fields, {**_common(fields), "messages": messages}, empty=not messages)


def read_embed(raw: bytes) -> AskedVectors:
    """Return the request of a body of `/api/embed`. Raises Refusal 400."""
    fields = Fields(decode(raw, "EmbedRequest"), "EmbedRequest")
    model, value = fields.text("model"), fields.values.get("input")
    texts = [] if value in (None, "") else [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, "invalid input type")
    fields.flag("truncate")
    payload = {**_passed(fields), "input": texts}
    if not fields.whole("dimensions"):
        payload.pop("dimensions", None)
    return AskedVectors(model, texts, payload)


def read_embeddings(raw: bytes) -> AskedVectors:
    """Return the request of a body of `/api/embeddings`, the older form: one text. Raises Refusal 400."""
    fields = Fields(decode(raw, "EmbeddingRequest"), "EmbeddingRequest")
    model, text = fields.text("model"), fields.text("prompt")
    texts = [text] if text else []
    # A text that is too long is an error here; only the newer form cuts.
    return AskedVectors(model, texts, {**_passed(fields), "input": texts, "truncate": False})


def _text(verb: TextVerb, fields: Fields, payload: dict[str, Any], *, empty: bool) -> AskedText:
    unloads = empty and keep_alive(fields.values.get("keep_alive")) == 0
    return AskedText(verb, fields.text("model"), fields.flag("stream", True), empty, unloads, payload)


def _common(fields: Fields) -> dict[str, Any]:
    """Check what requests for text have in common, and return what is passed on."""
    fields.text("model")
    fields.flag("stream")
    for name in ("truncate", "shift", "logprobs"):
        fields.flag(name)
    fields.whole("top_logprobs")
    think(fields.values.get("think"))
    return _passed(fields)


def _passed(fields: Fields) -> dict[str, Any]:
    keep_alive(fields.values.get("keep_alive"))
    fields.table("options")
    return {
        name: value
        for name, value in fields.values.items()
        if value is not None and name not in _NOT_OLLAMAS and not name.startswith("_")
    }


def _images(fields: Fields) -> None:
    for image in fields.items("images", "[]api.ImageData"):
        if not isinstance(image, str):
            raise fields.wrong("images", image, "api.ImageData")
        try:
            base64.b64decode(image, validate=True)
        except (binascii.Error, ValueError):
            raise Refusal(400, "illegal base64 data in images") from None


def _message(message: Fields) -> dict[str, Any]:
    for name in ("content", "thinking", "tool_name", "tool_call_id"):
        message.text(name)
    _images(message)
    for call in message.objects("tool_calls", "api.ToolCall"):
        call.text("id")
        function = Fields(call.table("function"), f"{call.path}.function")
        function.text("name")
        function.table("arguments")
    return {**message.values, "role": message.text("role")}
