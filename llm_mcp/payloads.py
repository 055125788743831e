"""The payload models of the kinds we ship.

They fix the types of the fields we read and let every other field through: the provider knows it, we need not.
Registering them here, and not beside the actors, lets a door refuse a bad payload without loading a worker.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, model_validator

from .kinds import KINDS, Kind


def _number(value: Any) -> Any:
    """Numbers must be JSON numbers: pydantic would take "0.7" and true for one."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError("must be a number")
    return value


Number = Annotated[float, BeforeValidator(_number)]
Count = Annotated[int, BeforeValidator(_number)]
Text = Annotated[str, Field(strict=True)]


class _Payload(BaseModel):
    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)


class Message(_Payload):
    """One message of a chat; `content` is text or the provider's list of parts."""

    role: Text
    content: str | list[dict[str, Any]] | None = None


class Generate(_Payload):
    """Payload of `ollama.generate`. An empty prompt only loads the model, as in Ollama's own API."""

    prompt: Text = ""
    model: Text | None = None
    system: Text | None = None
    options: dict[str, Any] | None = None
    images: list[str] | None = None
    temperature: Number | None = None
    max_tokens: Count | None = None
    thinking: StrictBool | None = None


class Chat(_Payload):
    """Payload of the chat kinds: `messages`, or a `prompt` (and `system`) that stands for them."""

    messages: list[Message] | None = None
    prompt: Text | None = None
    system: Text | None = None
    model: Text | None = None
    options: dict[str, Any] | None = None
    temperature: Number | None = None
    max_tokens: Count | None = None
    thinking: StrictBool | None = None

    @model_validator(mode="after")
    def _something_to_say(self) -> Chat:
        if not self.messages and self.prompt is None:
            raise ValueError("messages or prompt is required")
        return self


class Embed(_Payload):
    """Payload of the embedding kinds: one `prompt`, or `input` with one or many texts."""

    prompt: Text | None = None
    input: str | list[str] | None = None
    model: Text | None = None
    dimensions: Count | None = None

    @model_validator(mode="after")
    def _something_to_embed(self) -> Embed:
        if self.prompt is None and self.input is None:
            raise ValueError("prompt or input is required")
        return self


_BUILTIN: dict[str, type[BaseModel] | None] = {
    "echo": None,
    "ollama.generate": Generate,
    "ollama.chat": Chat,
    "ollama.embed": Embed,
    "openai.chat": Chat,
    "openai.embed": Embed,
    "openrouter.chat": Chat,
    "openrouter.embed": Embed,
}
for _name, _model in _BUILTIN.items():
    KINDS.add(Kind(_name, _model))
