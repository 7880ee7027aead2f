"""Reading TOML tables: typed values, problems named by the entry they are in, nothing lost silently."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any


@dataclass(slots=True)
class Findings:
    """What reading a file brought to light. `problems` stop the import; `warnings` are what an
    operator should act on; `ignored` names entries that mean nothing here."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


class Table:
    """One TOML table. Each reader takes a key away and answers None when it is absent; `leftovers`
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

    def ignore(self, *keys: str) -> None:
        """Take `keys` away without a word."""
        for key in keys:
            self._data.pop(key, None)

    def leftovers(self) -> None:
        self.findings.ignored += [path for key, value in self._data.items() for path in _leaves(self.at(key), value)]
        self._data.clear()

    def _take(self, key: str, kind: Any, wanted: str) -> Any:
        value = self._data.pop(key, None)
        if value is not None and not isinstance(value, kind):
            self.problem(key, f"must be {wanted}.")
            return None
        return value


def _leaves(path: str, value: Any) -> list[str]:
    if not isinstance(value, dict):
        return [path]
    return [leaf for key, inner in value.items() for leaf in _leaves(f"{path}.{key}", inner)]
