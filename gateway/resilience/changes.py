"""What one process tells the others about targets, credentials and sessions. Times are seconds since 1970."""

import msgspec


class TargetOpened(msgspec.Struct, frozen=True, tag="target_opened"):
    """Its breaker opened until a moment; `times` in a row. `at` is when it was last closed."""

    mapping_id: int
    until: float
    times: int
    at: float
    error: str = ""


class TargetProbed(msgspec.Struct, frozen=True, tag="target_probed"):
    mapping_id: int


class TargetClosed(msgspec.Struct, frozen=True, tag="target_closed"):
    mapping_id: int


class CredentialCools(msgspec.Struct, frozen=True, tag="credential_cools"):
    """`mapping_id` 0: for all targets."""

    credential_id: int
    mapping_id: int
    until: float
    times: int
    refused: bool
    at: float
    error: str = ""


class CredentialWorks(msgspec.Struct, frozen=True, tag="credential_works"):
    credential_id: int
    mapping_id: int


class SessionStays(msgspec.Struct, frozen=True, tag="session_stays"):
    session_id: str
    model_id: int
    mapping_id: int
    credential_id: int | None
    until: float


Change = TargetOpened | TargetProbed | TargetClosed | CredentialCools | CredentialWorks | SessionStays
