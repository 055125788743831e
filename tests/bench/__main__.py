"""What the queue costs, in figures. Prints, judges nothing.

python -m tests.bench            ours alone, in half a minute
python -m tests.bench streams    many open streams, in a minute and a half
python -m tests.bench bridge     the MCP bridge over HTTP and stdio, in half a minute
python -m tests.bench queue      ours beside other queues, each in an environment of its own (about 25 minutes)
python -m tests.bench proxy      calls through the HTTP door beside straight ones and LiteLLM's (about 12 minutes)
"""

from __future__ import annotations

import argparse

from . import bridge, contest, proxy, quick, streams
from .proxy_ways import SetUp
from .roster import PEERS


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command")
    alone = commands.add_parser("quick", help="ours alone (the default)")
    for one in (parser, alone):
        one.add_argument("--jobs", type=int, default=2000, help="jobs of each round (default: 2000)")
        one.add_argument("--threads", type=int, default=8, help="threads of the worker (default: 8)")
    queues = commands.add_parser("queue", help="ours beside other queues")
    queues.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: 3)")
    queues.add_argument("--scale", type=float, default=1.0, help="fewer jobs, as in 0.01 to see whether all of it runs")
    queues.add_argument("--only", default="", help=f"comma-separated: {','.join(peer.name for peer in PEERS)}")
    queues.add_argument("--write", action="store_true", help=f"write {contest.PAGE} too")
    open_ones = commands.add_parser("streams", help="many open streams")
    open_ones.add_argument("--streams", type=int, default=1000, help="open at once (default: 1000)")
    open_ones.add_argument("--seconds", type=float, default=15.0, help="of each measurement (default: 15)")
    mcp = commands.add_parser("bridge", help="the MCP bridge over HTTP and stdio")
    mcp.add_argument("--calls", type=int, default=200, help="of each sort, one after the other (default: 200)")
    mcp.add_argument("--waiters", type=int, default=200, help="calls that wait at once (default: 200)")
    calls = commands.add_parser("proxy", help="calls through the HTTP door beside straight ones and LiteLLM's")
    calls.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: 3)")
    calls.add_argument("--scale", type=float, default=1.0, help="less of all, as in 0.05 to see whether it runs")
    calls.add_argument("--only", default=",".join(proxy.NAMES), help="comma-separated ways (default: all)")
    calls.add_argument("--measures", default="", help="comma-separated measurements (default: all)")
    for part, default in (("web", SetUp.web), ("workers", SetUp.workers), ("threads", SetUp.threads)):
        calls.add_argument(f"--{part}", type=int, default=default, help=f"{part} of ours (default: {default})")
    calls.add_argument("--write", action="store_true", help=f"write {proxy.PAGE} too")
    asked = parser.parse_args()
    if asked.command == "proxy":
        _proxy(parser, asked)
        return
    if asked.command == "streams":
        streams.run(asked.streams, asked.seconds)
        return
    if asked.command == "bridge":
        bridge.run(asked.calls, asked.waiters)
        return
    if asked.command != "queue":
        quick.run(asked.jobs, asked.threads)
        return
    names = [name for name in asked.only.split(",") if name]
    unknown = set(names) - {peer.name for peer in PEERS}
    if unknown or asked.rounds < 1 or not 0 < asked.scale <= 1:
        parser.error(f"--only: unknown {', '.join(unknown)}" if unknown else "--rounds from 1, --scale up to 1")
    chosen = [peer for peer in PEERS if not names or peer.name in names]
    contest.run(chosen, rounds=asked.rounds, scale=asked.scale, write=asked.write)


def _proxy(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> None:
    ways = [name for name in asked.only.split(",") if name]
    wanted = [name for name in asked.measures.split(",") if name]
    unknown = {*ways, *wanted} - {*proxy.NAMES, *(measure.name for measure in proxy.MEASURES)}
    if unknown or asked.rounds < 1 or not 0 < asked.scale <= 1:
        parser.error(f"unknown: {', '.join(unknown)}" if unknown else "--rounds from 1, --scale up to 1")
    measures = [measure for measure in proxy.MEASURES if not wanted or measure.name in wanted]
    how = SetUp(asked.web, asked.workers, asked.threads)
    proxy.run(ways, measures, how, rounds=asked.rounds, scale=asked.scale, write=asked.write)


if __name__ == "__main__":
    main()
