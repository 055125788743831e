"""Real MCP clients against the running bridge.

python -m tests.contract.mcp                     all of them; writes the page
python -m tests.contract.mcp --only mcpo         some, and writes nothing
"""

from __future__ import annotations

import sys

from .matrix import MATRIX

if __name__ == "__main__":
    sys.exit(MATRIX.main(__doc__))
