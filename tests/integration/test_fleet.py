"""What can be named now: devices that answer, come, go and say nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from llm_mcp import config, fleet
from llm_mcp.errors import ModelNotFound, ProviderError
from llm_mcp.fleet import Fleet
from llm_mcp.providers.fake import Fake
from llm_mcp.runtime import Runtime
from tests.contract.provider_peer import Peer, Say, answer, drip, hang_up, hold
from tests.waiting import until


def listing(*names: str, loaded: tuple[str, ...] = ()) -> list[Say]:
    """Return a device's answers to `/api/tags` and `/api/ps`."""
    entries = [{"name": name, "modified_at": "2026-01-01T00:00:00Z"} for name in names]
    return [answer(200, {"models": entries}), answer(200, {"models": [{"name": name} for name in loaded]})]


def reach(folder: Path, *devices: Peer, **changed: Any) -> Fleet:
    """Return the fleet of these devices: the first is our own Ollama, the others further machines."""
    own, *others = devices
    extra = ",".join(f"127.0.0.1:{peer.port}" for peer in others)
    settings = config.load(data_dir=folder, ollama_base_url=own.url, ollama_extra_endpoints=extra, **changed)
    return Fleet.of(Runtime(settings))


def test_every_device_lists_what_it_has(tmp_path: Path) -> None:
    with Peer(*listing("a:latest", "b:latest", loaded=("b:latest",))) as own, Peer(*listing("b:latest")) as other:
        offers = reach(tmp_path, own, other).models()
    second = f"extra:127.0.0.1:{other.port}"
    assert [(offer.device_id, offer.name, offer.loaded) for offer in offers] == [
        ("local", "b:latest", True),
        ("local", "a:latest", False),
        (second, "b:latest", False),
    ]
    assert offers[0].entry["modified_at"] == "2026-01-01T00:00:00Z"
    assert not any(offer.away for offer in offers)


def test_a_process_has_one_fleet_which_remembers(tmp_path: Path) -> None:
    with Peer(*listing("a:latest")) as own:
        settings = config.load(data_dir=tmp_path, ollama_base_url=own.url)
        runtime = Runtime(settings)
        for _ in range(3):
            assert Fleet.of(runtime).route("a", "chat").model == "a:latest"
        assert len(own.requests) == 2


def test_a_call_is_routed_to_the_machine_that_has_the_model(tmp_path: Path) -> None:
    with Peer(*listing("a:latest")) as own, Peer(*listing("b:latest")) as other:
        found = reach(tmp_path, own, other)
        assert found.route("a", "chat").device_id == "local"
        assert found.route("b", "embed").device_id == f"extra:127.0.0.1:{other.port}"


def test_a_machine_that_left_keeps_its_models_as_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_DEVICE_FRESH_S", 0.0)
    with Peer(*listing("a:latest", loaded=("a:latest",)), hang_up) as own, Peer(*listing("b:latest"), hang_up) as other:
        found = reach(tmp_path, own, other)
        assert not any(offer.away for offer in found.models())
        offers = until(lambda: [offer for offer in found.models() if offer.away and not offer.loaded])
        assert {offer.name for offer in offers} <= {"a:latest", "b:latest"}
        until(lambda: all(offer.away for offer in found.models()))
        assert found.route("a", "chat").device_id == "local"


def test_a_machine_that_says_nothing_holds_nobody_up_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_DEVICE_CAP_S", 0.3)
    with Peer(hold) as silent, Peer(*listing("b:latest")) as other:
        found = reach(tmp_path, silent, other)
        began = time.monotonic()
        assert found.route("b", "chat").model == "b:latest"
        assert time.monotonic() - began < 5.0
        with pytest.raises(ModelNotFound):
            found.route("a", "chat")


def test_who_was_silent_is_not_waited_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_DEVICE_CAP_S", 5.0)
    monkeypatch.setattr(fleet, "_DEVICE_FRESH_S", 0.0)
    with Peer(hold) as silent, Peer(*listing("b:latest") * 50) as other:
        found = reach(tmp_path, silent, other)
        assert found.route("b", "chat").model == "b:latest"
        monkeypatch.setattr(fleet, "_STALE", 10**9)  # what has answered is believed
        began = time.monotonic()
        for source in found._devices[1:]:
            source._fresh_s = 1.0
        for _ in range(5):
            assert found.route("b", "chat").model == "b:latest"
        assert time.monotonic() - began < 20.0


def test_a_machine_that_drips_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_DEVICE_CAP_S", 0.3)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"
    with Peer(drip(head + b" " * 1000, 0.1)) as slow:
        assert reach(tmp_path, slow).models() == []
        assert slow.hung_up.wait(10)


def test_a_model_that_came_since_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_MOMENT_S", 0.0)
    with Peer(*listing("a:latest"), *listing("a:latest", "new:latest")) as own:
        found = reach(tmp_path, own)
        assert found.route("a", "chat").model == "a:latest"
        assert found.route("new", "chat").model == "new:latest"


def test_what_is_not_there_is_not_asked_for_again_and_again(tmp_path: Path) -> None:
    with Peer(*listing("a:latest")) as own:
        found = reach(tmp_path, own)
        for _ in range(20):
            with pytest.raises(ModelNotFound):
                found.route("nope", "chat")
        assert len(own.requests) <= 4


@pytest.mark.parametrize("said", [b"{", {"models": 7}, {"models": [1, {"name": 2}]}, {}])
def test_a_list_that_makes_no_sense_is_none(tmp_path: Path, said: Any) -> None:
    with Peer(answer(200, said)) as odd, Peer(*listing("b:latest")) as other:
        offers = reach(tmp_path, odd, other).models()
    assert [offer.name for offer in offers] == ["b:latest"]


def test_a_clouds_models_are_listed_where_there_is_a_key(tmp_path: Path) -> None:
    cloud = Fake(models=["gpt"])
    settings = config.load(data_dir=tmp_path, local_ollama=False, openai_api_key=SecretStr("k"))
    runtime = Runtime(settings, providers={"openai": cloud})
    assert [(offer.provider, offer.name, offer.device_id) for offer in Fleet.of(runtime).models()] == [
        ("openai", "gpt", None)
    ]


def test_a_device_nobody_set_up_is_never_dialled(tmp_path: Path) -> None:
    with Peer(*listing("a:latest")) as own:
        runtime = Runtime(config.load(data_dir=tmp_path, ollama_extra_endpoints="127.0.0.1:1"))
        with pytest.raises(ProviderError) as caught:
            runtime.provider("ollama", device_id=f"extra:127.0.0.1:{own.port}")
        assert (caught.value.code, caught.value.retryable) == ("not_found", False)
        assert own.requests == []
