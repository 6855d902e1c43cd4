"""Whom a failure on made-up inputs is blamed on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..errors import DataError, ParityError, SourceError, UnusableSourceError


@contextlib.contextmanager
def blaming(made_up: str | None) -> Iterator[None]:
    """What goes wrong inside on inputs that nobody gave is put down to them first, not to the model.

    Args:
        made_up: see `Source.made_up`; None: the inputs are the user's, and errors pass as they are.
    """
    try:
        yield
    except (SourceError, DataError, ParityError) as error:
        if made_up is None or isinstance(error, UnusableSourceError):
            raise
        raise type(error)(
            f"{error.what}, on made-up {made_up}",
            details=error.details,
            fix=f"These inputs may be at fault, not the model: give real ones with --data. {error.fix}".rstrip(),
        ) from error
