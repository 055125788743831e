"""Arguments that several tools take: their types, bounds, and what a model is told of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

MOST_TEXTS = 256
_MOST_CHARS = 4_000_000

Model = Annotated[str, Field(max_length=300, description="A name of llm_models; auto: the default")]
Prompt = Annotated[str, Field(min_length=1, max_length=_MOST_CHARS)]
MaybePrompt = Annotated[str, Field(max_length=_MOST_CHARS)]
System = Annotated[str, Field(max_length=_MOST_CHARS, description="System prompt")]
Text = Annotated[str, Field(max_length=_MOST_CHARS)]
MaxTokens = Annotated[int, Field(ge=1, le=1_000_000)]
Temperature = Annotated[float, Field(ge=0, le=2)]
AllowCloud = Annotated[bool, Field(description="Let it cost money in the cloud")]
WaitS = Annotated[float, Field(ge=0, le=600, description="Wait so many s")]
Key = Annotated[str, Field(max_length=200, description="The same key again: the same job, no second one")]
JobId = Annotated[str, Field(min_length=1, max_length=100)]
