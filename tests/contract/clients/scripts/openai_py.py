"""The `openai` package of Python."""

from __future__ import annotations

import json
from typing import Any

import openai
from checking import FIRM, LONG, SERVER, cancel, ended, near, raised, run, same
from pydantic import BaseModel

CLIENT = openai.OpenAI(base_url=f"{SERVER}/v1", api_key="none", timeout=60)
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
}


class Animal(BaseModel):
    """What an answer is to hold."""

    legs: int
    tame: bool


def chat() -> None:
    """A whole answer, its reason to end and its counts."""
    answer = CLIENT.chat.completions.create(model="tiny", messages=HELLO, max_tokens=12, **FIRM)
    assert answer.choices[0].message.content
    same(answer.choices[0].finish_reason, "length")
    assert answer.usage
    same(answer.usage.completion_tokens, 12)


def stream() -> None:
    """The same answer in pieces, and the counts last."""
    asked: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_tokens": 30, **FIRM}
    whole = CLIENT.chat.completions.create(**asked)
    *said, last = CLIENT.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    same("".join(one.choices[0].delta.content or "" for one in said), whole.choices[0].message.content)
    assert len(said) > 1
    same(last.usage, whole.usage)


def tools() -> None:
    """A call of a tool, whole and streamed, and its result sent back."""
    asked: dict[str, Any] = {"model": "caller", "tools": [ADD], "reasoning_effort": "none", "max_tokens": 1, **FIRM}
    answer = CLIENT.chat.completions.create(messages=HELLO, **asked)
    message = answer.choices[0].message
    same(answer.choices[0].finish_reason, "tool_calls")
    [call] = message.tool_calls or []
    same(call.function.name, "add")
    assert isinstance(json.loads(call.function.arguments)["a"], int)
    with CLIENT.chat.completions.stream(messages=HELLO, **asked) as pieces:
        [streamed] = pieces.get_final_completion().choices[0].message.tool_calls or []
    same(streamed.function.arguments, call.function.arguments)
    history = [*HELLO, message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "3"}]
    again = CLIENT.chat.completions.create(messages=history, **asked)
    assert again.usage
    assert answer.usage
    assert again.usage.prompt_tokens > answer.usage.prompt_tokens


def schema() -> None:
    """An answer that fits a schema, parsed by the client."""
    answer = CLIENT.chat.completions.parse(
        model="tiny", messages=HELLO, response_format=Animal, max_tokens=300, temperature=1.0, seed=3
    )
    assert isinstance(answer.choices[0].message.parsed, Animal)


def responses() -> None:
    """The newer dialect, whole and streamed."""
    asked: dict[str, Any] = {"model": "tiny", "input": "hello", "max_output_tokens": 16, "temperature": 0}
    whole = CLIENT.responses.create(**asked)
    assert whole.output_text
    events = list(CLIENT.responses.create(**asked, stream=True))
    same("".join(event.delta for event in events if event.type == "response.output_text.delta"), whole.output_text)
    assert events[-1].type in ("response.completed", "response.incomplete"), events[-1].type


def embeddings() -> None:
    """Vectors of texts, packed and plain, of a length asked for."""
    packed = CLIENT.embeddings.create(model="tiny-embed", input=["the cat", "the dog"])
    plain = CLIENT.embeddings.create(model="tiny-embed", input=["the cat", "the dog"], encoding_format="float")
    assert all(near(one.embedding, two.embedding) for one, two in zip(packed.data, plain.data, strict=True))
    assert not near(plain.data[0].embedding, plain.data[1].embedding)
    assert packed.usage.prompt_tokens > 0
    same(len(CLIENT.embeddings.create(model="tiny-embed", input="x", dimensions=8).data[0].embedding), 8)


def models() -> None:
    """The models there are."""
    assert {model.id for model in CLIENT.models.list()} >= {"tiny:latest", "tiny-embed:latest"}
    same(CLIENT.models.retrieve("tiny").id, "tiny:latest")
    raised(openai.NotFoundError, lambda: CLIENT.models.retrieve("nope"))


def cancelled() -> None:
    """A job that somebody cancels ends the stream with the client's own error."""
    pieces = CLIENT.chat.completions.create(model="tiny", messages=HELLO, max_tokens=LONG, stream=True)
    next(iter(pieces))
    cancel(pieces.response.headers["x-llm-mcp-job"])
    same(raised(openai.APIError, lambda: list(pieces)).code, "cancelled")


def left() -> None:
    """A client that leaves does not stop its job."""
    pieces = CLIENT.chat.completions.create(model="tiny", messages=HELLO, max_tokens=80, stream=True)
    next(iter(pieces))
    pieces.close()
    same(ended(pieces.response.headers["x-llm-mcp-job"]), "done")


def errors() -> None:
    """Mistakes are the client's own errors, and say what is wrong."""
    ask = CLIENT.chat.completions.create
    missing = raised(openai.NotFoundError, lambda: ask(model="nope", messages=HELLO))
    same((missing.code, missing.param), ("model_not_found", "model"))
    bad = raised(openai.BadRequestError, lambda: ask(model="tiny", messages=HELLO, n=2))
    same(bad.param, "n")
    raised(openai.BadRequestError, lambda: ask(model="tiny", messages=HELLO, tools=[ADD], stream=True))


if __name__ == "__main__":
    run(chat, stream, tools, schema, responses, embeddings, models, cancelled, left, errors)
