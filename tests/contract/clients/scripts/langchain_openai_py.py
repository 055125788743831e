"""The `langchain-openai` package of Python."""

from __future__ import annotations

from typing import Any

import openai
from checking import LONG, SERVER, cancel, near, newest, raised, run, same
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


def model(name: str, **options: Any) -> ChatOpenAI:
    """Return a model of this name."""
    return ChatOpenAI(
        base_url=f"{SERVER}/v1", api_key="none", model=name, timeout=60, **{"temperature": 0, "seed": 7, **options}
    )


class Animal(BaseModel):
    """What an answer is to hold."""

    legs: int
    tame: bool


@tool
def add(a: int) -> int:
    """Add."""
    return a


def chat() -> None:
    """A whole answer and its counts."""
    answer = model("tiny", max_tokens=12).invoke("hello")
    assert answer.content
    same(answer.usage_metadata["output_tokens"], 12)
    same(answer.response_metadata["finish_reason"], "length")


def stream() -> None:
    """The same answer in pieces."""
    tiny = model("tiny", max_tokens=30)
    pieces = list(tiny.stream("hello"))
    same("".join(str(piece.content) for piece in pieces), tiny.invoke("hello").content)
    assert len(pieces) > 2


def tools() -> None:
    """A call of a tool, and its result sent back."""
    caller = model("caller", max_tokens=1, reasoning_effort="none").bind_tools([add])
    answer = caller.invoke("hello")
    [call] = answer.tool_calls
    same(call["name"], "add")
    result = ToolMessage(str(add.invoke(call["args"])), tool_call_id=call["id"])
    again = caller.invoke([("user", "hello"), answer, result])
    assert again.usage_metadata["input_tokens"] > answer.usage_metadata["input_tokens"]


def schema() -> None:
    """An answer that fits a schema, parsed."""
    tiny = model("tiny", max_tokens=300, temperature=1.0, seed=3)
    assert isinstance(tiny.with_structured_output(Animal, method="json_schema").invoke("hello"), Animal)


def embeddings() -> None:
    """Vectors of texts. Without `check_embedding_ctx_length=False` it would send tokens of a model of OpenAI's."""
    embedder = OpenAIEmbeddings(
        base_url=f"{SERVER}/v1", api_key="none", model="tiny-embed", check_embedding_ctx_length=False
    )
    cat, dog = embedder.embed_documents(["the cat", "the dog"])
    assert near(cat, embedder.embed_query("the cat"))
    assert not near(cat, dog)


def cancelled() -> None:
    """A job that somebody cancels ends the stream with the client's own error."""
    pieces = model("tiny", max_tokens=LONG, temperature=1.0).stream("hello")
    while not next(pieces).content:
        pass
    cancel(newest("openai"))
    assert "cancel" in str(raised(openai.APIError, lambda: list(pieces)))


def errors() -> None:
    """Mistakes are errors that say what is wrong."""
    same(raised(openai.NotFoundError, lambda: model("nope").invoke("hello")).code, "model_not_found")
    raised(openai.BadRequestError, lambda: model("tiny").bind_tools([add]).invoke("hello"))


if __name__ == "__main__":
    run(chat, stream, tools, schema, embeddings, cancelled, errors)
