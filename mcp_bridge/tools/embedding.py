"""The tool that turns texts into vectors."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, ResourceLink, TextContent
from pydantic import BaseModel, Field

from llm_mcp.rpc import llm_pb2 as pb

from .. import answers
from ..attendance import question
from ..door import Door
from ..principal import SUBMIT, current
from ..schema import BridgeTool, tool
from . import words

_MOST_BYTES = 256 * 1024

Texts = Annotated[list[words.Text], Field(min_length=1, max_length=words.MOST_TEXTS)]


class Vectors(BaseModel):
    """Vectors of texts, in their order."""

    job_id: str
    status: answers.Status
    model: str
    count: int
    dimensions: int
    vectors: Annotated[list[list[float]], Field(description="Empty where they are too long: read result_uri")]
    result_uri: Annotated[str, Field(description="Resource with the vectors as JSON")]
    hint: str


def tools(door: Door) -> list[BridgeTool]:
    """Return the tool."""

    async def llm_embed(
        ctx: Context[Any, Any],
        texts: Texts,
        model: words.Model = "auto",
        allow_cloud: words.AllowCloud = False,
        wait_s: words.WaitS = 45,
    ) -> Annotated[CallToolResult, Vectors]:
        principal = current().name
        await door.admit(model, "embed", allow_cloud=allow_cloud)
        payload = {"input": list(texts)}
        asked = question(principal, "llm_embed", {**payload, "model": model, "cloud": allow_cloud})
        job, _ = await door.ask(
            "embed",
            payload,
            ctx,
            principal=principal,
            question=asked,
            wait_s=wait_s,
            model=model or "auto",
            local_only=not allow_cloud,
            deadline_s=door.settings.mcp_deadline_s,
        )
        return _result(job)

    return [
        tool(
            llm_embed,
            title="Embed texts",
            description="Turn texts into vectors, for comparing what they mean.",
            scope=SUBMIT,
            reads=True,
            repeats=True,
            open_world=door.reaches_out,
        )
    ]


def _result(job: pb.Job) -> CallToolResult:
    made = answers.described(job)
    vectors = answers.vectors_of(job) if made.status == "done" else []
    uri = f"llm://jobs/{job.id}/result"
    long = len(orjson.dumps(vectors)) > _MOST_BYTES
    told = Vectors(
        job_id=job.id,
        status=made.status,
        model=made.model,
        count=len(vectors),
        dimensions=len(vectors[0]) if vectors else 0,
        vectors=[] if long else vectors,
        result_uri=uri,
        hint=made.hint,
    )
    here = made.text if vectors else f"[{made.status}] {made.hint}"
    facts = f"job_id={job.id} status={made.status} model={made.model} result_uri={uri}"
    content: list[Any] = [TextContent(type="text", text=here), TextContent(type="text", text=facts)]
    if long:
        content.append(ResourceLink(type="resource_link", uri=uri, name="vectors", mime_type="application/json"))
    failed = made.status in ("error", "cancelled")
    return CallToolResult(content=content, structured_content=told.model_dump(), is_error=failed)
