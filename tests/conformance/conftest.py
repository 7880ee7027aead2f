"""One CCM for all recordings; it takes no customer's and no other test's state."""

from collections.abc import Iterator

import pytest

from tests.conformance.recordings import recordings
from tests.conformance.replay import Stage


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    found = recordings()
    if not found:
        pytest.skip("no recordings beside the project")
    with Stage(found) as made:
        yield made
