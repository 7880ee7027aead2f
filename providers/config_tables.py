"""Reading tables of TOML or JSON5: typed values, problems named by the entry they are in, nothing lost silently."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

UNKNOWN_KEY = "CCM does not know this key."


@dataclass(frozen=True, slots=True)
class Skipped:
    """An entry of a file that is not imported, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(slots=True)
class Findings:
    """What reading a file brought to light. `problems` stop the import; `warnings` are what an
    operator should act on; `variables` names environment variables that are not set."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)

    def skip(self, path: str, reason: str) -> None:
        self.skipped.append(Skipped(path, reason))

    def lacks(self, variable: str) -> None:
        if variable not in self.variables:
            self.variables.append(variable)


class Table:
    """One table. Each reader takes a key away and answers None when it is absent; `leftovers`
    reports what nobody took."""

    def __init__(self, data: Mapping[str, Any], path: str, findings: Findings) -> None:
        self._data = dict(data)
        self.path = path
        self.findings = findings

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def problem(self, key: str, text: str) -> None:
        self.findings.problems.append(f"{self.at(key)}: {text}")

    def warn(self, key: str, text: str) -> None:
        self.findings.warnings.append(f"{self.at(key)}: {text}")

    def text(self, key: str) -> str | None:
        value = self._take(key, str, "a text in quotes")
        return None if value is None else str(value).strip()

    def required(self, key: str) -> str:
        value = self.text(key)
        if not value:
            self.problem(key, "is required.")
        return value or ""

    def flag(self, key: str) -> bool | None:
        value: bool | None = self._take(key, bool, "true or false")
        return value

    def whole(self, key: str, minimum: int = 0) -> int | None:
        value: int | None = self._take(key, int, "a whole number")
        if value is not None and (isinstance(value, bool) or value < minimum):
            self.problem(key, f"must be a whole number of at least {minimum}.")
            return None
        return value

    def seconds(self, key: str) -> float | None:
        value = self.decimal(key)
        if value is not None and value < Decimal("0.1"):
            self.problem(key, "must be at least 0.1 seconds.")
            return None
        return None if value is None else float(value)

    def decimal(self, key: str) -> Decimal | None:
        """A number, or the same in quotes. Never negative."""
        value = self._take(key, (str, int, Decimal), "a number")
        if value is None:
            return None
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        if isinstance(value, bool) or not number.is_finite() or number < 0:
            self.problem(key, f"must be a number of at least 0, not {value!r}.")
            return None
        return number

    def texts(self, key: str) -> list[str] | None:
        values: list[Any] | None = self._take(key, list, "a list")
        if values is None:
            return None
        if not all(isinstance(value, str) for value in values):
            self.problem(key, "must be a list of texts.")
            return None
        return values

    def table(self, key: str) -> "Table | None":
        value = self._take(key, dict, "a table")
        return None if value is None else Table(value, self.at(key), self.findings)

    def tables(self, key: str) -> "list[Table]":
        values: Sequence[Any] = self._take(key, list, "a list of tables") or ()
        tables = []
        for place, value in enumerate(values):
            path = f"{self.at(key)}[{place}]"
            if isinstance(value, dict):
                tables.append(Table(value, path, self.findings))
            else:
                self.findings.problems.append(f"{path}: must be a table.")
        return tables

    def json(self, key: str) -> dict[str, Any] | None:
        """A table of free content, with JSON's types alone."""
        value: dict[str, Any] | None = self._take(key, dict, "a table")
        try:
            return None if value is None else {name: _plain(inner) for name, inner in value.items()}
        except ValueError as error:
            self.problem(key, str(error))
            return None

    def names(self) -> list[str]:
        """Of the entries that nobody has taken yet."""
        return list(self._data)

    def items(self, key: str) -> list[Any]:
        """A list of anything."""
        return self._take(key, list, "a list") or []

    def skip_table(self, reason: str, name: str = "") -> None:
        """Say why the whole table is not imported."""
        self.findings.skip(f"{self.path} ({name})" if name else self.path, reason)
        self._data.clear()

    def skip(self, key: str, reason: str, *, whole: bool = False) -> None:
        """Take `key` away and say why it is not imported: `whole`, or each entry of a table by itself."""
        if key in self._data:
            value = self._data.pop(key)
            paths = [self.at(key)] if whole else _leaves(self.at(key), value)
            self.findings.skipped += [Skipped(path, reason) for path in paths]

    def skip_all(self, reasons: Mapping[str, str], *, whole: bool = False) -> None:
        for key, reason in reasons.items():
            self.skip(key, reason, whole=whole)

    def leftovers(self) -> None:
        for key in list(self._data):
            self.skip(key, UNKNOWN_KEY)

    def _take(self, key: str, kind: Any, wanted: str) -> Any:
        value = self._data.pop(key, None)
        if value is not None and not isinstance(value, kind):
            self.problem(key, f"must be {wanted}.")
            return None
        return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, Decimal):
        return float(value)
    if not isinstance(value, (str, bool, int, float)):
        raise ValueError("may hold texts, numbers, true, false, lists and tables of them.")
    return value


def _leaves(path: str, value: Any) -> list[str]:
    if not isinstance(value, dict) or not value:
        return [path]
    return [leaf for key, inner in value.items() for leaf in _leaves(f"{path}.{key}", inner)]
