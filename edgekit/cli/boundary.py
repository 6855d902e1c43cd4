"""The one place where an error becomes a line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import click

from ..errors import EdgekitError, OutputError, UsageError, suggestion
from .stop_signals import STOPPED, StopSignals, Terminated
from .streams import give_up, writing


@dataclass(frozen=True, slots=True)
class Failure:
    """What the user is told about an error."""

    message: str
    exit_code: int
    details: tuple[str, ...] = ()
    fix: str = ""

    def to_json(self) -> dict[str, object]:
        """The object that ``--json`` prints in place of a result."""
        return {
            "schema": 1,
            "error": {
                "message": self.message,
                "details": list(self.details),
                "fix": self.fix,
                "exit_code": self.exit_code,
            },
        }


def run_guarded(call: Callable[[], None], words: Sequence[str]) -> int:
    """Run a command and return its exit code. Every error ends here.

    With ``--json`` among ``words``, stdout gets one object whether the command succeeds or fails: ``{"schema": 1,
    "error": {"message", "details", "fix", "exit_code"}}``. With ``--debug``, the traceback comes before the line.
    """
    asked = set(takewhile(lambda word: word != "--", words))
    stop = StopSignals()
    try:
        with stop:
            call()
            _flush_result()
    except click.exceptions.Exit as error:
        return error.exit_code
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BrokenPipeError as error:
        if _stdout_is_closed():
            return 1  # whoever read our output has gone: nobody to tell
        return _report(error, asked)
    except BaseException as error:  # noqa: BLE001  (this is the boundary)
        return _report(stop.asked or error, asked)  # a library may have made its own error of the stop
    return 0


def _report(error: BaseException, asked: set[str]) -> int:
    failure = failure_of(error)
    if "--debug" in asked:
        traceback.print_exception(error)
    text = str(EdgekitError(failure.message, details=failure.details, fix=failure.fix))
    with contextlib.suppress(OSError):  # closed, or full: nobody to tell
        print(f"edgekit: {text}", file=sys.stderr)
    try:
        if "--json" in asked:
            from ..plain import to_json

            print(to_json(failure.to_json()), flush=True)
        else:
            sys.stdout.flush()
    except OSError:
        give_up(sys.stdout)
    return failure.exit_code


def _flush_result() -> None:
    """Print what is still in the buffer.

    Raises:
        OutputError: it cannot be written (a full disk).
    """
    with writing(sys.stdout):
        sys.stdout.flush()


def failure_of(error: BaseException) -> Failure:
    """Say what went wrong, and with which exit code."""
    if isinstance(error, EdgekitError):
        return Failure(error.what, error.exit_code, error.details, error.fix)
    if isinstance(error, click.UsageError):
        usage = _usage(error)
        return Failure(usage.what, usage.exit_code, usage.details, usage.fix)
    if isinstance(error, click.ClickException):
        return Failure(_plain(error.format_message()), UsageError.exit_code)
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        _forget_interrupt()
        return Failure("interrupted", STOPPED + signal.SIGINT)
    if isinstance(error, Terminated):
        return Failure(f"stopped by {error}", STOPPED + error.number)
    for cause in _chain(error):
        known = _disk_failure(cause) or _missing_package(cause)
        if known:
            return known
    if isinstance(error, MemoryError):
        return Failure("out of memory", 1, fix="A smaller batch in --input, or fewer --samples, needs less.")
    first = (str(error).strip().splitlines() or [""])[0]
    return Failure(f"unexpected {type(error).__name__}: {first} (this is a bug in edgekit; --debug shows where)", 1)


def _forget_interrupt() -> None:
    """Exit with our code, whatever the interrupt hit.

    An interrupt inside ``exec(text)`` (dataclasses and namedtuple do that while a library loads) leaves a flag in
    CPython (``unhandled_keyboard_interrupt``) that makes ``python -m`` kill itself by SIGINT at its end. Every such
    call lowers the flag first.
    """
    exec("")


def _disk_failure(error: BaseException) -> Failure | None:
    if not isinstance(error, OSError):
        return None
    if isinstance(error, FileNotFoundError):
        return _missing_folder(error)
    place = f" '{error.filename}'" if error.filename else ""
    reasons = {
        errno.ENOSPC: ("no space left on the device", "Free some space, or choose another folder with -o."),
        errno.EDQUOT: ("the disk quota is used up", "Free some space, or choose another folder with -o."),
        errno.EROFS: ("the file system is read-only", "Choose another folder with -o."),
        errno.EACCES: ("permission denied", ""),
        errno.EPERM: ("not permitted", ""),
    }
    if error.errno not in reasons:
        return None
    what, fix = reasons[error.errno]
    return Failure(f"{what}:{place}" if place else what, OutputError.exit_code, fix=fix)


def _missing_folder(error: FileNotFoundError) -> Failure | None:
    """What a library cannot do without: a folder for temporary files."""
    if "No usable temporary directory" not in str(error):
        return None
    what = "there is no folder for temporary files that can be written to, /tmp and /var/tmp among them"
    return Failure(what, OutputError.exit_code, fix="Name one: TMPDIR=/path/to/a/folder")


# Module → (its package, the extra that brings it). The core installs without them.
_EXTRAS = {
    "torch": ("torch", "export"),
    "onnx": ("onnx", "export"),
    "onnx_ir": ("onnx-ir", "export"),
    "onnxscript": ("onnxscript", "export"),
    "ml_dtypes": ("ml_dtypes", "export"),
    "onnxruntime": ("onnxruntime", "cpu"),
    "openvino": ("openvino", "cpu"),
    "nncf": ("nncf", "cpu"),
    "sklearn": ("scikit-learn", "cpu"),
    "PIL": ("pillow", "cpu"),
    "transformers": ("transformers", "hf"),
    "optimum": ("optimum", "hf"),
}


def _missing_package(error: BaseException) -> Failure | None:
    if not isinstance(error, ModuleNotFoundError) or error.name not in _EXTRAS:
        return None
    package, extra = _EXTRAS[error.name]
    return Failure(f"this needs {package}, which is not installed", 6, fix=f'pip install "edgekit[{extra}]"')


def _chain(error: BaseException) -> Iterator[BaseException]:
    """``error``, then what it was raised from, and so on."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _usage(error: click.UsageError) -> UsageError:
    """Click's usage errors in edgekit's words: what, and how to fix it."""
    command = error.ctx.command_path if error.ctx else "edgekit"
    look = f"({command} --help)"
    if isinstance(error, click.NoSuchOption):
        known = [name for item in _options(error.ctx) for name in item.opts]
        return UsageError(f"'{command}' has no option '{error.option_name}'", fix=_near(error.option_name, known, look))
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return UsageError(f"'{command}' needs {_name(error.param)}", fix=look)
    if isinstance(error, click.BadParameter) and error.param is not None:
        return UsageError(f"{_name(error.param)}: {_plain(error.message)}", fix=look)
    return UsageError(_plain(error.format_message()), fix=look)


def _name(parameter: click.Parameter) -> str:
    """``--target``, or ``SOURCE`` for an argument."""
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.human_readable_name


def _options(context: click.Context | None) -> list[click.Option]:
    parameters = context.command.get_params(context) if context else []
    return [item for item in parameters if isinstance(item, click.Option)]


def _near(got: str, known: list[str], look: str) -> str:
    hint = suggestion(got, known)
    return f"{hint} {look}" if hint.startswith("Did you mean") else look


def _plain(message: str) -> str:
    """Without the capital and the full stop, so that it can follow ``edgekit:``."""
    message = message.strip().removesuffix(".")
    return message[:1].lower() + message[1:] if not message[:2].isupper() else message


def _stdout_is_closed() -> bool:
    """Whether stdout is a pipe that nobody reads. If so it is pointed at nothing, so that the exit is quiet."""
    try:
        fd = sys.stdout.fileno()
        if not _nobody_reads(fd):
            return False
        os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
    except (OSError, ValueError):  # no file behind it, or closed already
        return False
    return True


def _nobody_reads(fd: int) -> bool:
    import select

    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    poll.register(fd, 0)  # an error is reported whether asked for or not
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
