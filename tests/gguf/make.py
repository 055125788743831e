"""Writes `tiny.gguf` and `tiny-embed.gguf` beside itself: llama models of random weights for the tests.

They load in milliseconds and run real inference: the text is nonsense, the tokens, counts and timings are real.
Needs nothing but Python, and gives the same bytes on every machine.

    python tests/gguf/make.py [FOLDER]
"""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

WIDTH = 64
LAYERS = 2
HEADS = 4
HIDDEN = 128
CONTEXT = 2048
_ALIGNMENT = 32

# Wire numbers of the GGUF format, version 3 (ggml: docs/gguf.md).
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_TENSOR_F32, _TENSOR_F16 = 0, 1
_FILE_TYPE_MOSTLY_F16 = 1
_POOLING_MEAN = 1
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6

_SPOKEN = "the a cat dog sat on mat and ran to is of in it hello world I you we was said happy little big red blue"
WORDS = [f"▁{word}" for word in (*_SPOKEN.split(" "), "sun", "moon", "one", "two", "three")] + [".", ",", "!", "?", "▁"]
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _pair(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _number(key: str, value: int) -> bytes:
    return _pair(key, _U32, struct.pack("<I", value))


def _array(key: str, kind: int, items: list[bytes]) -> bytes:
    return _pair(key, _ARRAY, struct.pack("<IQ", kind, len(items)) + b"".join(items))


def vocabulary() -> list[tuple[str, float, int]]:
    """Return (token, score, type) of every token: three control tokens, all 256 bytes, a few words."""
    control = [("<unk>", 0.0, _UNKNOWN), ("<s>", 0.0, _CONTROL), ("</s>", 0.0, _CONTROL)]
    raw = [(f"<0x{byte:02X}>", 0.0, _BYTE) for byte in range(256)]
    return control + raw + [(word, -float(rank), _NORMAL) for rank, word in enumerate(WORDS, start=1)]


def _weights(dice: random.Random, rows: int, columns: int, scale: float, *, quiet_rows: int = 0) -> bytes:
    """Return rows × columns half floats of that standard deviation; the first `quiet_rows` rows 20 times smaller.

    Sums of uniform numbers instead of a library's normal ones: exact on every platform.
    """
    out = bytearray()
    for row in range(rows):
        spread = scale * (0.05 if row < quiet_rows else 1.0) * 3**0.5
        out += struct.pack(
            f"<{columns}e",
            *(spread * (dice.random() + dice.random() + dice.random() + dice.random() - 2.0) for _ in range(columns)),
        )
    return bytes(out)


def _tensors(vocab: int) -> Iterator[tuple[str, tuple[int, ...], int, bytes]]:
    """Yield (name, dimensions with the innermost first, type, bytes)."""
    dice = random.Random(7)
    ones = struct.pack(f"<{WIDTH}f", *([1.0] * WIDTH))
    yield "token_embd.weight", (WIDTH, vocab), _TENSOR_F16, _weights(dice, vocab, WIDTH, 1.0)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (WIDTH,), _TENSOR_F32, ones
        yield block + "ffn_norm.weight", (WIDTH,), _TENSOR_F32, ones
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"{block}{name}.weight", (WIDTH, WIDTH), _TENSOR_F16, _weights(dice, WIDTH, WIDTH, 0.08)
        yield block + "ffn_gate.weight", (WIDTH, HIDDEN), _TENSOR_F16, _weights(dice, HIDDEN, WIDTH, 0.08)
        yield block + "ffn_up.weight", (WIDTH, HIDDEN), _TENSOR_F16, _weights(dice, HIDDEN, WIDTH, 0.08)
        yield block + "ffn_down.weight", (HIDDEN, WIDTH), _TENSOR_F16, _weights(dice, WIDTH, HIDDEN, 0.08)
    yield "output_norm.weight", (WIDTH,), _TENSOR_F32, ones
    # Control and byte tokens are made unlikely, so that a sample is words and does not end at once.
    output = _weights(dice, vocab, WIDTH, 0.3, quiet_rows=3 + 256)
    yield "output.weight", (WIDTH, vocab), _TENSOR_F16, output


def build(*, embedding: bool) -> bytes:
    """Return the bytes of the model file; `embedding` adds the pooling that makes it an embedding model."""
    tokens = vocabulary()
    pairs = [
        _pair("general.architecture", _STRING, _text("llama")),
        _pair("general.name", _STRING, _text("llm-mcp tiny random" + (" embedding" if embedding else ""))),
        _pair("general.license", _STRING, _text("mit")),
        _number("general.file_type", _FILE_TYPE_MOSTLY_F16),
        _number("llama.context_length", CONTEXT),
        _number("llama.embedding_length", WIDTH),
        _number("llama.block_count", LAYERS),
        _number("llama.feed_forward_length", HIDDEN),
        _number("llama.attention.head_count", HEADS),
        _number("llama.attention.head_count_kv", HEADS),
        _number("llama.rope.dimension_count", WIDTH // HEADS),
        _pair("llama.attention.layer_norm_rms_epsilon", _F32, struct.pack("<f", 1e-5)),
        _number("llama.vocab_size", len(tokens)),
        _pair("tokenizer.ggml.model", _STRING, _text("llama")),
        _pair("tokenizer.ggml.pre", _STRING, _text("default")),
        _array("tokenizer.ggml.tokens", _STRING, [_text(token) for token, _, _ in tokens]),
        _array("tokenizer.ggml.scores", _F32, [struct.pack("<f", score) for _, score, _ in tokens]),
        _array("tokenizer.ggml.token_type", _I32, [struct.pack("<i", kind) for _, _, kind in tokens]),
        _number("tokenizer.ggml.bos_token_id", 1),
        _number("tokenizer.ggml.eos_token_id", 2),
        _number("tokenizer.ggml.unknown_token_id", 0),
        _pair("tokenizer.ggml.add_bos_token", _BOOL, b"\x01"),
        _pair("tokenizer.chat_template", _STRING, _text(TEMPLATE)),
    ]
    if embedding:
        pairs.append(_number("llama.pooling_type", _POOLING_MEAN))
    infos, data = bytearray(), bytearray()
    count = 0
    for name, dimensions, kind, raw in _tensors(len(tokens)):
        infos += _text(name) + struct.pack("<I", len(dimensions))
        infos += struct.pack(f"<{len(dimensions)}Q", *dimensions) + struct.pack("<IQ", kind, len(data))
        data += raw + bytes(-len(raw) % _ALIGNMENT)
        count += 1
    head = b"GGUF" + struct.pack("<IQQ", 3, count, len(pairs)) + b"".join(pairs) + bytes(infos)
    return head + bytes(-len(head) % _ALIGNMENT) + bytes(data)


def main(folder: Path) -> None:
    """Write both files into `folder`."""
    for name, embedding in (("tiny.gguf", False), ("tiny-embed.gguf", True)):
        (folder / name).write_bytes(build(embedding=embedding))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
