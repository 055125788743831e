"""kill -9 of the bridge and of the core: jobs, tasks and what was said so far are where they were."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from llm_mcp.config import Settings
from llm_mcp.mcp_bridge.app import create_app
from llm_mcp.mcp_bridge.tasks import EXTENSION
from tests.integration.mcp.seen.wire import Session
from tests.integration.mcp.served import Bridge, in_thread
from tests.integration.rpc.served import Served
from tests.integration.web.played import Attempt, Player

KNOWS: dict[str, Any] = {"extensions": {EXTENSION: {}}}


@pytest.fixture
def era() -> str:
    """The protocol that has tasks."""
    return "auto"


def claimed(player: Player) -> Attempt:
    """Begin the next chat, once there is one."""
    return player.claim_soon("ollama.chat", lease_s=120.0)


def get(session: Session, task_id: str) -> dict[str, Any]:
    """Return a task."""
    with session.ask("tasks/get", {"taskId": task_id}, name=task_id) as call:
        return call.result()


def status(session: Session, job_id: str, *, offset: int) -> dict[str, Any]:
    """Return what a job says from a place on."""
    with session.call("llm_job_status", {"job_id": job_id, "offset": offset}) as call:
        return dict(call.result()["structuredContent"])


def test_a_task_outlives_the_bridge_and_the_core(rpc_settings: Settings, player: Player, tmp_path: Path) -> None:
    prompt = uuid4().hex
    with Served(rpc_settings, tmp_path / "rpc.log") as core:
        at = {"grpc_addr": core.target, "mcp_addr": "127.0.0.1:0", "db_dsn": None}
        with Bridge(rpc_settings.model_copy(update=at), tmp_path / "mcp.log") as bridge:
            session = Session(bridge.url, "auto", capabilities=KNOWS)
            with session.call("llm_chat", {"prompt": prompt}) as call:
                task = call.result()
            assert (task["resultType"], task["status"]) == ("task", "working")
            attempt = claimed(player)
            attempt.say("one ")
            assert status(session, task["taskId"], offset=0)["next_offset"] == 4
            os.kill(bridge.pid, signal.SIGKILL)
            core.kill()
    attempt.say("two ")  # nobody is there to hear it
    with Served(rpc_settings, tmp_path / "rpc2.log") as core:
        at["grpc_addr"] = core.target
        with Bridge(rpc_settings.model_copy(update=at), tmp_path / "mcp2.log") as bridge:
            session = Session(bridge.url, "auto", capabilities=KNOWS)
            assert get(session, task["taskId"])["status"] == "working"
            on = status(session, task["taskId"], offset=4)
            assert (on["text"], on["next_offset"]) == ("two ", 8)
            attempt.done({"response": "one two three", "model": "tiny:latest"})
            done = get(session, task["taskId"])
            assert (done["status"], done["createdAt"]) == ("completed", task["createdAt"])
            assert done["result"]["structuredContent"]["text"] == "one two three"
            assert status(session, task["taskId"], offset=8)["text"] == "three"


@pytest.mark.parametrize("way", ["auto", "legacy"])
def test_a_wait_outlives_the_core(rpc_settings: Settings, player: Player, tmp_path: Path, way: str) -> None:
    with Served(rpc_settings, tmp_path / "rpc.log") as core:
        settings = rpc_settings.model_copy(update={"grpc_addr": core.target})
        with in_thread(create_app(settings)) as place:
            session = Session(place.url, way)
            answers: list[dict[str, Any]] = []

            def ask() -> None:
                with session.call("llm_chat", {"prompt": "x"}) as call:
                    answers.append(call.result())

            asking = threading.Thread(target=ask)
            asking.start()
            try:
                attempt = claimed(player)
                core.kill()
                attempt.done({"response": "still here"})
                with Served(settings, tmp_path / "rpc2.log"):
                    asking.join(timeout=40)
            finally:
                asking.join(timeout=60)
            [answer] = answers
            assert answer.get("structuredContent", answer).get("text") == "still here", answer


def test_a_header_that_names_another_task_is_refused(bridge_settings: Settings) -> None:
    with in_thread(create_app(bridge_settings)) as place:
        session = Session(place.url, "auto", capabilities=KNOWS)
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            for name in ("other", ""):
                with session.ask(method, {"taskId": "one", "inputResponses": {}}, name=name) as call:
                    assert call.messages()[-1]["error"]["code"] == -32020, (method, name)
            with session.ask(method, {"taskId": "one"}, name="one") as call:
                assert call.messages()[-1]["error"]["code"] == -32602, method
