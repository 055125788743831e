"""Model calls' HTTP clients are shared by a process's threads: the one used last is lent first."""

from __future__ import annotations

from pathlib import Path

from llm_mcp import config
from llm_mcp.execution import _Wires
from llm_mcp.runtime import Runtime


def test_a_wire_is_lent_to_one_at_a_time_and_the_warmest_first(tmp_path: Path) -> None:
    runtime = Runtime(config.load(data_dir=tmp_path))
    wires = runtime.part("wires", _Wires)
    assert runtime.part("wires", _Wires) is wires
    with wires.lent() as first:
        with wires.lent() as second:
            assert second is not first
        with wires.lent() as again:
            assert again is second
    with wires.lent() as last, wires.lent() as other:
        assert (last, other) == (first, second)
    runtime.close()
