"""A core in this process that has little patience, and shows who attends which job."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID

import grpc

from llm_mcp.config import Settings
from llm_mcp.job import Submission
from llm_mcp.jobs import Jobs
from llm_mcp.rpc.llm_pb2_grpc import add_CoreServicer_to_server
from llm_mcp.runtime import Runtime
from llm_mcp.web.rpc.server import Core
from llm_mcp.web.streams import Streams
from tests.waiting import until

PATIENCE_S = 0.5


class Watched:
    """The core; `settings` are its own."""

    def __init__(self, runtime: Runtime) -> None:
        self.settings = runtime.settings
        self.jobs = Jobs(runtime)
        self._core = Core(runtime, Streams(100), patience_s=PATIENCE_S)

    def be_patient(self, patience_s: float) -> None:
        """Wait so long from now on for who breaks off, s."""
        self._core.attended._patience_s = patience_s

    def before(self, target: str) -> Settings:
        """Return the settings of a bridge before a core at this address."""
        return self.settings.model_copy(update={"grpc_addr": target, "mcp_addr": "127.0.0.1:0", "db_dsn": None})

    @contextmanager
    def served(self, address: str = "127.0.0.1:0") -> Iterator[str]:
        """Serve it, and give its address. Who is connected at the end is cut off; what it knows stays."""
        server = grpc.server(ThreadPoolExecutor(20))
        add_CoreServicer_to_server(self._core, server)
        port = server.add_insecure_port(address)
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()

    def callers(self, job_id: UUID | str) -> int:
        """Return how many attend a job."""
        return int(self._core.attended.callers(UUID(str(job_id))))

    def doomed(self, job_id: UUID | str) -> bool:
        """Say whether a job is to be cancelled."""
        return UUID(str(job_id)) in self._core.attended._due

    def heard(self, job_id: UUID | str, callers: int = 1) -> None:
        """Wait until so many attend a job."""
        until(lambda: self.callers(job_id) == callers)

    def cancelled(self, job_id: UUID | str) -> bool:
        """Return whether a job was cancelled, once it is finished."""
        until(lambda: self.jobs.get(UUID(str(job_id))).status.final)
        return self.jobs.get(UUID(str(job_id))).reason == "cancelled"

    def goes_on(self, job_id: UUID | str) -> bool:
        """Say whether a job that was attended is let live: one that is abandoned now is the last to be cancelled."""
        last = self.jobs.submit(Submission(kind="test.last", payload={}))
        self._core.attended.attend(last)
        self._core.attended.abandon([last])
        return self.cancelled(last) and not self.jobs.get(UUID(str(job_id))).status.final

    def close(self) -> None:
        """Cancel nothing any more, and close what it opened."""
        self._core.attended.close()
        self.jobs.runtime.close()
