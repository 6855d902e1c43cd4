"""Libraries that talk to their own programmers while they work for us are kept off the user's terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping

TORCH = ("torch", "onnxscript", "onnx_ir")
"""The loggers of PyTorch's exporter."""


@contextlib.contextmanager
def quiet(*loggers: str, environment: Mapping[str, str] | None = None) -> Iterator[io.StringIO]:
    """Keep warnings, prints and some loggers off the terminal; what was printed becomes a note of an exception.

    Args:
        loggers: names of loggers, each with all below it that exist by now.
        environment: variables that libraries read when they load, for those that the user has not set himself.

    Yields:
        What was printed so far.
    """
    said = io.StringIO()
    added = {name: value for name, value in (environment or {}).items() if name not in os.environ}
    os.environ.update(added)
    silenced = list(_family(loggers))
    levels = [logger.level for logger in silenced]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            for logger in silenced:
                logger.setLevel(logging.CRITICAL + 1)
            yield said
    except Exception as error:
        if said.getvalue().strip():
            error.add_note(said.getvalue())
        raise
    finally:
        for logger, level in zip(silenced, levels, strict=True):
            logger.setLevel(level)
        for name in added:
            os.environ.pop(name, None)


def _family(names: tuple[str, ...]) -> Iterator[logging.Logger]:
    """The loggers of these names, and their children: torch gives each a level of its own, which wins."""
    yield from map(logging.getLogger, names)
    below = tuple(f"{name}." for name in names)
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and below and name.startswith(below):
            yield logger
