"""The `ollama` package of Python."""

from __future__ import annotations

import math
from typing import Any

import ollama
from checking import FIRM, LONG, SERVER, cancel, ended, near, newest, raised, run, same
from pydantic import BaseModel

CLIENT = ollama.Client(host=SERVER, timeout=60)
HELLO: list[Any] = [{"role": "user", "content": "hello"}]


class Animal(BaseModel):
    """What an answer is to hold."""

    legs: int
    tame: bool


def add(a: int) -> int:
    """Add."""
    return a


def chat() -> None:
    """A whole answer and its counts, of a chat and of a prompt."""
    answer = CLIENT.chat("tiny", HELLO, options={**FIRM, "num_predict": 12})
    assert answer.message.content
    same((answer.done, answer.done_reason, answer.eval_count), (True, "length", 12))
    generated = CLIENT.generate("tiny", "the cat", options={**FIRM, "num_predict": 12})
    assert generated.response
    same((generated.done_reason, generated.eval_count), ("length", 12))


def stream() -> None:
    """The same answers in pieces."""
    options = {**FIRM, "num_predict": 30}
    said = list(CLIENT.chat("tiny", HELLO, options=options, stream=True))
    whole = CLIENT.chat("tiny", HELLO, options=options)
    same("".join(one.message.content or "" for one in said), whole.message.content)
    assert len(said) > 2
    same([one.done for one in said], [False] * (len(said) - 1) + [True])
    same(said[-1].eval_count, 30)
    pieces = list(CLIENT.generate("tiny", "the cat", options=options, stream=True))
    same("".join(one.response or "" for one in pieces), CLIENT.generate("tiny", "the cat", options=options).response)


def tools() -> None:
    """A call of a tool, whole and streamed, and its result sent back."""
    asked: dict[str, Any] = {"tools": [add], "think": False, "options": {**FIRM, "num_predict": 1}}
    answer = CLIENT.chat("caller", HELLO, **asked)
    [call] = answer.message.tool_calls or []
    same(call.function.name, "add")
    assert isinstance(call.function.arguments["a"], int)
    streamed = [one.message.tool_calls for one in CLIENT.chat("caller", HELLO, **asked, stream=True)]
    same([calls for calls in streamed if calls], [answer.message.tool_calls])
    history = [*HELLO, answer.message, {"role": "tool", "tool_name": "add", "content": "3"}]
    again = CLIENT.chat("caller", history, **asked)
    assert (again.prompt_eval_count or 0) > (answer.prompt_eval_count or 0)


def schema() -> None:
    """An answer that fits a schema."""
    options = {"seed": 3, "temperature": 1.0, "num_predict": 300}
    answer = CLIENT.chat("tiny", HELLO, format=Animal.model_json_schema(), options=options)
    Animal.model_validate_json(answer.message.content or "")


def thinking() -> None:
    """Thoughts come apart from the answer."""
    answer = CLIENT.chat("thinker", HELLO, think=True, options={**FIRM, "num_predict": 1})
    assert (answer.message.thinking or "").startswith("because ")
    same(answer.message.content, "so it is")


def embeddings() -> None:
    """Vectors of texts, of length one, of as many numbers as asked for; the older call too."""
    first, second = CLIENT.embed("tiny-embed", ["the cat", "the dog"]).embeddings
    assert math.isclose(math.hypot(*first), 1, abs_tol=1e-5)
    assert not near(list(first), list(second))
    same(len(CLIENT.embed("tiny-embed", "the cat", dimensions=8).embeddings[0]), 8)
    assert near(list(CLIENT.embeddings("tiny-embed", "the cat").embedding), list(first))


def models() -> None:
    """The models there are, what they are, and which are loaded."""
    assert {model.model for model in CLIENT.list().models} >= {"tiny:latest", "tiny-embed:latest"}
    assert "completion" in (CLIENT.show("tiny").capabilities or [])
    CLIENT.generate("tiny", "hello", options={"num_predict": 1})
    assert "tiny:latest" in {model.model for model in CLIENT.ps().models}


def cancelled() -> None:
    """A job that somebody cancels ends the stream with the client's own error."""
    pieces = CLIENT.chat("tiny", HELLO, options={"num_predict": LONG}, stream=True)
    next(pieces)
    cancel(newest("ollama"))
    assert "cancel" in str(raised(ollama.ResponseError, lambda: list(pieces)))


def left() -> None:
    """A client that leaves does not stop its job."""
    pieces: Any = CLIENT.chat("tiny", HELLO, options={"num_predict": 80}, stream=True)
    next(pieces)
    job_id = newest("ollama")
    pieces.close()
    same(ended(job_id), "done")


def errors() -> None:
    """Mistakes are the client's own errors, with Ollama's words and status."""
    missing = raised(ollama.ResponseError, lambda: CLIENT.generate("nope", "hello"))
    same((missing.status_code, missing.error), (404, "model 'nope' not found"))
    wrong = raised(ollama.ResponseError, lambda: list(CLIENT.chat("tiny-embed", HELLO, stream=True)))
    same((wrong.status_code, wrong.error), (400, '"tiny-embed" does not support chat'))


if __name__ == "__main__":
    run(chat, stream, tools, schema, thinking, embeddings, models, cancelled, left, errors)
