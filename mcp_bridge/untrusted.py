"""What models say is data: text of theirs is freed of what is not seen and of what reorders what is seen.

Pure. Control characters, marks of writing direction, zero-width and tag characters, and variation selectors that
belong to nothing can carry orders past the eyes of a person, or rewrite a terminal. What text of this world needs of
them stays: a joiner inside a word of a script that has joiners, the selector and the joiner of an emoji. A text cut
anywhere is freed as it is in the whole, so places in it stay what they are while it grows.
"""

from __future__ import annotations

import re
import unicodedata

_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, but \t and \n
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\ud800-\udfff"
)
_RUN = re.compile(f"[{_HIDDEN}]+")
_SPACE = re.compile(r"\s+")
# What selects an emoji beside the symbols: keycaps, and a few signs of punctuation.
_KEYCAPS = frozenset("0123456789#*\u203c\u2049\u3030")
_USEFUL = frozenset("\u200c\u200d\ufe0e\ufe0f")
_AFTER_SYMBOL, _AFTER_KEYCAP, _AFTER_LETTER = map(
    re.compile, ("[\ufe0e\ufe0f]?\u200d?", "[\ufe0e\ufe0f]?", "[\u200c\u200d]?")
)
# Scripts whose words have joiners: Arabic and its kin, the scripts of India, Sinhala, Burmese, Khmer.
_JOINED = re.compile("[\u0600-\u07bf\u0840-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17ff\ufb50-\ufdff\ufe70-\ufefc]")


def text(said: str) -> str:
    """Return a text as a person sees it; `\\n` and `\\t` stay."""
    return _RUN.sub(_kept, said.replace("\u2028", "\n").replace("\u2029", "\n"))


def line(said: str, *, limit: int = 200) -> str:
    """Return a text as one line of at most `limit` characters: for names, hints, and messages of progress."""
    # What is cut off is not looked at: an answer may be long.
    one = _SPACE.sub(" ", text(said[: limit * 8])).strip()
    return one if len(one) <= limit else one[: limit - 1].rstrip() + "…"


def tail(said: str, *, limit: int = 80) -> str:
    """Return the end of a text as one line of at most `limit` characters."""
    one = _SPACE.sub(" ", text(said[-limit * 8 :])).strip()
    return one if len(one) <= limit else "…" + one[1 - limit :].lstrip()


def _kept(run: re.Match[str]) -> str:
    """Return what stays of a run of such characters: by what stands before it, so a later piece changes nothing."""
    before = run.string[run.start() - 1] if run.start() else ""
    if not before:
        return ""
    if unicodedata.category(before) in ("So", "Sm", "Sk"):
        may = _AFTER_SYMBOL
    elif before in _KEYCAPS:
        may = _AFTER_KEYCAP
    elif _JOINED.match(before):
        may = _AFTER_LETTER
    else:
        return ""
    candidates = "".join(char for char in run.group() if char in _USEFUL)
    found = may.match(candidates)
    return found.group() if found else ""
