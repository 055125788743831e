"""Who has somebody waiting says so; whose call breaks off is gone, and its jobs with it, unless attended anew."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest

from llm_mcp.client_words import PRINCIPAL
from llm_mcp.config import Settings
from llm_mcp.errors import Unavailable
from llm_mcp.rpc import llm_pb2 as pb
from llm_mcp.rpc.llm_pb2_grpc import CoreStub, add_CoreServicer_to_server
from llm_mcp.runtime import Runtime
from llm_mcp.web.rpc import attending
from llm_mcp.web.rpc.server import Core
from llm_mcp.web.streams import Streams
from tests.integration.rpc.served import Served
from tests.integration.web.played import Player
from tests.waiting import until

ANN, BOB = ((PRINCIPAL, "ann"),), ((PRINCIPAL, "bob"),)
PATIENCE_S = 0.4


class Caller:
    """One open call of Attend."""

    def __init__(self, core: CoreStub, metadata: Any = None) -> None:
        self._said: queue.SimpleQueue[pb.AttendRequest | None] = queue.SimpleQueue()
        self._call = core.Attend.future(iter(self._said.get, None), metadata=metadata)

    def say(self, *job_ids: str, left: bool = False) -> None:
        for job_id in job_ids:
            self._said.put(pb.AttendRequest(job_id=job_id, left=left))

    def end(self) -> None:
        """End the call as one should."""
        self._said.put(None)
        assert self._call.result(timeout=10) == pb.AttendResponse()

    def break_off(self) -> None:
        """Be gone."""
        self._call.cancel()
        self._said.put(None)

    def refused(self) -> grpc.RpcError:
        """Return with what the call was ended."""
        error: Any = self._call.exception(timeout=10)
        self._said.put(None)
        assert isinstance(error, grpc.RpcError)
        return error


class Door:
    """The service in this process. `streams` are its places; `attended`, what it knows of who attends."""

    def __init__(self, core: Core, streams: Streams, stub: CoreStub) -> None:
        self.attended, self.streams, self.core = core.attended, streams, stub
        self.kind = f"test.{uuid4().hex}"

    def submit(self, metadata: Any = None) -> str:
        return str(self.core.SubmitJob(pb.SubmitJobRequest(kind=self.kind), metadata=metadata).job_id)

    def job(self, job_id: str) -> pb.Job:
        found: pb.Job = self.core.GetJob(pb.GetJobRequest(job_id=job_id)).job
        return found

    def attending(self, *job_ids: str, metadata: Any = None) -> Caller:
        """Return a call that attends these jobs, as the service knows."""
        before = {job_id: self.attended.callers(UUID(job_id)) for job_id in job_ids}
        caller = Caller(self.core, metadata)
        caller.say(*job_ids)
        for job_id in job_ids:
            until(lambda job_id=job_id: self.attended.callers(UUID(job_id)) > before[job_id])  # type: ignore[misc] # a default is its own
        return caller

    def gone(self, caller: Caller, *job_ids: str) -> None:
        """Have a call break off, and wait until the service knows."""
        before = {job_id: self.attended.callers(UUID(job_id)) for job_id in job_ids}
        caller.break_off()
        for job_id in job_ids:
            until(lambda job_id=job_id: self.attended.callers(UUID(job_id)) < before[job_id])  # type: ignore[misc] # as above

    def past_patience(self) -> None:
        """Wait until all has been cancelled that was to be: a job that is abandoned now is the last of them."""
        last = self.submit()
        self.attended.attend(UUID(last))
        self.attended.abandon([UUID(last)])
        until(lambda: self.job(last).status == "error")


@contextmanager
def opened(runtime: Runtime, *, places: int = 20) -> Iterator[Door]:
    streams = Streams(places)
    core = Core(runtime, streams, patience_s=PATIENCE_S)
    server = grpc.server(ThreadPoolExecutor(16))
    add_CoreServicer_to_server(core, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Door(core, streams, CoreStub(channel))
    finally:
        core.attended.close()
        server.stop(None).wait()


@pytest.fixture
def door(runtime: Runtime) -> Iterator[Door]:
    with opened(runtime) as made:
        yield made


def test_whose_call_breaks_off_its_jobs_are_cancelled(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    one, two = door.submit(), door.submit()
    caller = door.attending(one, two)
    began_at = time.monotonic()
    with caplog.at_level("INFO"):
        caller.break_off()
        until(lambda: door.job(one).status == "error" and door.job(two).status == "error")
        assert time.monotonic() - began_at >= PATIENCE_S
        until(lambda: _cancelled(caplog) == {one, two})
    assert door.job(one).reason == "cancelled"


def _cancelled(caplog: pytest.LogCaptureFixture) -> set[str]:
    """Return the jobs that the log says were cancelled."""
    told = (record.__dict__ for record in list(caplog.records))
    return {line["job_id"] for line in told if line.get("action") == "job_left"}


def test_a_call_that_ends_cancels_nothing(door: Door) -> None:
    job_id = door.submit()
    door.attending(job_id).end()
    assert door.attended.callers(UUID(job_id)) == 0
    door.past_patience()
    assert door.job(job_id).status == "queued"


def test_a_job_that_is_let_go_goes_on(door: Door) -> None:
    job_id, other = door.submit(), door.submit()
    caller = door.attending(job_id, other)
    caller.say(job_id, left=True)
    until(lambda: door.attended.callers(UUID(job_id)) == 0)
    door.gone(caller, other)
    door.past_patience()
    assert (door.job(job_id).status, door.job(other).status) == ("queued", "error")


def test_a_job_that_two_attend_ends_with_the_second(door: Door) -> None:
    job_id = door.submit()
    one, two = door.attending(job_id), door.attending(job_id)
    two.say(job_id)  # again: that counts once
    door.gone(one, job_id)
    door.past_patience()
    assert door.job(job_id).status == "queued"
    door.gone(two, job_id)
    until(lambda: door.job(job_id).status == "error")


def test_a_job_attended_anew_in_time_goes_on(door: Door) -> None:
    job_id = door.submit()
    door.gone(door.attending(job_id), job_id)
    again = door.attending(job_id)
    door.past_patience()
    assert door.job(job_id).status == "queued"
    door.gone(again, job_id)
    door.attending(job_id).end()  # also when that one ends before the time is over
    door.past_patience()
    assert door.job(job_id).status == "queued"


def test_a_job_let_go_in_a_new_call_goes_on(door: Door) -> None:
    job_id = door.submit()
    door.gone(door.attending(job_id), job_id)
    again = Caller(door.core)
    again.say(job_id, left=True)
    again.end()
    door.past_patience()
    assert door.job(job_id).status == "queued"


def test_a_job_of_another_is_taken_no_notice_of(door: Door) -> None:
    anns, bobs = door.submit(ANN), door.submit(BOB)
    caller = Caller(door.core, BOB)
    caller.say(anns, bobs)
    until(lambda: door.attended.callers(UUID(bobs)) == 1)
    assert door.attended.callers(UUID(anns)) == 0
    door.gone(caller, bobs)
    door.past_patience()
    assert (door.job(anns).status, door.job(bobs).status) == ("queued", "error")


def test_a_job_of_another_cannot_be_spared(door: Door) -> None:
    job_id = door.submit(ANN)
    door.gone(door.attending(job_id, metadata=ANN), job_id)
    caller = Caller(door.core, BOB)
    caller.say(job_id, left=True)
    caller.end()
    until(lambda: door.job(job_id).status == "error")


@pytest.mark.parametrize(
    ("said", "code", "word"),
    [
        ("", grpc.StatusCode.INVALID_ARGUMENT, "job_id"),
        ("nonsense", grpc.StatusCode.NOT_FOUND, "no such job"),
        ("0198C0DE-0000-7000-8000-000000000000", grpc.StatusCode.NOT_FOUND, "no such job"),
    ],
)
def test_nonsense_is_refused_and_cancels_nothing(door: Door, said: str, code: grpc.StatusCode, word: str) -> None:
    job_id = door.submit()
    caller = door.attending(job_id)
    caller.say(said)
    error: Any = caller.refused()
    assert error.code() is code
    assert word in error.details()
    until(lambda: door.attended.callers(UUID(job_id)) == 0)
    door.past_patience()
    assert door.job(job_id).status == "queued"


def test_a_bad_name_is_refused(door: Door) -> None:
    error: Any = Caller(door.core, ((PRINCIPAL, "x" * 129),)).refused()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_one_call_attends_so_many_jobs(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attending, "_MOST_JOBS", 2)
    jobs = [str(uuid4()) for _ in range(3)]
    caller = door.attending(*jobs[:2])
    caller.say(jobs[0], left=True)
    caller.say(jobs[2])  # there was room again
    until(lambda: door.attended.callers(UUID(jobs[2])) == 1)
    caller.say(jobs[0])
    error: Any = caller.refused()
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_jobs_that_are_finished_or_gone_hold_up_nothing(
    door: Door, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    finished, other = door.submit(), door.submit()
    Player(runtime).claim(finished, door.kind).done({})
    never = str(uuid4())
    door.gone(door.attending(finished, never, other), finished, never, other)
    until(lambda: door.job(other).status == "error")
    door.past_patience()
    assert door.job(finished).status == "done"
    assert [record.levelname for record in caplog.records if record.levelno > 20] == []


def test_every_call_takes_a_place_and_gives_it_back(runtime: Runtime) -> None:
    with opened(runtime, places=1) as door:
        caller = door.attending(str(uuid4()))
        error: Any = Caller(door.core).refused()
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        caller.break_off()
        until(lambda: door.streams.open == 0)
        door.attending(str(uuid4())).end()
        until(lambda: door.streams.open == 0)
        until(lambda: not _readers())


def _readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "llm-mcp-attend"]


class _Dying:
    """The context of a call whose caller is gone, which is noticed a moment after nothing more can be read."""

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def add_callback(self, call: Callable[[], None]) -> bool:
        threading.Timer(0.2, call).start()
        return True


def test_a_caller_that_is_gone_looks_for_a_moment_as_if_it_had_ended(runtime: Runtime) -> None:
    core, job_id = Core(runtime, Streams(1), patience_s=PATIENCE_S), uuid4()
    core.Attend(iter([pb.AttendRequest(job_id=str(job_id))]), _Dying())
    assert job_id in core.attended._due
    core.attended.close()


def test_a_process_that_is_to_stop_ends_the_call_and_no_job(door: Door) -> None:
    job_id = door.submit()
    caller = door.attending(job_id)
    began_at = time.monotonic()
    door.streams.draining.set()
    error: Any = caller.refused()
    assert time.monotonic() - began_at < attending._DOUBT_S, "at once"
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "anew" in error.details()
    until(lambda: not _readers())
    door.past_patience()
    assert door.job(job_id).status == "queued"


def test_a_door_that_is_stopped_tells_it_at_once(rpc_settings: Settings, runtime: Runtime, log: Any, kind: str) -> None:
    with Served(rpc_settings, log) as served, grpc.insecure_channel(served.target) as channel:
        core = CoreStub(channel)
        job_id = core.SubmitJob(pb.SubmitJobRequest(kind=kind)).job_id
        caller = Caller(core)
        caller.say(job_id)
        core.GetJob(pb.GetJobRequest(job_id=job_id))
        code, seconds = served.stop()
        error: Any = caller.refused()
    assert (code, seconds < 3) == (0, True), log.read_text()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    Player(runtime).claim(job_id, kind).done({})


def test_a_cancelling_that_failed_is_tried_again_and_none_follows_a_close() -> None:
    told: list[UUID] = []
    asked = threading.Event()
    one, two = uuid4(), uuid4()

    def cancel(job: UUID) -> None:
        told.append(job)
        if len(told) == 1:
            raise Unavailable("away")
        if len(told) == 2:
            raise RuntimeError("a mistake of ours")
        asked.set()

    attended = attending.Attended(cancel, patience_s=0.05)
    _abandon(attended, one)
    until(lambda: told == [one, one])
    _abandon(attended, two)  # the mistake ended nothing
    assert asked.wait(10)
    assert told == [one, one, two]
    slow = attending.Attended(cancel, patience_s=600)
    _abandon(slow, one)
    slow.close()
    _abandon(slow, two)
    assert not [thread for thread in threading.enumerate() if thread is slow._thread]
    assert told == [one, one, two]
    attended.close()


def _abandon(attended: attending.Attended, job: UUID) -> None:
    attended.attend(job)
    attended.abandon([job])
