"""Where the JSON object in a call's arguments ends, while they come in pieces."""

import re

OUTSIDE = re.compile(r'["{}\[\]]')
INSIDE = re.compile(r'[\\"]')


class ObjectEnd:
    """Reads arguments that begin with `{`. Some models write several objects into one call, or words
    after the object."""

    __slots__ = ("_depth", "_escaped", "_in_text", "ended")

    def __init__(self) -> None:
        self._depth = 0
        self._in_text = False
        self._escaped = False
        self.ended = False

    def feed(self, piece: str) -> int:
        """How much of `piece` belongs to the object."""
        if self.ended:
            return 0
        at = 0
        if self._escaped and piece:
            self._escaped = False
            at = 1
        while True:
            found = (INSIDE if self._in_text else OUTSIDE).search(piece, at)
            if found is None:
                return len(piece)
            at = found.end()
            match found[0]:
                case '"':
                    self._in_text = not self._in_text
                case "\\":
                    self._escaped = at == len(piece)
                    at += 1
                case "{" | "[":
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if self._depth <= 0:
                        self.ended = True
                        return at
