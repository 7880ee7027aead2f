"""Long answers, part by part."""

from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

from asgiref.sync import sync_to_async

Part = TypeVar("Part", str, bytes)


async def one_by_one(parts: Iterator[Part]) -> AsyncIterator[Part]:
    """`parts`, each asked for when the one before has been taken: a synchronous iterator would be read whole,
    into memory, before the first part is sent."""

    def following() -> Part | None:
        return next(parts, None)

    ask = sync_to_async(following)
    while (part := await ask()) is not None:
        yield part
