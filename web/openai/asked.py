"""Reading a request of the dialect: what we must understand ourselves is checked here, all else is the provider's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import request

from llm_mcp import strictjson
from llm_mcp.errors import InvalidInput
from llm_mcp.fleet import Route
from llm_mcp.job import Submission

from ..fields import Field
from ..idempotency import idempotency_key

SOURCE = "openai"
# Ours, and read here: neither for a provider nor for a job.
_OURS = frozenset({"accuracy", "device_id", "encoding_format", "max_cost_usd", "n", "stream_options", "task_type"})
# What Ollama has no way to do; it would overlook them without a word.
_NOT_OLLAMAS = ("audio", "function_call", "functions", "logit_bias", "web_search_options")

_TEXT = Field(sort="text")
COMMON = (
    Field(name="model", sort="text", about="One of `/v1/models`; none or `auto`: one is chosen, and named."),
    Field(name="stream", sort="flag", unless=False, about="Have the answer as it is written."),
    Field(
        name="stream_options",
        sort="object",
        fields=(Field(name="include_usage", sort="flag", about="End the stream with what it used."),),
    ),
    Field(name="n", sort="integer", least=1, most=1, about="One answer at a time."),
    Field(
        name="stop",
        sort="any",
        forms=(_TEXT, Field(sort="array", items=_TEXT)),
        about="Where the model is to stop: text or a list of texts.",
    ),
)
"""What requests for text have in common, of what is read here; a knob that is not here is the provider's."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's JSON object. Every getter raises InvalidInput with the field's name."""

    fields: Mapping[str, Any]

    @classmethod
    def read(cls, limit_bytes: int) -> Asked:
        """Return the current request's body. Raises InvalidInput with code `invalid_json`, TooLarge."""
        raw = request.get_data(cache=False)
        if not raw.strip():
            raise InvalidInput("the body is empty", code="invalid_json")
        value = strictjson.loads(raw, limit_bytes=limit_bytes, trailing=True)
        if not isinstance(value, dict):
            raise InvalidInput("the body must be a JSON object", code="invalid_json")
        return cls(value)

    def get(self, name: str) -> Any:
        """Return a field's value, None when it is absent."""
        return self.fields.get(name)

    def text(self, name: str) -> str | None:
        """Return a text."""
        value: str | None = self._typed(name, str, "text")
        return value

    def flag(self, name: str) -> bool:
        """Return a flag, False when it is absent."""
        return bool(self._typed(name, bool, "true or false"))

    def integer(self, name: str, least: int, most: int) -> int | None:
        """Return an integer of this range."""
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InvalidInput(f"must be an integer from {least} to {most}", field=name, code="invalid_value")
        return value

    def include_usage(self) -> bool:
        """Return whether a stream is to tell what it used (`stream_options.include_usage`)."""
        options = self._typed("stream_options", dict, "an object")
        wanted = (options or {}).get("include_usage")
        if wanted is not None and not isinstance(wanted, bool):
            raise InvalidInput("must be true or false", field="stream_options.include_usage", code="invalid_type")
        return bool(wanted)

    def one(self, name: str) -> None:
        """Refuse to make several answers at once."""
        if self.get(name) not in (None, 1) or isinstance(self.get(name), bool):
            raise InvalidInput("only 1 is supported: send the request again for another", field=name, code=UNSUPPORTED)

    def stop(self) -> None:
        """Refuse a `stop` that is neither a text nor a list of texts."""
        value = self.get("stop")
        listed = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if not (value is None or isinstance(value, str) or listed):
            raise InvalidInput("must be text or a list of texts", field="stop", code="invalid_type")

    def submission(self, route: Route, **fields: Any) -> Submission:
        """Return the job of this request: its fields as they are but for `fields` (None: left out) and the route's."""
        payload = {name: value for name, value in self.fields.items() if name not in _OURS and not name.startswith("_")}
        payload.update(fields)
        payload.update(route.payload)
        return Submission(
            kind=route.kind,
            payload={name: value for name, value in payload.items() if value is not None},
            source=SOURCE,
            idempotency_key=idempotency_key(),
        )

    def suits(self, route: Route) -> None:
        """Refuse what the provider cannot do and would not say so."""
        if route.provider == "ollama":
            for name in _NOT_OLLAMAS:
                if self.get(name):
                    raise InvalidInput("not supported by models on Ollama", field=name, code=UNSUPPORTED)
            modalities = self.get("modalities")
            if modalities not in (None, [], ["text"]):
                raise InvalidInput("only text is supported by models on Ollama", field="modalities", code=UNSUPPORTED)

    def _typed(self, name: str, kind: type[Any], words: str) -> Any:
        value = self.get(name)
        if value is not None and not isinstance(value, kind):
            raise InvalidInput(f"must be {words}", field=name, code="invalid_type")
        return value


UNSUPPORTED = "unsupported_parameter"


def objects(value: Any, field: str) -> Iterable[tuple[int, dict[str, Any]]]:
    """Yield the items of a list of objects with their places. Raises InvalidInput naming what is none."""
    if not isinstance(value, list):
        raise InvalidInput("must be a list", field=field, code="invalid_type")
    for place, item in enumerate(value):
        if not isinstance(item, dict):
            raise InvalidInput("must be an object", field=f"{field}[{place}]", code="invalid_type")
        yield place, item
