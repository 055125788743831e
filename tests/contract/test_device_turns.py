"""How the embedded device shares its models between those who ask, and lets go of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llm_mcp.embedded.device import catalog, runner
from llm_mcp.embedded.device.call import Call, Cancelled
from llm_mcp.embedded.device.catalog import CatalogModel, ModelFile
from llm_mcp.embedded.device.runner import Runner
from tests.waiting import until

from .device import LONG, SHORT, Device, alive, ask, children, device, processor_s, running, sent, streaming
from .device_models import TINY, TINY_ONLY

__all__ = ["device"]

BUSY = "server busy, please try again.  maximum pending requests exceeded"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_frees_the_model(device: Device, stream: bool) -> None:
    ask(device, "POST", "/api/generate", {"model": "tiny", "keep_alive": 0})
    asked = streaming(device) if stream else sent(device, "/api/generate", {**LONG, "stream": False})
    with asked:
        until(lambda: "tiny:latest" in device.loaded())
    began = time.monotonic()
    assert ask(device, "POST", "/api/generate", SHORT).status == 200
    # Twenty thousand tokens would take longer on any machine.
    assert time.monotonic() - began < 5.0
    until(lambda: device.connections() == 0)


def test_a_call_given_up_before_the_engine_is_reached_never_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    call, connect = Call(), runner._Connection.connect

    def late(connection: runner._Connection) -> None:
        call.cancel()
        connect(connection)

    engine = Runner(CatalogModel("tiny", ModelFile(TINY)), 2048)
    try:
        engine.await_ready()
        monkeypatch.setattr(runner._Connection, "connect", late)
        events = engine.stream("/completion", {"prompt": "the cat", "n_predict": 2000}, call)
        with pytest.raises(Cancelled):
            next(events)
    finally:
        engine.close()


def test_a_client_that_hangs_up_in_the_queue_leaves_it(device: Device) -> None:
    with streaming(device):
        until(lambda: device.connections() == 1)
        with sent(device, "/api/generate", {**LONG, "stream": False}):
            until(lambda: device.connections() == 2)
        until(lambda: device.connections() == 1)
    assert ask(device, "POST", "/api/generate", SHORT).status == 200


def test_too_many_in_the_queue_are_told_so(device: Device) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(streaming(device))
        for _ in range(512):
            stack.enter_context(sent(device, "/api/generate", {**SHORT, "keep_alive": "5m"}))
        until(lambda: device.connections() == 513)
        refused = until(lambda: ask(device, "POST", "/api/generate", SHORT))
        assert (refused.status, refused.error) == (503, BUSY)
    assert until(lambda: ask(device, "POST", "/api/generate", SHORT)).status == 200


def test_too_many_connections_are_told_so(device: Device) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(620):
            connection = stack.enter_context(socket.create_connection(device.address, timeout=10))
        assert connection.recv(100).startswith(b"HTTP/1.1 503 ")
    until(lambda: device.connections() == 0)
    assert ask(device, "GET", "/").status == 200


# — in memory and out of it —


def test_a_model_leaves_by_itself_when_its_time_is_over(device: Device) -> None:
    ask(device, "POST", "/api/generate", {**SHORT, "keep_alive": "300ms"})
    until(lambda: "tiny:latest" not in device.loaded())
    ask(device, "POST", "/api/generate", {**SHORT, "keep_alive": -1})
    (loaded,) = (m for m in ask(device, "GET", "/api/ps").json["models"] if m["name"] == "tiny:latest")
    assert int(loaded["expires_at"][:4]) > 2100


def test_a_model_is_not_unloaded_under_a_running_answer(device: Device) -> None:
    body = {**LONG, "options": {"temperature": 0, "num_predict": 400}}
    with streaming(device, body) as rest:
        unload = {"model": "tiny", "keep_alive": 0}
        assert ask(device, "POST", "/api/generate", unload).json["done_reason"] == "unload"
        *_, last, _ = rest
        assert json.loads(last)["eval_count"] == 400
    until(lambda: "tiny:latest" not in device.loaded())


def test_a_model_asked_for_by_many_at_once_is_loaded_once(tmp_path: Path) -> None:
    with running(tmp_path, TINY_ONLY) as device, ThreadPoolExecutor(8) as pool:
        for context in (256, 512, 256):
            body = {**SHORT, "options": {"num_predict": 20, "num_ctx": context}}
            asked = [pool.submit(ask, device, "POST", "/api/generate", body) for _ in range(8)]
            engines = set()
            while not all(one.done() for one in asked):
                engines.update(children(device.process.pid))
            assert [one.result().status for one in asked] == [200] * 8
            # The one there was, and the one with the context asked for.
            assert len(engines) <= 2
            assert len(children(device.process.pid)) == 1


def test_the_end_does_not_wait_for_a_model_that_loads(tmp_path: Path) -> None:
    with running(tmp_path, TINY_ONLY) as device, sent(device, "/api/generate", SHORT):
        (engine,) = until(lambda: children(device.process.pid))
        os.kill(engine, signal.SIGSTOP)
        device.process.send_signal(signal.SIGTERM)
        assert device.process.wait(5) == 0
        assert not alive(engine)


def test_no_more_than_three_models_are_in_memory(device: Device) -> None:
    names = ["tiny", "caller", "thinker", "filler"]
    for name in names:
        assert ask(device, "POST", "/api/generate", {"model": name}).json["done_reason"] == "load"
    assert len(device.loaded()) == 3
    assert "filler:latest" in device.loaded()


def test_a_crash_of_the_model_is_told_and_survived(tmp_path: Path) -> None:
    with running(tmp_path, TINY_ONLY) as device:
        with streaming(device) as rest:
            (engine,) = children(device.process.pid)
            os.kill(engine, signal.SIGKILL)
            *_, last, end = rest
            assert json.loads(last) == {"error": "an error was encountered while running the model: unexpected EOF"}
            assert end == b"0\r\n"
        assert device.loaded() == []
        assert ask(device, "POST", "/api/generate", SHORT).status == 200
        assert children(device.process.pid) != [engine]


def test_a_model_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(TINY.read_bytes()[:100_000])
    with running(tmp_path, {"broken": ModelFile(broken), **TINY_ONLY}) as device:
        refused = ask(device, "POST", "/api/generate", {**SHORT, "model": "broken"})
        assert (refused.status, refused.error) == (500, "llama-server process has terminated: exit status 1")
        assert device.loaded() == []
        assert ask(device, "POST", "/api/generate", SHORT).status == 200


# — with a model that speaks English —


def test_the_packaged_model_speaks_and_can_be_interrupted_while_it_reads(tmp_path: Path) -> None:
    models = catalog.packaged_models(None)
    if not models:
        pytest.skip("the packaged model is not installed")
    name = next(iter(models))
    with running(tmp_path, models) as device:
        question = {"role": "user", "content": "What is the capital of France?"}
        options = {"temperature": 0, "num_predict": 12}
        answer = ask(device, "POST", "/api/chat", {"model": name, "messages": [question], "options": options})
        assert "Paris" in "".join(line["message"]["content"] for line in answer.lines)
        book = {"model": name, "raw": True, "stream": False, "options": {"num_predict": 1}}
        words = " ".join(f"number {n}" for n in range(200))
        (engine,) = children(device.process.pid)
        busy = processor_s(engine)
        assert ask(device, "POST", "/api/generate", {**book, "prompt": words}).status == 200
        whole_s = processor_s(engine) - busy
        until(lambda: device.connections() == 0)
        busy = processor_s(engine)
        with sent(device, "/api/generate", {**book, "prompt": f"again {words}"}):
            until(lambda: processor_s(engine) > busy + 0.1)
        assert ask(device, "POST", "/api/generate", {**book, "prompt": "hello"}).status == 200
        # Left alone it would have read nearly all of it first.
        assert processor_s(engine) - busy < 0.9 * whole_s
