"""Who answers a call: from a model's name to a kind, a provider and a device."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from llm_mcp.config import Settings
from llm_mcp.errors import ModelNotFound, NoProvider
from llm_mcp.routing import Offer, Route, choose

KEY = SecretStr("k")


def offer(name: str, device: str = "local", **more: Any) -> Offer:
    return Offer(name=name, provider="ollama", device_id=device, **more)


def settings(**changed: Any) -> Settings:
    return Settings(_env_file=None, **changed)


def to(
    model: str | None, *offers: Offer, verb: Any = "chat", answered: bool = True, **changed: Any
) -> Route | tuple[type, str]:
    """Return the route, or what was raised instead and its code."""
    try:
        return choose(model, verb, offers, settings(**changed), answered=answered)
    except (ModelNotFound, NoProvider) as error:
        return type(error), error.code


def local(name: str, device: str = "local", kind: str = "ollama.chat", *, chosen: bool = False) -> Route:
    return Route(kind=kind, provider="ollama", model=name, device_id=device, chosen=chosen)


def cloud(name: str, kind: str, *, chosen: bool = False) -> Route:
    return Route(kind=kind, provider=kind.partition(".")[0], model=name, chosen=chosen)


def test_a_name_is_what_a_device_serves_with_its_tag_or_without() -> None:
    assert to("nomic", offer("nomic:latest")) == local("nomic:latest")
    assert to("nomic:latest", offer("nomic:latest")) == local("nomic:latest")
    assert to("nomic:latest", offer("nomic")) == local("nomic")
    assert to("nomic:v1", offer("nomic:latest")) == (ModelNotFound, "model_not_found")
    assert to("nomi", offer("nomic:latest")) == (ModelNotFound, "model_not_found")


def test_of_several_devices_one_that_answers_and_has_it_loaded_is_taken() -> None:
    first, second, third = offer("m", "a", away=True), offer("m", "b"), offer("m", "c", loaded=True)
    assert to("m", first, second, third) == local("m", "c")
    assert to("m", first, second) == local("m", "b")
    assert to("m", offer("m", "x"), offer("m", "y")) == local("m", "x")
    assert to("m", first) == local("m", "a")
    assert to("m", offer("m", "a", away=True, loaded=True), second) == local("m", "b")


@pytest.mark.parametrize("verb", ["chat", "generate", "embed"])
def test_the_kind_is_the_verbs(verb: str) -> None:
    assert to("m", offer("m"), verb=verb) == local("m", kind=f"ollama.{verb}")
    there = "embed" if verb == "embed" else "chat"
    assert to("a/m", verb=verb, openrouter_api_key=KEY) == cloud("a/m", f"openrouter.{there}")
    assert to("m", verb=verb, openai_api_key=KEY) == cloud("m", f"openai.{there}")


def test_a_slash_means_openrouter_unless_a_device_has_that_very_name() -> None:
    assert to("hf.co/a/m:q4", offer("hf.co/a/m:q4"), openrouter_api_key=KEY) == local("hf.co/a/m:q4")
    assert to("a/m", offer("m"), openai_api_key=KEY) == (NoProvider, "no_api_key")
    assert to("a/m", offer("m"), openrouter_api_key=KEY) == cloud("a/m", "openrouter.chat")


def test_what_nobody_has_is_not_found_and_without_a_device_it_is_not_known() -> None:
    assert to("m") == (ModelNotFound, "model_not_found")
    assert to("m", answered=False) == (NoProvider, "no_device")
    assert to("m", answered=False, openrouter_api_key=KEY) == (NoProvider, "no_device")


@pytest.mark.parametrize("name", [None, "", "auto"])
def test_no_name_is_the_default_model(name: str | None) -> None:
    offers = [offer("e", capabilities=frozenset({"embedding"})), offer("m"), offer("l", "b", loaded=True)]
    assert to(name, *offers) == local("l", "b", chosen=True)
    assert to(name, *offers, verb="embed") == local("e", kind="ollama.embed", chosen=True)
    assert to(name, *offers, ollama_model="m") == local("m", chosen=True)
    assert to(name, *offers, ollama_model="other") == local("other", chosen=True)
    assert to(name, *offers, verb="embed", ollama_embed_model="m") == local("m", kind="ollama.embed", chosen=True)


def test_the_default_without_a_device_is_a_clouds() -> None:
    away = offer("m", away=True)
    assert to(None, away, answered=False, openai_api_key=KEY) == cloud("gpt-4o-mini", "openai.chat", chosen=True)
    assert to(None, answered=False, ollama_model="m", openrouter_api_key=KEY) == cloud(
        "google/gemini-2.5-flash", "openrouter.chat", chosen=True
    )
    assert to(None, verb="embed", openai_api_key=KEY) == cloud("text-embedding-3-small", "openai.embed", chosen=True)
    assert to(None, verb="embed", openrouter_api_key=KEY) == (NoProvider, "no_device")
    assert to(None, away, answered=False) == (NoProvider, "no_device")


def test_the_payload_says_where_the_call_goes() -> None:
    assert local("m", "extra:box").payload == {"model": "m", "device_id": "extra:box"}
    assert cloud("m", "openai.chat").payload == {"model": "m"}


@pytest.mark.parametrize(
    ("given", "devices"),
    [
        ("", {}),
        (
            " box , 10.0.0.2:11500,[::1]:9 ",
            {
                "extra:box": "http://box:11434",
                "extra:10.0.0.2:11500": "http://10.0.0.2:11500",
                "extra:[::1]:9": "http://[::1]:9",
            },
        ),
        ("[fd00::1]", {"extra:[fd00::1]": "http://[fd00::1]:11434"}),
    ],
)
def test_extra_devices_are_named_for_where_they_are(given: str, devices: dict[str, str]) -> None:
    assert settings(ollama_extra_endpoints=given).extra_devices == devices


@pytest.mark.parametrize(
    "given", ["http://box", "box:", "box:0", "box:70000", "a b", "box:x", "user@box", ":80", "::1"]
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="HOST or HOST:PORT"):
        settings(ollama_extra_endpoints=given)
