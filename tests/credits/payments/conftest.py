from collections.abc import Iterator

import pytest
from pytest_django import Settings

from tests.credits.payments.support import Shop
from tests.fakes.stripe import FakeStripe, fake_stripe


@pytest.fixture
def stripe(settings: Settings) -> Iterator[FakeStripe]:
    """Stripe, and CCM set up to use it."""
    with fake_stripe() as fake:
        settings.STRIPE = fake.settings
        yield fake


@pytest.fixture
def shop(stripe: FakeStripe, db: None) -> Shop:
    return Shop(stripe)
