"""How the fake providers refuse what the real ones would."""


class Refused(Exception):
    """The message of the 400 that the real API answers."""


def require(condition: object, message: str) -> None:
    if not condition:
        raise Refused(message)
