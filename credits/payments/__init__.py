"""Payments by Stripe: top-ups, auto top-up, refunds, disputes (docs/billing.md). The SDK is in `client.py` alone."""
