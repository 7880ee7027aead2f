"""Long answers, part by part."""

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async


async def one_by_one(parts: Iterator[str]) -> AsyncIterator[str]:
    """`parts`, each asked for when the one before has been taken: a synchronous iterator would be read whole,
    into memory, before the first part is sent."""
    following = sync_to_async(next)
    while (part := await following(parts, None)) is not None:
        yield part
