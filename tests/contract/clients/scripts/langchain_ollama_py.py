"""The `langchain-ollama` package of Python."""

from __future__ import annotations

from typing import Any

import ollama
from checking import LONG, SERVER, cancel, near, newest, raised, run, same
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel


def model(name: str, **options: Any) -> ChatOllama:
    """Return a model of this name."""
    return ChatOllama(base_url=SERVER, model=name, **{"temperature": 0, "seed": 7, **options})


class Animal(BaseModel):
    """What an answer is to hold."""

    legs: int
    tame: bool


@tool
def add(a: int) -> int:
    """Add."""
    return a


def chat() -> None:
    """A whole answer and its counts; of a prompt too."""
    answer = model("tiny", num_predict=12).invoke("hello")
    assert answer.content
    same(answer.usage_metadata["output_tokens"], 12)
    same(answer.response_metadata["done_reason"], "length")
    assert OllamaLLM(base_url=SERVER, model="tiny", num_predict=12).invoke("the cat")


def stream() -> None:
    """The same answer in pieces."""
    tiny = model("tiny", num_predict=30)
    pieces = list(tiny.stream("hello"))
    same("".join(str(piece.content) for piece in pieces), tiny.invoke("hello").content)
    assert len(pieces) > 2


def tools() -> None:
    """A call of a tool, and its result sent back."""
    caller = model("caller", num_predict=1, reasoning=False).bind_tools([add])
    answer = caller.invoke("hello")
    [call] = answer.tool_calls
    same(call["name"], "add")
    result = ToolMessage(str(add.invoke(call["args"])), tool_call_id=call["id"])
    again = caller.invoke([("user", "hello"), answer, result])
    assert again.usage_metadata["input_tokens"] > answer.usage_metadata["input_tokens"]


def schema() -> None:
    """An answer that fits a schema, parsed."""
    tiny = model("tiny", num_predict=300, temperature=1.0, seed=3)
    assert isinstance(tiny.with_structured_output(Animal, method="json_schema").invoke("hello"), Animal)


def thinking() -> None:
    """Thoughts come apart from the answer."""
    answer = model("thinker", num_predict=1, reasoning=True).invoke("hello")
    same(answer.content, "so it is")
    assert answer.additional_kwargs["reasoning_content"].startswith("because ")


def embeddings() -> None:
    """Vectors of texts."""
    embedder = OllamaEmbeddings(base_url=SERVER, model="tiny-embed")
    cat, dog = embedder.embed_documents(["the cat", "the dog"])
    assert near(cat, embedder.embed_query("the cat"))
    assert not near(cat, dog)


def models() -> None:
    """A model that is to be looked for at the start is found, another is not."""
    model("tiny", validate_model_on_init=True)
    raised(ValueError, lambda: model("nope", validate_model_on_init=True))


def cancelled() -> None:
    """A job that somebody cancels ends the stream with the client's own error."""
    pieces = model("tiny", num_predict=LONG, temperature=1.0).stream("hello")
    while not next(pieces).content:
        pass
    cancel(newest("ollama"))
    assert "cancel" in str(raised(ollama.ResponseError, lambda: list(pieces)))


def errors() -> None:
    """Mistakes are errors that say what is wrong."""
    same(raised(ollama.ResponseError, lambda: model("nope").invoke("hello")).status_code, 404)
    same(raised(ollama.ResponseError, lambda: model("tiny-embed").invoke("hello")).status_code, 400)


if __name__ == "__main__":
    run(chat, stream, tools, schema, thinking, embeddings, models, cancelled, errors)
