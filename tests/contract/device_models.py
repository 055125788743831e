"""Small models of our own making for what the two tiny ones cannot show: calls of tools, thoughts, gaps."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from typing import Any

from llm_mcp.embedded.device.catalog import ModelFile

MODELS = Path(__file__).parents[1] / "gguf"
TINY = MODELS / "tiny.gguf"
TINY_EMBED = MODELS / "tiny-embed.gguf"
TINY_ONLY = {"tiny": ModelFile(TINY)}
TOOL_CALL = '<tool_call>\n{{"name": "add", "arguments": {{"a": {}}}}}\n</tool_call>'
THOUGHT = "<think>\nbecause {}\n</think>\n\nso it is"
_ALIGNMENT = 32

_TEMPLATE = """{% if tools %}system: tools{% for t in tools %}
{{ t | tojson }}{% endfor %}
Reply with <tool_call>
{"name": ..., "arguments": ...}
</tool_call>
{% endif %}{% for m in messages %}{{ m['role'] }}: {% if m['reasoning_content'] %}<think>
{{ m['reasoning_content'] }}
</think>

{% endif %}{{ m['content'] }}{% if m['tool_calls'] %}{% for c in m['tool_calls'] %}<tool_call>
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}
</tool_call>{% endfor %}{% endif %}
{% endfor %}{% if add_generation_prompt %}assistant: {% if enable_thinking is defined and enable_thinking is false %}\
<think>

</think>

{% endif %}{% endif %}"""


def with_numbers(raw: bytes, numbers: dict[str, int]) -> bytes:
    """Return a model file with these numbers added to its metadata."""
    make = maker()
    pairs = b"".join(make._number(key, number) for key, number in numbers.items())
    filler = make._pair("general.comment", make._STRING, make._text(""))
    spaces = -(len(pairs) + len(filler)) % _ALIGNMENT
    filler = make._pair("general.comment", make._STRING, make._text(" " * spaces))
    (count,) = struct.unpack_from("<Q", raw, 16)
    added: bytes = pairs + filler
    return raw[:16] + struct.pack("<Q", count + len(numbers) + 1) + added + raw[24:]


def write_talkers(folder: Path) -> dict[str, Path]:
    """Write models that say one kind of thing only, and return their files.

    `caller` calls a tool, `thinker` thinks and answers; what they say is one token, made likely by its weights.
    `filler` is the tiny model with the marks of a text that has a gap.
    """
    files = {name: folder / f"{name}.gguf" for name in ("caller", "thinker", "filler")}
    for name, sentence in (("caller", TOOL_CALL), ("thinker", THOUGHT)):
        make = maker()
        # Sixteen of them, so that at least one of the random weights is in its favour.
        make.WORDS = [sentence.format(number) for number in range(16)]
        make.TEMPLATE = _TEMPLATE
        files[name].write_bytes(make.build(embedding=False))
    marks = {"fim_pre": 270, "fim_suf": 271, "fim_mid": 272}
    numbers = {f"tokenizer.ggml.{name}_token_id": token for name, token in marks.items()}
    files["filler"].write_bytes(with_numbers(TINY.read_bytes(), numbers))
    return files


def maker() -> Any:
    """Return the script that makes the tiny models, fresh, so that what is changed in it stays here."""
    spec = importlib.util.spec_from_file_location("make_tiny", MODELS / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
