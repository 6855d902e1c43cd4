"""An ARM64 device on this machine: Debian run by qemu in namespaces of its own, with sshd on a port of 127.0.0.1.

Its latencies mean nothing; its numbers, kernels, packaging and transport are real.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "arm64"
TOOLS = {
    "qemu-aarch64-static": "qemu-user-static",
    "mmdebstrap": "mmdebstrap",
    "zstd": "zstd",
    "ssh": "openssh-client",
}
INSTALL = f"apt-get install -y {' '.join(TOOLS.values())}"

# qemu's CPU model → the features that Linux lists for it. ONNX Runtime picks its kernels by these; it would die of an
# illegal instruction if they named one that the model lacks.
_BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_A76 = f"{_BASE} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
CPUS = {
    "max": (f"{_A76} jscvt fcma sha3 sha512 asimdfhm i8mm bf16", "0xd0b"),  # int8 by smmla
    "cortex-a76": (_A76, "0xd0b"),  # int8 by sdot
    "cortex-a53": (_BASE, "0xd03"),  # int8 by smlal
}


@dataclass
class Arm64Device:
    """A device that can be cut off and come back."""

    cpu: str
    root: Path
    port: int
    config: Path  # ssh's, with the key and the host keys known
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ssh://root@127.0.0.1:{self.port}"

    @property
    def cache(self) -> Path:
        return self.root / "root/.cache/edgekit"

    def runs(self) -> list[Path]:
        """What sessions have left there."""
        folder = self.cache / "runs"
        return list(folder.iterdir()) if folder.is_dir() else []

    def start(self) -> None:
        features, part = CPUS[self.cpu]
        cpuinfo = self.root.parent / "cpuinfo"
        core = (
            f"BogoMIPS\t: 100.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
            f"CPU variant\t: 0x1\nCPU part\t: {part}\nCPU revision\t: 0\n\n"
        )
        cpuinfo.write_text("".join(f"processor\t: {number}\n{core}" for number in range(os.cpu_count() or 1)))
        log = (self.root.parent / "sshd.log").open("ab")
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(HERE / "enter.py"),
                str(self.root),
                "/usr/sbin/sshd",
                "-D",
                "-e",
                "-f",
                "/etc/ssh/device",
            ],
            env={**os.environ, "QEMU_CPU": self.cpu, "CPUINFO": str(cpuinfo)},
            stdout=log,
            stderr=log,
        )
        log.close()
        end = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.root.parent / "sshd.log").read_text())
            time.sleep(0.1)

    def power_off(self) -> None:
        """Everything on the device ends at once."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)  # which kills process 1 in there
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def arm64_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Arm64Device]]:
    """Starts the device with one of `CPUS`; a second call in one run returns the same device."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: {INSTALL}")
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("building an ARM64 device needs root on Linux: sudo pytest")
    folder = tmp_path_factory.mktemp("arm64")
    cache = Path(os.environ.get("EDGEKIT_TEST_CACHE", folder)) / "arm64-device.tar.zst"
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    started: dict[str, Arm64Device] = {}

    def start(cpu: str) -> Arm64Device:
        if cpu not in started:
            started[cpu] = _build(cpu, folder / cpu, cache, key)
            started[cpu].start()
        return started[cpu]

    yield start
    for device in started.values():
        device.power_off()
        shutil.rmtree(device.root, ignore_errors=True)


@pytest.fixture
def ssh_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path], None]:
    """Makes ssh read this configuration file instead of the user's."""

    def use(config: Path) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        wrapper = folder / "ssh"
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh", path="/usr/bin:/bin")} -F {config} "$@"\n')
        wrapper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return use


def _build(cpu: str, folder: Path, cache: Path, key: Path) -> Arm64Device:
    root = folder / "root"
    folder.mkdir()
    environment = {**os.environ, "PIP": f"{sys.executable} -m pip"}
    with cache.with_suffix(".lock").open("w") as lock:  # another of pytest-xdist's processes may want it too
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([str(HERE / "rootfs.sh"), str(root), str(cache)], check=True, env=environment)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host_key = root / "etc/ssh/host_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host_key)], check=True)
    # sshd does not pass its environment on.
    (root / "etc/ssh/device").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey /etc/ssh/host_key\nPermitRootLogin prohibit-password\n"
        f"PasswordAuthentication no\nUsePAM no\nPidFile none\nSetEnv PYTHONPATH=/opt/engine QEMU_CPU={cpu}\n"
    )
    (root / "dev/shm").mkdir(parents=True, exist_ok=True)
    (root / "dev/pts").mkdir(exist_ok=True)
    (root / "root/.ssh").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(key.with_suffix(".pub"), root / "root/.ssh/authorized_keys")
    for path, mode in (
        (root / "root", 0o700),
        (root / "root/.ssh", 0o700),
        (root / "root/.ssh/authorized_keys", 0o600),
    ):
        path.chmod(mode)
    known = folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {host_key.with_suffix('.pub').read_text()}")
    config = folder / "ssh_config"
    config.write_text(f"Host *\n  IdentityFile {key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n")
    return Arm64Device(cpu, root, port, config)
