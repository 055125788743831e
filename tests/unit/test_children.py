"""What ends is started again: at once what had lived, with growing pauses what had not, and each by itself."""

from __future__ import annotations

import pytest

from llm_mcp.children import Children
from llm_mcp.errors import SetupError


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Fake:
    """A process that lives until it is told to die, and starts unless it is told not to."""

    def __init__(self) -> None:
        self.pid: int | None = 1
        self.starts = 0
        self.refuses: Exception | None = None

    def start(self) -> None:
        self.starts += 1
        if self.refuses is not None:
            raise self.refuses
        self.pid = 1 + self.starts


def pause_of(children: Children, clock: Clock, process: Fake) -> float:
    """Have the process die now and return how long it stays down, s."""
    starts, began = process.starts, clock.now
    process.pid = None
    while True:
        wait_s = children.revive()
        if process.starts > starts:
            return clock.now - began
        clock.now += wait_s
        assert clock.now < began + 60


def test_what_had_lived_is_started_again_at_once() -> None:
    clock, process = Clock(), Fake()
    children = Children(clock=clock)
    children.keep("one", process)
    for _ in range(3):
        clock.now += 31
        assert pause_of(children, clock, process) == 0
    assert children.revive() > 0  # nothing to do now


def test_the_pause_of_what_dies_at_once_doubles_up_to_ten_seconds() -> None:
    clock, process = Clock(), Fake()
    children = Children(clock=clock)
    children.keep("one", process)
    pauses = [pause_of(children, clock, process) for _ in range(8)]
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10])
    clock.now += 31
    assert pause_of(children, clock, process) == 0
    assert pause_of(children, clock, process) == pytest.approx(0.2)


@pytest.mark.parametrize("refusal", [SetupError("not yet"), OSError("no more processes")])
def test_what_does_not_start_is_tried_again_and_others_go_on(refusal: Exception) -> None:
    clock, sick, well = Clock(), Fake(), Fake()
    children = Children(clock=clock)
    children.keep("sick", sick)
    children.keep("well", well)
    sick.refuses = refusal
    assert pause_of(children, clock, sick) == pytest.approx(0.2)
    before = clock.now
    while wait_s := children.revive():
        if sick.starts == 2:
            break
        clock.now += wait_s
    assert clock.now - before == pytest.approx(0.4)
    clock.now += 31
    assert pause_of(children, clock, well) == 0  # another's failures are not its own
    sick.refuses = None
    clock.now += 10
    children.revive()
    assert sick.pid is not None
