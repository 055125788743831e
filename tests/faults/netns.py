"""A network of its own for some processes, whose one line to the rest can be cut, be made lossy, or say no."""

from __future__ import annotations

import os
import shutil
import subprocess
from types import TracebackType

HERE, THERE = "100.64.77.1", "100.64.77.2"
"""The two ends of the line: ours, and theirs."""

_TABLE = """
flush ruleset
table inet faults {{
    chain in {{ type filter hook input priority 0; {rule}; }}
    chain out {{ type filter hook output priority 0; {rule}; }}
}}
"""


def unavailable_reason() -> str | None:
    """Return why no such network can be made here and what to do about it, None when it can."""
    if os.geteuid() != 0:
        return "needs root, for a network namespace"
    for program, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(program) is None:
            return f"needs {program} (apt install {package})"
    try:
        with Network():
            return None
    except subprocess.CalledProcessError as error:
        return f"this machine allows no network namespace: {error.stderr.strip()}"


class Network:
    """A context manager."""

    def __init__(self) -> None:
        self._name = f"faults{os.getpid()}"
        self._ours = f"flt{os.getpid()}"

    @property
    def through(self) -> list[str]:
        """The command that starts a program in it."""
        return ["ip", "netns", "exec", self._name]

    def __enter__(self) -> Network:
        _run("ip", "netns", "add", self._name)
        try:
            _run("ip", "link", "add", self._ours, "type", "veth", "peer", "name", "there", "netns", self._name)
            _run("ip", "address", "add", f"{HERE}/30", "dev", self._ours)
            _run("ip", "link", "set", self._ours, "up")
            for words in (
                f"address add {THERE}/30 dev there",
                "link set there up",
                "link set lo up",
            ):
                _run("ip", "-n", self._name, *words.split())
            self.restore()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _run("ip", "netns", "delete", self._name)
        subprocess.run(["ip", "link", "delete", self._ours], check=False, capture_output=True)

    def cut(self) -> None:
        """Let nothing through, and tell nobody."""
        self._rule("drop")

    def lose(self, percent: int) -> None:
        """Lose so many of a hundred packets, each way."""
        self._rule(f"numgen random mod 100 < {percent} drop")

    def reset(self) -> None:
        """Answer everything with a reset."""
        self._rule("meta l4proto tcp reject with tcp reset")

    def restore(self) -> None:
        """Let everything through."""
        self._rule("accept")

    def _rule(self, rule: str) -> None:
        _run(*self.through, "nft", "-f", "-", text=_TABLE.format(rule=rule))


def _run(*words: str, text: str = "") -> None:
    subprocess.run(words, check=True, capture_output=True, text=True, input=text)
