"""Usage: what the requests used, summed for pages and kept for as long as the operator says.

A usage record belongs to the moment at which it was settled (`created_at`), which is the moment of
its transfers too: so every hour and day of usage agrees with the ledger to the nano, and a request
that is settled hours late lands in the hour in which it was charged, never in one long summed up.
"""
