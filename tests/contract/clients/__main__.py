"""Real clients against a running server.

python -m tests.contract.clients                 all of them; writes the page
python -m tests.contract.clients --only llm      some, and writes nothing
"""

from __future__ import annotations

import argparse
import sys

from . import environments, matrix
from .roster import CLIENTS


def main() -> int:
    """Run what was asked for; 1 when something failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.contract.clients",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", help=f"comma-separated: {','.join(client.name for client in CLIENTS)}")
    names = [name for name in parser.parse_args().only.split(",") if name]
    if unknown := set(names) - {client.name for client in CLIENTS}:
        parser.error(f"--only: unknown {', '.join(unknown)}")
    chosen = [client for client in CLIENTS if not names or client.name in names]
    found: dict[str, matrix.Outcome] = {}
    with matrix.serving() as url:
        for client in chosen:
            try:
                found[client.name] = matrix.run(client, environments.command(client, url))
            except environments.Unmade as why:
                found[client.name] = dict.fromkeys(client.checks, f"not run: {why}")
            passed = [name for name, told in found[client.name].items() if not told]
            print(f"{client.label:<20}{environments.versions(client)}: {' '.join(passed)}", flush=True)
            for name, told in found[client.name].items():
                if told:
                    print(f"  {name}: {told}", flush=True)
    if not names:
        (matrix.ROOT / matrix.PAGE).write_text(matrix.page(found, chosen, environments.node_version()))
        print(f"wrote {matrix.PAGE}")
    return int(any(told for outcome in found.values() for told in outcome.values()))


if __name__ == "__main__":
    sys.exit(main())
