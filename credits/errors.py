"""Errors of the credits app.

CreditsError
├── InsufficientCredits  the wallet affords too little: how much is needed, how much is there
├── BudgetExceeded       the API key's own limit affords too little
├── OutstandingDebt      an overage or refund left a debt that must be repaid first
├── WalletFrozen         the organisation's wallet is frozen (a dispute is open)
├── KeyNoLongerValid     the API key was revoked or expired since it was authenticated
├── HoldConflict         the request id was used before, with another request
├── HoldClosed           the hold is settled already, with another reading
├── LedgerBusy           the writer's queue is full: try again
├── LedgerUnavailable    the database did not answer: try again
├── InvalidAmount        an amount that cannot be posted
├── TransferConflict     an idempotency key was used before, with another amount or wallet
├── PromoCodeRefused     a promo code is unknown, not valid now, used up or redeemed before
├── CorrectionRefused    a refund, adjustment or write-off that is more than there is, or was decided before
├── SamePerson           an adjustment is decided by somebody else than whoever proposed it
├── PaymentRefused       Stripe says no: a declined card, or something it does not do
├── PaymentsUnavailable  Stripe cannot be reached or has no answer: try again
├── PaymentsOff          no Stripe account is configured
└── LedgerDrift          the ledger contradicts itself: nothing was written
"""

from credits.budgets import Binding


class CreditsError(Exception):
    status = 500
    code = "credits_error"
    retryable = False


class InsufficientCredits(CreditsError):
    """`needed` and `available` are nano-USD."""

    status = 402
    code = "insufficient_credits"

    def __init__(self, *, needed: int, available: int) -> None:
        super().__init__(f"needed {needed} nanos, available {available} nanos")
        self.needed = needed
        self.available = available


class BudgetExceeded(CreditsError):
    """The API key's limit for `window` (total, day, week, month) leaves `available` of `limit` nano-USD
    until `resets_at`; `needed` would have been enough."""

    status = 402
    code = "budget_exceeded"

    def __init__(self, binding: Binding, *, needed: int) -> None:
        super().__init__(f"needed {needed} nanos, available {binding.room} nanos of the key's {binding.window} limit")
        self.needed = needed
        self.available = binding.room
        self.window = binding.window
        self.limit = binding.limit
        self.resets_at = binding.resets_at


class OutstandingDebt(CreditsError):
    status = 402
    code = "outstanding_debt"

    def __init__(self, *, debt: int) -> None:
        super().__init__(f"debt {debt} nanos")
        self.debt = debt


class WalletFrozen(CreditsError):
    status = 402
    code = "wallet_frozen"


class KeyNoLongerValid(CreditsError):
    status = 401
    code = "invalid_key"


class HoldConflict(CreditsError):
    status = 409
    code = "hold_conflict"


class HoldClosed(CreditsError):
    status = 409
    code = "hold_closed"


class LedgerBusy(CreditsError):
    status = 503
    code = "ledger_busy"
    retryable = True


class LedgerUnavailable(CreditsError):
    status = 503
    code = "ledger_unavailable"
    retryable = True


class InvalidAmount(CreditsError):
    status = 400
    code = "invalid_amount"


class TransferConflict(CreditsError):
    status = 409
    code = "transfer_conflict"


class PromoCodeRefused(CreditsError):
    """`str()` is a sentence for the customer; it never names a code."""

    status = 400

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class CorrectionRefused(CreditsError):
    status = 409
    code = "correction_refused"


class SamePerson(CreditsError):
    status = 403
    code = "same_person"


class PaymentRefused(CreditsError):
    """`code` is Stripe's (for a card, why it was declined); `str()` a sentence for the customer. `confirm_url` is
    where the customer can confirm the payment, "" where that is of no use."""

    status = 402

    def __init__(self, code: str, sentence: str, confirm_url: str = "") -> None:
        super().__init__(sentence)
        self.code = code or "payment_refused"
        self.confirm_url = confirm_url


class PaymentsUnavailable(CreditsError):
    status = 503
    code = "payments_unavailable"
    retryable = True


class PaymentsOff(CreditsError):
    status = 503
    code = "payments_off"


class LedgerDrift(CreditsError):
    """An invariant of the ledger does not hold; nothing was written. See `manage.py reconcile`."""

    code = "ledger_drift"
