"""enter.py ROOT COMMAND…: run an ARM64 program in the folder ROOT as in a machine of its own.

User, mount and process namespaces of its own, with a binfmt_misc of its own that starts qemu for ARM64 programs:
nothing is registered with this machine's kernel, and killing this process takes everything in there down, like a power
cut. ``CPUINFO`` names the file that is /proc/cpuinfo in there; ``QEMU_CPU`` the model that qemu emulates. Needs root
and Linux >= 6.7.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

QEMU = "/usr/bin/qemu-aarch64-static"
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG = 1
IDS = 65536

# The first 20 bytes of an ARM64 program (ELF, 64 bit, little-endian, machine 183), and which of their bits count.
MAGIC = r"\x7fELF\x02\x01\x01" + r"\x00" * 9 + r"\x02\x00\xb7\x00"
MASK = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    words = [None if word is None else word.encode() for word in (source, target, kind, data)]
    check(libc.mount(words[0], words[1], words[2], flags, words[3]), f"mount {target}")


def die_with_parent() -> None:
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(root: str, command: list[str]) -> None:
    ready, mapped = os.pipe(), os.pipe()
    child = os.fork()
    if child:
        os.read(ready[0], 1)
        for kind in ("uid", "gid"):
            Path(f"/proc/{child}/{kind}_map").write_text(f"0 0 {IDS}\n")
        os.write(mapped[1], b".")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os.kill(child, signal.SIGKILL))
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
    die_with_parent()
    check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID), "unshare")
    os.write(ready[1], b".")
    os.read(mapped[0], 1)
    os.setgid(0)
    os.setuid(0)
    die_with_parent()  # changing the user forgets it
    first = os.fork()  # process 1 of the new namespace
    if first:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) & 255)
    die_with_parent()
    furnish(root)
    environment = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
    environment |= {key: os.environ[key] for key in ("QEMU_CPU",) if key in os.environ}
    os.chroot(root)
    os.chdir("/")
    os.execvpe(command[0], command, environment)


def furnish(root: str) -> None:
    """Mount what a running system has."""
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("proc", "/proc", "proc")
    mount("binfmt_misc", "/proc/sys/fs/binfmt_misc", "binfmt_misc")
    # F: the interpreter is opened now, so it need not exist in there.
    Path("/proc/sys/fs/binfmt_misc/register").write_text(f":qemu-aarch64:M::{MAGIC}:{MASK}:{QEMU}:F")
    mount("proc", f"{root}/proc", "proc")
    if "CPUINFO" in os.environ:
        mount(os.environ["CPUINFO"], f"{root}/proc/cpuinfo", None, MS_BIND)
    mount("/sys", f"{root}/sys", None, MS_BIND | MS_REC)
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        Path(root, "dev", name).touch()
        mount(f"/dev/{name}", f"{root}/dev/{name}", None, MS_BIND)
    mount("tmpfs", f"{root}/dev/shm", "tmpfs")
    mount("devpts", f"{root}/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=620,gid=5")
    if not os.path.lexists(f"{root}/dev/ptmx"):
        Path(root, "dev/ptmx").symlink_to("pts/ptmx")


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()), sys.argv[2:])
