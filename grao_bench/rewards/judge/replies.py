"""What a judge's reply says. Anything but one clear verdict is no verdict: never a tie."""

from __future__ import annotations

import html
import re
import unicodedata

_SIDE = r"(?:\b(?:text|reply|answer|response)\s*#?)?"
_VERDICT = re.compile(
    rf"(?<![\w.<>=≤≥+\-*/]){_SIDE}(?<![.\d])([12])\s*(>+|<+|=+)\s*{_SIDE}([12])(?![\w<>=≤≥+\-*/]|[.,]\d|\s*[<>=≤≥])", re.IGNORECASE
)
_DENIED = re.compile(r"(?:\b(?:not|never|neither|nor|whether|if|unless)|n['’]t|\bcannot)\s+(?:\w+\s+){0,3}[\"']?$", re.IGNORECASE)
_LABEL = re.compile(r"judge?ment\s*result\s*:?", re.IGNORECASE)
_SIGNS = {">": 1, "=": 0, "<": -1}


def parse(reply: str) -> int | None:
    """+1: Text 1 is better, 0: neither, -1: Text 2; None where the reply holds no single verdict.

    Read are "1 > 2", "1>2", full-width signs, "2 < 1", "[Text 1] > [Text 2]", with prose or markup around. A reply with several different
    verdicts counts by what follows the last "[Judgment Result]", or by its last line when that is a verdict alone.
    """
    text = unicodedata.normalize("NFKC", html.unescape(reply))
    if "<think>" in text.lower() and "</think>" not in text.lower():
        return None  # it was cut off while it was thinking
    text = re.split(r"</think>", text, flags=re.IGNORECASE)[-1]
    text = re.sub(r"[*_`\[\](){}\\$\"“”]", " ", text)
    for part in (text, _LABEL.split(text)[-1], last_line(text)):
        found = verdicts(part)
        if len(found) == 1:
            return found.pop()
    return None


def verdicts(text: str) -> set[int]:
    """The different verdicts that a text states."""
    found = set()
    for match in _VERDICT.finditer(text):
        left, sign, right = match.groups()
        before = text[: match.start()]
        # "1 > 2 = 1" is no verdict
        if left != right and not _DENIED.search(before) and not before.rstrip().endswith(("<", "=", ">", "≤", "≥")):
            found.add(_SIGNS[sign[0]] * (1 if left == "1" else -1))
    return found


def last_line(text: str) -> str:
    """The last line that says anything, where it is a verdict and nothing else; otherwise an empty text."""
    lines = [line.strip(" \t.!:;,") for line in text.splitlines() if line.strip(" \t.!:;,")]
    return lines[-1] if lines and _VERDICT.fullmatch(lines[-1]) else ""
