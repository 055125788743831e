"""What there is: the models of two devices and of the clouds, seen through one door."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pydantic import SecretStr

from llm_mcp.config import Settings
from llm_mcp.http import Wire
from llm_mcp.providers.base import Model
from llm_mcp.providers.fake import Fake
from llm_mcp.runtime import Runtime
from llm_mcp.web import create_app
from tests.contract.provider_peer import Line, Peer
from tests.integration.web.client import Client
from tests.integration.web.ollama.conftest import ask

Say = Callable[[Line], None]


class Device:
    """A device that says what a test wrote down; `asked` counts its questions by path."""

    def __init__(self, *names: str, loaded: tuple[str, ...] = (), silent: bool = False) -> None:
        self.asked: dict[str, int] = {}
        self.silent = silent
        self.trickles = False
        self._names = names
        self._loaded = loaded
        self.peer = Peer(self._answer)

    def _answer(self, line: Line) -> None:
        head, body = self.peer.requests[-1].head, self.peer.requests[-1].body
        path = head.split()[1]
        self.asked[path] = self.asked.get(path, 0) + 1
        if self.silent:
            line.hold()
        if self.trickles:
            line.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
            while not self.peer.stopping.wait(0.1):
                line.send(b" ")
        status, told = self._told(path, body)
        data = json.dumps(told).encode()
        kind = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        line.send(kind.encode() + data)

    def _told(self, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/tags":
            return 200, {"models": [{"name": name, "model": name, "size": 7, "digest": "d"} for name in self._names]}
        if path == "/api/ps":
            return 200, {"models": [{"name": name, "size_vram": 5, "context_length": 64} for name in self._loaded]}
        asked = json.loads(body)
        if asked["model"] == "broken:latest":
            return 500, {"error": "model 'broken:latest' cannot be read"}
        return 200, {"modelfile": "FROM x", "asked": asked, "port": self.peer.port}


class Cloud(Fake):
    """A cloud whose list has more than names."""

    def models(self, *, wire: Wire) -> list[Model]:
        wire.check()
        entry = {
            "created": 1_700_000_000,
            "context_length": 4096,
            "supported_parameters": ["tools", "reasoning"],
            "architecture": {"input_modalities": ["text", "image"]},
        }
        return [Model(name="maker/large", entry=entry), Model(name="maker/embed", entry={"created": "odd"})]


Make = Callable[..., Client]


@pytest.fixture
def over(settings: Settings) -> Iterator[Make]:
    """Make a door over these devices; keyword arguments are settings."""
    stack = ExitStack()

    def make(first: Device, *others: Device, **changed: Any) -> Client:
        for device in (first, *others):
            stack.enter_context(device.peer)
        extra = ",".join(f"127.0.0.1:{device.peer.port}" for device in others)
        chosen = settings.model_copy(
            update={"ollama_base_url": first.peer.url, "ollama_extra_endpoints": extra, **changed}
        )
        runtime = Runtime(chosen, providers={"openrouter": Cloud()})
        stack.callback(runtime.close)
        return Client(create_app(runtime))

    with stack:
        yield make


def test_every_model_of_every_device_is_listed_once(over: Make) -> None:
    client = over(Device("a:latest", "b:latest"), Device("b:latest", "c:1b"))
    models = client.get("/api/tags").json["models"]
    assert [model["name"] for model in models] == ["a:latest", "b:latest", "c:1b"]
    assert {(model["size"], model["digest"]) for model in models} == {(7, "d")}
    # What an older device does not say is there too: clients read it.
    assert models[0].keys() >= {"modified_at", "details", "capabilities"}


def test_what_is_in_memory_anywhere_is_told_and_not_asked_for_each_time(over: Make) -> None:
    one, two = Device("a:latest", loaded=("a:latest",)), Device("b:latest", loaded=("b:latest",))
    client = over(one, two)
    for _ in range(5):
        models = client.get("/api/ps").json["models"]
        assert [(model["name"], model["size_vram"]) for model in models] == [("a:latest", 5), ("b:latest", 5)]
    assert one.asked["/api/ps"] < 5


def test_a_device_that_is_silent_holds_nobody_up_for_long(over: Make) -> None:
    client = over(Device("a:latest", silent=True), Device("b:latest", loaded=("b:latest",)))
    began = time.monotonic()
    assert [model["name"] for model in client.get("/api/ps").json["models"]] == ["b:latest"]
    assert time.monotonic() - began < 10
    assert [model["name"] for model in client.get("/api/tags").json["models"]] == ["b:latest"]


def test_show_asks_the_device_that_has_the_model(over: Make) -> None:
    one, two = Device("a:latest"), Device("b:latest", "broken:latest")
    client = over(one, two)
    for name, device in (("a", one), ("b:latest", two), ("registry.ollama.ai/library/b", two)):
        told = ask(client, "/api/show", {"model": name}).json
        assert told["port"] == device.peer.port
        assert told["asked"]["model"] in ("a:latest", "b:latest")
    assert (one.asked["/api/show"], two.asked["/api/show"]) == (1, 1)
    assert ask(client, "/api/show", {"name": "b", "verbose": True}).json["asked"]["verbose"] is True
    answer = ask(client, "/api/show", {"model": "broken"})
    assert (answer.status_code, answer.json) == (500, {"error": "model 'broken:latest' cannot be read"})


@pytest.mark.parametrize("fault", ["silent", "trickles"])
def test_a_device_that_went_silent_is_not_waited_for_when_a_model_is_shown(over: Make, fault: str) -> None:
    device = Device("a:latest")
    client = over(device)
    assert client.get("/api/tags").json["models"]
    setattr(device, fault, True)
    began = time.monotonic()
    answer = ask(client, "/api/show", {"model": "a"})
    assert answer.status_code == 502
    assert answer.json["error"]
    assert time.monotonic() - began < 15


def test_a_clouds_models_are_there_where_its_key_is(over: Make) -> None:
    assert len(over(Device("a:latest")).get("/api/tags").json["models"]) == 1
    client = over(Device("a:latest"), openrouter_api_key=SecretStr("k"))
    _, large, embed = client.get("/api/tags").json["models"]
    assert large["name"] == large["remote_model"] == "maker/large"
    assert (large["remote_host"], large["size"]) == ("openrouter", 0)
    assert large["modified_at"] == "2023-11-14T22:13:20.000000000Z"
    assert large["details"]["context_length"] == 4096
    assert large["capabilities"] == ["completion", "tools", "thinking", "vision"]
    assert (len(large["digest"]), embed["capabilities"]) == (64, ["embedding"])
    shown = ask(client, "/api/show", {"model": "maker/large"}).json
    assert shown["model_info"]["openrouter.context_length"] == 4096
    assert (shown["remote_host"], shown["capabilities"]) == ("openrouter", large["capabilities"])


def test_the_root_says_what_clients_look_for(over: Make) -> None:
    client = over(Device("a:latest"))
    for answer in (client.get("/"), client.head("/")):
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert client.get("/").text == "Ollama is running"
    assert [int(part) for part in client.get("/api/version").json["version"].split(".")][:2] >= [0, 6]
