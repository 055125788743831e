"""Jobs as what tasks are kept in: the core has all of a task, under the same id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp import MCPError
from mcp_types import INTERNAL_ERROR

from llm_mcp.errors import Conflict, LlmMcpError, NotFound

from . import refusals
from .door import Door
from .principal import current
from .tasks import Task, task_of


class JobTasks:
    """Parameters: `door`. All methods raise MCPError when the core does not answer."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def get(self, task_id: str) -> Task | None:
        """Return the task that is this job of the principal's."""
        try:
            job, said = await self._door.job(task_id, principal=current().name)
        except NotFound:
            return None
        except LlmMcpError as error:
            raise MCPError(INTERNAL_ERROR, refusals.words(error)) from None
        return task_of(job, self._door.settings, said)

    async def update(self, task_id: str, answers: Mapping[str, Any]) -> bool:  # noqa: ARG002 - a job asks its client nothing
        """Take no answers: a job asks nothing. Says whether there is such a job."""
        return await self.get(task_id) is not None

    async def cancel(self, task_id: str) -> bool:
        """Cancel the job."""
        try:
            await self._door.core().cancel(task_id, principal=current().name)
        except Conflict:
            pass  # finished: it stays what it is
        except NotFound:
            return False
        except LlmMcpError as error:
            raise MCPError(INTERNAL_ERROR, refusals.words(error)) from None
        return True
