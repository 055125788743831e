"""Headers of model files: what is read from them, and what becomes of files that are none."""

from __future__ import annotations

import importlib.util
import random
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_mcp.embedded.device import catalog, gguf
from llm_mcp.embedded.device.catalog import CatalogModel, ModelFile
from llm_mcp.errors import SetupError
from llm_mcp.ollama_words.names import full_name

MODELS = Path(__file__).parents[1] / "gguf"
TINY = MODELS / "tiny.gguf"
EMBED = MODELS / "tiny-embed.gguf"
RAW = TINY.read_bytes()
# Where the weights begin; what is before it is the header.
HEADER = gguf.read(TINY).size - 2 * (295 * 64 * 2 + 2 * (4 * 64 * 64 + 3 * 64 * 128)) - 4 * 64 * 5


def header(version: int = 3, tensors: int = 0, pairs: int = 0, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + rest


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def test_the_tiny_model_says_what_it_is() -> None:
    tiny = gguf.read(TINY)
    assert (tiny.architecture, tiny.context_length, tiny.embedding_length) == ("llama", 2048, 64)
    assert (tiny.quantisation, tiny.pools, tiny.size) == ("F16", False, TINY.stat().st_size)
    assert tiny.parameters == 2 * 295 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 128) + 5 * 64
    assert tiny.chat_template.endswith("assistant:")
    assert tiny.tensors[0] == gguf.Tensor("token_embd.weight", "F16", (64, 295))
    assert tiny.metadata["tokenizer.ggml.tokens"] is None
    assert gguf.read(EMBED).pools


def test_an_identity_stays_and_tells_files_apart(tmp_path: Path) -> None:
    identity = gguf.read(TINY).identity
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(RAW)
    assert gguf.read(copy).identity == identity
    assert gguf.read(EMBED).identity != identity
    # Another training: other weights under the same header.
    dice = random.Random(1)
    copy.write_bytes(RAW[:HEADER] + dice.randbytes(len(RAW) - HEADER))
    assert gguf.read(copy).identity != identity
    copy.write_bytes(RAW[:-1] + bytes([RAW[-1] ^ 1]))
    assert gguf.read(copy).identity != identity


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b"GGU", "does not begin with GGUF"),
        (b"PK\3\4" + bytes(100), "does not begin with GGUF"),
        (header(version=1), "version 1"),
        (header(version=0x03000000), "version"),
        (header(pairs=2**40), "unlikely counts"),
        (header(tensors=2**40), "unlikely counts"),
        (header(pairs=1), "buffer"),
        (header(pairs=1, rest=struct.pack("<Q", 2**63)), "unlikely length"),
        (header(pairs=1, rest=struct.pack("<Q", 1000)), "past the end"),
        (header(pairs=1, rest=text(b"a") + struct.pack("<I", 99)), "kind 99"),
        (header(pairs=1, rest=text(b"a") + struct.pack("<IIQ", 9, 9, 1)), "array of kind 9"),
        (header(pairs=1, rest=text(b"a") + struct.pack("<IIQ", 9, 4, 2**62)), "past the end"),
        (header(pairs=1, rest=text(b"a") + struct.pack("<IIQ", 9, 8, 2**62)), "buffer"),
        (header(tensors=1, rest=text(b"a") + struct.pack("<I", 2**31)), "unlikely shape"),
    ],
)
def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path, raw: bytes, reason: str) -> None:
    file = tmp_path / "odd.gguf"
    file.write_bytes(raw)
    with pytest.raises(SetupError, match=r"odd\.gguf") as refused:
        gguf.read(file)
    assert reason in str(refused.value)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, HEADER), flips=st.lists(st.tuples(st.integers(0, HEADER), st.integers(0, 255)), max_size=8))
def test_a_damaged_header_is_refused_or_read_never_worse(
    tmp_path: Path, cut: int, flips: list[tuple[int, int]]
) -> None:
    raw = bytearray(RAW[: cut or None])
    for at, byte in flips:
        if at < len(raw):
            raw[at] = byte
    file = tmp_path / "damaged.gguf"
    file.write_bytes(raw)
    try:
        model = CatalogModel("damaged", ModelFile(file))
    except SetupError:
        return
    assert model.listed()["size"] == len(raw)
    assert model.shown()["capabilities"]


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.gguf"):
        with pytest.raises(SetupError, match=str(path)):
            gguf.read(path)


def test_counts_are_shown_as_ollama_shows_them() -> None:
    shown = {
        134_515_008: "134.52M",
        8_000_000_000: "8B",
        7_615_616_512: "7.6B",
        119_936: "120K",
        5_000_000: "5M",
        9: "9",
    }
    assert {number: catalog.human_count(number) for number in shown} == shown


def test_names_and_arguments_go_both_ways() -> None:
    assert [full_name(name) for name in ("a", "a:b", "h:1/a", "x/a:b")] == [
        "a:latest",
        "a:b",
        "h:1/a:latest",
        "x/a:b",
    ]
    models = {"a": ModelFile(Path("x=y.gguf")), "b:1": ModelFile(Path("/b"), embedding=True)}
    arguments = catalog.as_arguments(models)
    assert arguments == ["--model", "a=x=y.gguf", "--embed-model", "b:1=/b"]
    assert catalog.parse_models(arguments[1:2], arguments[3:]) == models
    for wrong in ("a", "=x", "a="):
        with pytest.raises(SetupError, match="NAME=PATH"):
            catalog.parse_models([wrong])
    with pytest.raises(SetupError, match="twice"):
        catalog.parse_models(["a=x"], ["a=y"])


def test_what_a_model_can_do_is_judged_by_its_header() -> None:
    assert CatalogModel("t", ModelFile(TINY)).capabilities == ["completion"]
    assert CatalogModel("t", ModelFile(EMBED)).capabilities == ["embedding"]
    pooled = CatalogModel("t", ModelFile(TINY, embedding=True))
    assert pooled.capabilities == ["embedding"]
    # The same file served in two ways is two models.
    assert pooled.digest != CatalogModel("t", ModelFile(TINY)).digest
    assert CatalogModel("t", ModelFile(EMBED, embedding=True)).digest == CatalogModel("t", ModelFile(EMBED)).digest


def test_a_context_is_never_beyond_the_training() -> None:
    model = CatalogModel("t", ModelFile(TINY))
    assert [model.context(wish) for wish in (256, 2048, 100_000)] == [256, 2048, 2048]


def test_a_model_of_the_users_own_is_the_only_one(tmp_path: Path) -> None:
    assert catalog.packaged_models(tmp_path / "Mine.gguf") == {"mine": ModelFile(tmp_path / "Mine.gguf")}
    assert "LLM_MCP_EMBEDDED_MODEL" in (catalog.unavailable_reason(tmp_path / "Mine.gguf") or "")
    assert catalog.unavailable_reason(TINY) is None


def test_the_tiny_models_are_what_their_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("make_tiny", MODELS / "make.py")
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert make.build(embedding=False) == RAW
    assert make.build(embedding=True) == EMBED.read_bytes()
