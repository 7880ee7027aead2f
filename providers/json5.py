"""JSON5, read strictly: comments, trailing commas, unquoted keys, single quotes, hexadecimal and
signed numbers. Pure.

Why not a package: those that are kept up either need seconds for a file of a hundred kilobytes, or
take duplicate keys and tell errors by their offset and the text around it, which may be a secret.
Errors here name the line and column and never quote the text.
"""

import re
from dataclasses import dataclass
from typing import Any

DEEPEST = 100

_SPACE = re.compile(r"(?:[\s\ufeff]|//[^\n\r\u2028\u2029]*|/\*(?:[^*]|\*(?!/))*\*/)*")
_NAME = re.compile(r"(?:[^\W\d]|[$_])(?:\w|[$\u200c\u200d])*")
_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?:(?P<hex>0[xX][0-9a-fA-F]+)|(?P<whole>0|[1-9]\d*)(?![\d.eE])|"
    r"(?P<float>(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?))(?![\w$.])",
    re.ASCII,
)
_PLAIN = {'"': re.compile(r'[^"\\\n\r]+'), "'": re.compile(r"[^'\\\n\r]+")}
_ESCAPED = re.compile(
    r"\\(?:u(?P<u>[0-9a-fA-F]{4})|x(?P<x>[0-9a-fA-F]{2})|(?P<line>\r\n|[\n\r\u2028\u2029])|(?P<char>[^ux1-9]))"
)
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0"}
_WORDS = {"true": True, "false": False, "null": None}


class NotJson5(ValueError):
    """The text is not JSON5; the words say where and why."""


def loads(text: str) -> Any:
    """The value that `text` describes. Raises NotJson5."""
    reader = _Reader(text)
    value = reader.value(0)
    reader.space()
    if reader.place < len(text):
        raise reader.wrong("there is more after the end of the value")
    return value


@dataclass(slots=True)
class _Reader:
    text: str
    place: int = 0

    def wrong(self, why: str, place: int | None = None) -> NotJson5:
        before = self.text[: self.place if place is None else place]
        line = before.count("\n") + 1
        return NotJson5(f"line {line}, column {len(before) - (before.rfind(chr(10)) + 1) + 1}: {why}")

    def space(self) -> None:
        match = _SPACE.match(self.text, self.place)
        assert match is not None
        self.place = match.end()
        if self.text.startswith("/*", self.place):
            raise self.wrong("this comment has no end")

    def next(self) -> str:
        """The next character that means something; "" at the end."""
        self.space()
        return self.text[self.place : self.place + 1]

    def value(self, depth: int) -> Any:
        if depth > DEEPEST:
            raise self.wrong(f"nested deeper than {DEEPEST} levels")
        first = self.next()
        if first == "{":
            return self.object(depth)
        if first == "[":
            return self.array(depth)
        if first in _PLAIN:
            return self.string()
        if first and (first.isdigit() or first in "+-."):
            return self.number()
        return self.word()

    def object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.place += 1
        while (first := self.next()) != "}":
            at = self.place
            key = self.string() if first in _PLAIN else self.name()
            if key in found:
                raise self.wrong("this key is there already", at)
            if self.next() != ":":
                raise self.wrong("a colon is missing after the key")
            self.place += 1
            found[key] = self.value(depth + 1)
            self.comma("}")
        self.place += 1
        return found

    def array(self, depth: int) -> list[Any]:
        found: list[Any] = []
        self.place += 1
        while self.next() != "]":
            found.append(self.value(depth + 1))
            self.comma("]")
        self.place += 1
        return found

    def comma(self, end: str) -> None:
        first = self.next()
        if first == ",":
            self.place += 1
        elif first != end:
            raise self.wrong(f"a comma or {end} is missing" if first else f"the file ends before its {end}")

    def name(self) -> str:
        match = _NAME.match(self.text, self.place)
        if match is None:
            raise self.wrong("a key is missing" if self.next() else "the file ends before its }")
        self.place = match.end()
        return match[0]

    def word(self) -> Any:
        match = _NAME.match(self.text, self.place)
        if match is None or match[0] not in _WORDS:
            why = "a text has to stand in quotes" if match else "a value is missing"
            raise self.wrong(why if self.place < len(self.text) else "the file ends where a value is missing")
        self.place = match.end()
        return _WORDS[match[0]]

    def number(self) -> int | float:
        match = _NUMBER.match(self.text, self.place)
        if match is None:
            raise self.wrong("this is no number (infinite ones and NaN are refused)")
        number: int | float
        if match["hex"]:
            number = int(match["hex"], 16)
        elif match["whole"] and len(match["whole"]) <= 300:
            number = int(match["whole"])
        else:
            number = float(match["float"] or match["whole"])
        if number in {float("inf"), float("-inf")}:
            raise self.wrong("this number is too large")
        self.place = match.end()
        return -number if match["sign"] == "-" else number

    def string(self) -> str:
        quote = self.text[self.place]
        begin = self.place
        self.place += 1
        parts: list[str] = []
        while not self.text.startswith(quote, self.place):
            if match := _PLAIN[quote].match(self.text, self.place):
                parts.append(match[0])
            elif match := _ESCAPED.match(self.text, self.place):
                parts.append(_unescaped(match))
            elif self.text.startswith("\\", self.place) and self.place + 1 < len(self.text):
                raise self.wrong("this escape is unknown")
            else:
                raise self.wrong("this text has no closing quote on its line", begin)
            self.place = match.end()
        self.place += 1
        text = "".join(parts)
        # Two escapes may be the halves of one character; a half alone is none.
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise self.wrong("this text holds half a character", begin) from None


def _unescaped(match: "re.Match[str]") -> str:
    if digits := match["u"] or match["x"]:
        return chr(int(digits, 16))
    if match["line"]:
        return ""
    return _SHORT.get(match["char"], match["char"])
