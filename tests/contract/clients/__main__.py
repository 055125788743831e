"""Real clients against a running server.

python -m tests.contract.clients                 all of them; writes the page
python -m tests.contract.clients --only llm      some, and writes nothing
"""

from __future__ import annotations

import sys

from .matrix import MATRIX

if __name__ == "__main__":
    sys.exit(MATRIX.main(__doc__))
