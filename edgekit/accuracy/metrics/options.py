"""What stands behind a metric's name: ``NAME[:OUTPUT[+OUTPUT…]][,KEY=VALUE…]``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...errors import UsageError, suggestion

_NEXT = re.compile(r",(?=[a-z_]+=)")  # a comma within an output's name begins no option


class Options:
    """The options of one metric, each asked for by name; what nobody asked for is refused.

    Args:
        metric: what the user wrote, for messages.
        texts: ``KEY=VALUE`` each.

    Raises:
        UsageError: one of them is no such pair, or a key stands twice.
    """

    def __init__(self, metric: str, texts: Sequence[str] = ()) -> None:
        self.metric = metric
        self._given: dict[str, str] = {}
        self._known: list[str] = []
        for text in texts:
            key, sign, value = text.partition("=")
            if not sign or not value:
                raise UsageError(f"metric '{metric}': '{text}' has no value", fix=f"Write {key}=VALUE.")
            if key in self._given:
                raise UsageError(f"metric '{metric}' states '{key}' twice")
            self._given[key] = value

    def text(self, key: str, default: str = "") -> str:
        """A text as it stands."""
        self._known.append(key)
        return self._given.get(key, default)

    def choice(self, key: str, allowed: Sequence[str], default: str) -> str:
        """One of some words.

        Raises:
            UsageError: it is another.
        """
        value = self.text(key, default)
        if value not in allowed:
            raise UsageError(f"metric '{self.metric}': {key} '{value}' is not known", fix=suggestion(value, allowed))
        return value

    def number(self, key: str, default: float | None, low: float, high: float) -> float | None:
        """A number from ``low`` to ``high``.

        Raises:
            UsageError: it is none, or outside.
        """
        value = self.text(key)
        if not value:
            return default
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise UsageError(f"metric '{self.metric}': {key} must be a number from {low:g} to {high:g}, got '{value}'")
        return number

    def real(self, key: str, default: float, low: float, high: float) -> float:
        """As `number`, with a default."""
        found = self.number(key, default, low, high)
        return default if found is None else found

    def whole(self, key: str, default: int | None, low: int) -> int | None:
        """A whole number, ``low`` or more.

        Raises:
            UsageError: it is none, or below.
        """
        value = self.text(key)
        if not value:
            return default
        if not re.fullmatch(r"-?\d+", value) or int(value) < low:
            raise UsageError(f"metric '{self.metric}': {key} must be a whole number from {low}, got '{value}'")
        return int(value)

    def wholes(self, key: str, default: Sequence[int]) -> list[int]:
        """Whole numbers above 0, joined by commas.

        Raises:
            UsageError: one of them is none.
        """
        value = self.text(key)
        if not value:
            return list(default)
        if not re.fullmatch(r"0*[1-9]\d*(,0*[1-9]\d*)*", value):
            raise UsageError(f"metric '{self.metric}': {key} must be whole numbers from 1, like 8,16,32; got '{value}'")
        return [int(item) for item in value.split(",")]

    def done(self) -> None:
        """Raise UsageError where an option was given that the metric does not have."""
        for key in self._given:
            if key not in self._known:
                fix = suggestion(key, self._known) if self._known else "It takes no options."
                raise UsageError(f"metric '{self.metric}' has no option '{key}'", fix=fix)


def split(spec: str) -> tuple[str, str, list[str]]:
    """``mse:depth,key=value`` → its name, its output ('' where none is named), its options."""
    head, *options = _NEXT.split(spec)
    name, _, output = head.partition(":")
    return name, output, options
