"""The whole way to an ARM64 device over ssh, and every way to lose it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import Bundle
from edgekit.contracts import Quiet
from edgekit.devices import remote_device
from edgekit.devices._address import parse
from edgekit.devices.remote import RemoteDevice
from edgekit.devices.ssh import SshTransport
from edgekit.errors import EngineError

NET = """
import torch

def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(16 * 12 * 12, 5),
    ), torch.randn(1, 3, 16, 16)
"""

KILL_WORKER = """
import os, pathlib
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    words = (folder / "cmdline").read_bytes().split(b"\\0")
    if words[-3:-1] == [b"run.py", b"worker"] and not any(word.endswith(b"timeout") for word in words):
        os.kill(int(folder.name), 9)
"""

Start = Callable[[str], Any]
Use = Callable[[Path], None]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quantized bundle for cpu-arm64, exported on this machine."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "net.py").write_text(NET)
    np.savez(folder / "images.npz", input=np.random.default_rng(0).standard_normal((16, 3, 16, 16)).astype("f"))
    command = [sys.executable, "-m", "edgekit", "export", "net.py:build", "--target", "cpu-arm64", "--json"]
    done = subprocess.run([*command, "--data", "images.npz"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["chosen"] == "onnxruntime int8 static"
    return folder / "build.edgekit"


@pytest.fixture
def device(arm64_device: Start, ssh_config: Use) -> Any:
    found = arm64_device("cortex-a76")
    ssh_config(found.config)
    return found


@pytest.fixture
def remote(device: Any) -> Iterator[RemoteDevice]:
    with remote_device(device.url) as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ["max", "cortex-a76", "cortex-a53"])
def test_bench_on_three_cpus(
    cpu: str, arm64_device: Start, ssh_config: Use, exported: Path, holds_schema: Callable[[str, Any], None]
) -> None:
    device = arm64_device(cpu)
    ssh_config(device.config)
    command = [sys.executable, "-m", "edgekit", "bench", str(exported), "--device", device.url, "--json"]
    done = subprocess.run(
        [*command, "--seconds", "0.5", "--processes", "2"], cwd=exported.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    holds_schema("bench", result)
    assert result["device"]["machine"] == "aarch64"
    assert result["device"]["url"] == device.url
    assert result["device"]["emulated"] == "qemu-aarch64"
    assert result["latency"]["processes"] == 2
    assert result["latency"]["n"] > 0
    assert result["placement"].keys() == {"CPU"}
    # No number of an emulated device may pass for one.
    assert result["verdict"] != "steady"
    assert any("emulated" in reason for reason in result["reasons"])
    assert device.runs() == []
    assert len(list((device.cache / "blobs").iterdir())) > 5


@pytest.mark.slow
def test_only_what_changed_is_sent(device: Any, remote: RemoteDevice, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_bytes(os.urandom(3_000_000))
    (folder / "deep/b").write_bytes(b"")
    sent: list[tuple[int, int]] = []
    first = remote.session.push(folder, lambda done, total: sent.append((done, total)))
    assert sent[-1] == (3_000_000, 3_000_000)
    there = device.root / first.lstrip("/")
    assert (there / "a").read_bytes() == (folder / "a").read_bytes()
    assert (there / "deep/b").read_bytes() == b""
    sent.clear()
    (folder / "deep/b").write_bytes(b"new")
    remote.session.push(folder, lambda done, total: sent.append((done, total)))
    assert sent == [(3, 3)]
    # A file that rotted on the device's card is noticed and sent again.
    sent.clear()
    (there / "a").write_bytes(b"rot")  # a hard link into the cache
    again = remote.session.push(folder, lambda done, total: sent.append((done, total)))
    assert sent[-1] == (3_000_000, 3_000_000)
    assert (device.root / again.lstrip("/") / "a").read_bytes() == (folder / "a").read_bytes()
    remote.close()
    assert device.runs() == []


@pytest.mark.slow
def test_clean_leaves_nothing(device: Any, remote: RemoteDevice, make_bundle: Callable[..., Bundle]) -> None:
    remote.push(make_bundle(), Quiet())
    with (
        remote_device(device.url) as other,
        pytest.raises(EngineError, match=r"another session is using the device's cache /root/\.cache/edgekit"),
    ):
        other.clean()
    remote.clean()
    assert not device.cache.exists()


@pytest.mark.slow
def test_a_killed_host_leaves_the_device_clean(device: Any, make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    script = (
        "import sys, time\nfrom edgekit.bundle import open_bundle\nfrom edgekit.contracts import Quiet\n"
        "from edgekit.devices import remote_device\n"
        f"bundle = open_bundle({str(bundle.folder)!r})\nremote = remote_device({device.url!r})\n"
        "remote.push(bundle, Quiet())\nprint('pushed', flush=True)\ntime.sleep(60)\n"
    )
    host = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert host.stdout is not None
    assert host.stdout.readline() == b"pushed\n"
    assert len(device.runs()) == 1
    host.kill()
    host.wait()
    host.stdout.close()
    _wait_until(lambda: device.runs() == [])


@pytest.mark.slow
def test_a_power_cut_while_measuring(device: Any, make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    feeds = [inputs for inputs, _ in bundle.golden()]
    cut = threading.Timer(1.0, device.power_off)
    try:
        with remote_device(device.url) as remote:
            remote.push(bundle, Quiet())
            with remote.open(bundle.artifact, "onnxruntime", {"threads": 1}, feeds) as worker:
                cut.start()
                with pytest.raises(EngineError, match=r"the connection was lost") as caught:
                    worker.measure(30.0)
        assert device.url in str(caught.value)
        assert "Did it reboot" in str(caught.value)
    finally:
        if cut.is_alive():  # the connection is lost before the last of the device's processes has ended
            cut.join()
        device.start()
    with remote_device(device.url) as remote:  # what the crash left behind goes with the next session
        assert remote.describe()["machine"] == "aarch64"
        assert len(device.runs()) == 1
    assert device.runs() == []


@pytest.mark.slow
def test_a_killed_worker(device: Any, remote: RemoteDevice, make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    feeds = [inputs for inputs, _ in bundle.golden()]
    remote.push(bundle, Quiet())
    with remote.open(bundle.artifact, "onnxruntime", {"threads": 1}, feeds) as worker:
        values = {"argv": [remote.session.python, "-c", KILL_WORKER], "cwd": "/", "env": {}, "timeout_s": 60}
        killer = threading.Timer(1.0, lambda: remote.session.ask("execute", values))
        killer.start()
        with pytest.raises(EngineError, match=r"killed by SIGKILL: the process of runtime 'onnxruntime' was asked to"):
            worker.measure(30.0)
        killer.join()  # its answer comes over the session that ends next


@pytest.mark.slow
def test_what_runs_there_has_a_time_limit(device: Any, make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    feeds = [inputs for inputs, _ in bundle.golden()]
    with RemoteDevice(SshTransport(parse(device.url)), limit_s=12) as remote:
        remote.push(bundle, Quiet())
        with (
            remote.open(bundle.artifact, "onnxruntime", {"threads": 1}, feeds) as worker,
            pytest.raises(EngineError, match=r"ended after its time limit of 12 s"),
        ):
            worker.measure(60.0)


@pytest.mark.slow
def test_an_engine_that_is_not_there(remote: RemoteDevice, make_bundle: Callable[..., Bundle]) -> None:
    import edgekit.runtimes.openvino as adapter
    from edgekit.bundle import EngineUse

    use = EngineUse("openvino", "1", {"threads": 1}, "pip install openvino")
    bundle = make_bundle(changes={"runtime": use}, runtime_module_file=Path(str(adapter.__file__)))
    remote.push(bundle, Quiet())
    with pytest.raises(EngineError, match=r"openvino is not installed. Install it: pip install openvino"):
        remote.open(bundle.artifact, "openvino", {"threads": 1})


@pytest.mark.slow
def test_a_full_disk(device: Any, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(2_000_000))
    _system(device, "mount(b'tmpfs', b'/root/.cache', b'tmpfs', 0, b'size=1m')")
    try:
        with (
            remote_device(device.url) as remote,
            pytest.raises(EngineError, match=r"no space left on the device: /root/\.cache/edgekit has 1\.0 MB free"),
        ):
            remote.session.push(tmp_path)
    finally:
        _system(device, "umount2(b'/root/.cache', 2)")  # 2: MNT_DETACH, as this session's own lock lies in there


@pytest.mark.slow
def test_python_can_be_named(device: Any) -> None:
    with remote_device(f"{device.url}?python=/usr/bin/python3.11") as remote:
        assert remote.session.python == "/usr/bin/python3.11"
    with (
        pytest.raises(EngineError, match=r"'/opt/none/python' is not Python 3\.10 or later. Name one as in ssh://"),
        remote_device(f"{device.url}?python=/opt/none/python") as remote,
    ):
        remote.describe()


@pytest.mark.slow
def test_a_shell_that_talks(device: Any) -> None:
    startup = device.root / "root/.bashrc"
    startup.write_text("echo Welcome to the gateway\n")
    try:
        with (
            pytest.raises(EngineError, match=r"its shell prints text when it starts(.|\n)*Welcome to the gateway"),
            remote_device(device.url) as remote,
        ):
            remote.describe()
    finally:
        startup.unlink()


@pytest.mark.slow
def test_a_changed_host_key(device: Any, ssh_config: Use, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    _connect_with(device, ssh_config, tmp_path, f"[127.0.0.1]:{device.port} {other.with_suffix('.pub').read_text()}")
    with pytest.raises(EngineError, match=r"its host key has changed(.|\n)*ssh-keygen -R"):
        remote_device(device.url).describe()


@pytest.mark.slow
def test_an_unknown_host_key(device: Any, ssh_config: Use, tmp_path: Path) -> None:
    _connect_with(device, ssh_config, tmp_path, "")
    with pytest.raises(EngineError, match=r"its host key is not known here(.|\n)*Connect once by hand"):
        remote_device(device.url).describe()


@pytest.mark.slow
def test_no_permission(device: Any, ssh_config: Use, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    config = tmp_path / "config"
    text = device.config.read_text().splitlines()
    config.write_text("\n".join(f"  IdentityFile {key}" if "IdentityFile" in line else line for line in text) + "\n")
    ssh_config(config)
    with pytest.raises(EngineError, match=r"permission denied(.|\n)*ssh-copy-id -p \d+ root@127\.0\.0\.1"):
        remote_device(device.url).describe()


def test_nothing_listens() -> None:
    with pytest.raises(EngineError, match=r"connection refused(.|\n)*Is sshd running there") as caught:
        remote_device("ssh://root@127.0.0.1:1").describe()
    assert caught.value.exit_code == 6


def test_no_such_host() -> None:
    with pytest.raises(EngineError, match=r"there is no host by that name"):
        remote_device("ssh://no-such-host.invalid").describe()


def test_no_ssh_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"'ssh' is not installed here. Install it: sudo apt-get install openssh-cl"):
        remote_device("ssh://pi@device").describe()


def _system(device: Any, call: str) -> None:
    """Make a call to the device's C library, in a folder that lies outside of its cache."""
    with remote_device(device.url) as remote:
        argv = [remote.session.python, "-c", f"import ctypes, sys; sys.exit(ctypes.CDLL(None).{call})"]
        done = remote.session.ask("execute", {"argv": argv, "cwd": "/", "env": {}, "timeout_s": 60})
        assert done["code"] == 0, done


def _connect_with(device: Any, ssh_config: Use, folder: Path, known: str) -> None:
    (folder / "known_hosts").write_text(known)
    config = folder / "config"
    lines = [line for line in device.config.read_text().splitlines() if "UserKnownHostsFile" not in line]
    config.write_text("\n".join([*lines, f"  UserKnownHostsFile {folder / 'known_hosts'}"]) + "\n")
    ssh_config(config)


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
