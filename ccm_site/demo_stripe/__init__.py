"""A stand-in for Stripe, for the demo and for tests: its HTTP API as far as CCM uses it, the pages where customers pay,
and signed webhooks. It moves no money. A program of its own that only `make run` without STRIPE_SECRET_KEY and tests
start; nothing of it is reachable through CCM's web server."""
