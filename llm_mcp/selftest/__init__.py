"""What the queue costs here: measured by users on their own machine and their own Postgres, in a schema of its own."""

from __future__ import annotations

from .figures import Figures
from .measure import measure

__all__ = ["Figures", "measure"]
