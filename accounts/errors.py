"""Errors of the accounts app.

AccountsError
├── InvalidKey            the API key is wrong, unknown, revoked or expired
├── AccountsUnavailable   the database did not answer: try again
├── InvalidAccountData    a value cannot be stored (an e-mail that is none, a name in use)
└── NotAllowed            a rule is against it (the last owner leaves, an invitation has expired)
"""


class AccountsError(Exception):
    status = 500
    code = "accounts_error"
    retryable = False


class InvalidKey(AccountsError):
    status = 401
    code = "invalid_key"


class AccountsUnavailable(AccountsError):
    status = 503
    code = "accounts_unavailable"
    retryable = True


class InvalidAccountData(AccountsError):
    status = 400
    code = "invalid_account_data"


class NotAllowed(AccountsError):
    """It may not be done: the text says why, and what may."""

    status = 409
    code = "not_allowed"
