"""Starts a browser and sees to it that nothing of it stays behind. A script of its own, standard library only.

    python guard.py PROFILE READ WRITE COMMAND…

PROFILE is a folder that it makes and deletes. READ and WRITE are file descriptors of the DevTools pipe, which the
browser gets as 3 and 4. Its standard input is a pipe from the process that uses the browser: it ends when that process
does, however it dies, and then the browser goes, with every process it started. It exits with the browser's code.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_GRACE_S = 3.0  # for a browser that was told to close, or whose pipe ended, to end by itself
_PATIENCE_S = 5.0  # for the last of its processes to stop writing to the profile


def main() -> int:
    """Start the browser, wait for its end or its user's, clean up."""
    profile, read, write, *command = sys.argv[1:]
    high = [os.dup(int(name)) for name in (read, write)]  # 3 and 4 may be taken, by each other too
    os.dup2(high[0], 3)
    os.dup2(high[1], 4)
    Path(profile).mkdir(mode=0o700)
    try:
        browser = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sys.stderr, pass_fds=(3, 4), start_new_session=True
        )
        for descriptor in {3, 4, *high, int(read), int(write)}:  # whoever uses the browser must see its end
            os.close(descriptor)
        threading.Thread(target=_end_with_user, args=(browser,), daemon=True).start()
        code = browser.wait()
        _kill_group(browser.pid)
    except FileNotFoundError:
        print(f"{command[0]}: no such program", file=sys.stderr)
        code = 127
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        code = 126
    finally:
        _delete(profile)
    return code if code >= 0 else 128 - code


def _end_with_user(browser: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):
        pass
    try:
        browser.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        _kill_group(browser.pid)


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of them have ended
        os.killpg(leader, signal.SIGKILL)


def _delete(profile: str) -> None:
    end = time.monotonic() + _PATIENCE_S
    while os.path.lexists(profile) and time.monotonic() < end:
        shutil.rmtree(profile, ignore_errors=True)
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
