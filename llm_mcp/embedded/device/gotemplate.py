"""The part of Go's text/template that prompt templates of /api/generate are made of.

Values (`{{ .Prompt }}`), conditions (`{{ if .System }}…{{ else }}…{{ end }}`, nested as deep as one likes), comments,
and the minus signs that trim white space. Loops, functions and variables are refused rather than guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from llm_mcp.ollama_words.wire import Refusal

_ACTION = re.compile(r"\{\{(-(?=\s))?\s*(.*?)\s*((?<=\s)-)?\}\}", re.DOTALL)
_NAME = re.compile(r"\.[A-Z][A-Za-z]*")
_MAX_DEPTH = 100


def rendered(template: str, values: Mapping[str, str]) -> str:
    """Return the template's text with the values (`Prompt`, `System`, …) put in; a name not given is empty.

    Raises Refusal 500, which is Ollama's status for a template it cannot read.
    """
    out: list[str] = []
    # One entry for each open `if`: whether what stands there is written, and whether its `else` may be.
    open_ifs: list[tuple[bool, bool]] = []
    written = True
    at, trim = 0, False
    for action in _ACTION.finditer(template):
        before = template[at : action.start()]
        if trim:
            before = before.lstrip()
        if action[1]:
            before = before.rstrip()
        if written:
            out.append(before)
        at, trim = action.end(), bool(action[3])
        word, _, rest = action[2].partition(" ")
        if action[2].startswith("/*") and action[2].endswith("*/"):
            continue
        if word == "if":
            if len(open_ifs) >= _MAX_DEPTH:
                raise _refusal("exceeded max depth")
            holds = bool(_value(rest.strip(), values))
            open_ifs.append((written, written and not holds))
            written = written and holds
        elif action[2] == "else" and open_ifs:
            outer, otherwise = open_ifs.pop()
            open_ifs.append((outer, False))
            written = otherwise
        elif action[2] == "end" and open_ifs:
            written, _ = open_ifs.pop()
        elif written:
            out.append(_value(action[2], values))
        else:
            _value(action[2], values)
    if open_ifs:
        raise _refusal("unexpected EOF")
    rest = template[at:]
    if "{{" in rest:
        raise _refusal("unclosed action")
    return "".join([*out, rest.lstrip() if trim else rest])


def _value(expression: str, values: Mapping[str, str]) -> str:
    if not _NAME.fullmatch(expression):
        raise _refusal(f"{expression[:40]!r} is not supported")
    return values.get(expression[1:], "")


def _refusal(reason: str) -> Refusal:
    return Refusal(500, f"template: {reason}")
