"""Stop sequences, for providers that know none: the text is cut where the first one begins."""


class StopSequences:
    """Gets a text in pieces and says what of it may go out.

    The end of a piece that may be the beginning of a stop sequence is held back until the next."""

    __slots__ = ("_held", "_longest", "_stops", "hit")

    def __init__(self, stops: list[str]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self.hit: str | None = None

    def __bool__(self) -> bool:
        return bool(self._stops)

    def feed(self, piece: str) -> str:
        """What is certain now. After `hit` is set: what stood before it, and then nothing."""
        if self.hit is not None:
            return ""
        text = self._held + piece
        places = [(place, stop) for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            place, self.hit = min(places, key=lambda found: found[0])
            self._held = ""
            return text[:place]
        keep = self._possible(text)
        self._held = text[len(text) - keep :] if keep else ""
        return text[: len(text) - keep]

    def rest(self) -> str:
        """The text has ended: what was held back belongs to it."""
        held, self._held = self._held, ""
        return held

    def _possible(self, text: str) -> int:
        """How many of the last characters may begin a stop sequence."""
        for size in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[len(text) - size :]
            if any(stop.startswith(end) for stop in self._stops):
                return size
        return 0
