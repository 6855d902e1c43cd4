"""Where programs run: containers with a quota, nothing writable, closed streams, an ASCII locale; two at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from _trust.side import Done, Outcome, Side

GROUPS = Path("/sys/fs/cgroup")

READ_ONLY = r"""
mount --make-rprivate /
for m in $(awk '{print $5}' /proc/self/mountinfo | grep -v '^/proc\|^/sys\|^/dev$\|^/dev/pts' | sort -u); do
  mount -o remount,bind,ro "$m" 2>/dev/null
done
cd /
touch /tmp/probe-$$ 2>/dev/null && { rm -f /tmp/probe-$$; exit 99; }
exec "$@"
"""


def quota(side: Side) -> Outcome:
    """Half a core by CFS quota, as `docker run --cpus=0.5` gives."""
    bundle = side.bundle("tiny", "cpu-onnxruntime", "onnxruntime fp32")
    one = (GROUPS / "cpu").is_dir()
    group = (GROUPS / "cpu" if one else GROUPS) / f"edgekit-trust-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        return Outcome(f"not tried: no control group can be made here ({error.strerror})", None)
    try:
        if one:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text("50000")
        else:
            (group / "cpu.max").write_text("50000 100000")
        inside = ["sh", "-c", f'echo $$ > {group}/{"tasks" if one else "cgroup.procs"} && exec "$@"', "sh"]
        bench = side.shell([*inside, *side.command("bench", str(bundle), "--seconds", "2", "--processes", "1")])
        doctor = side.shell([*inside, *side.command("doctor")])
    except OSError as error:
        return Outcome(f"not tried: the control group takes no quota ({error.strerror})", None)
    finally:
        time.sleep(0.3)
        group.rmdir()
    told = ["quota" in (done.out + done.err).lower() for done in (bench, doctor)]
    text = ", ".join(
        f"{who} {'tells' if it else 'does not tell'} the quota"
        for who, it in zip(("bench", "doctor"), told, strict=True)
    )
    return Outcome(text if not bench.code else f"{text}; bench: {bench.said}", all(told) and bench.code == 0)


def read_only(side: Side) -> Outcome:
    """No writable folder at all, as in `docker run --read-only`: it works, or one clear line."""
    bundle = side.bundle("tiny", "cpu-onnxruntime", "onnxruntime fp32")
    jail = ["unshare", "-m", "bash", "-c", READ_ONLY, "bash"]
    probe = side.shell([*jail, "true"])
    if probe.code:
        return Outcome("not tried: no mount namespace can be made here", None)
    tried = {
        "run.py": [side.python, str(bundle / "run.py")],
        "bench": side.command("bench", str(bundle), "--seconds", "1", "--processes", "1"),
        "results": side.command("results", "list"),
        "export": side.command("export", str(side.folder / "nets.py") + ":tiny", "--target", "cpu-onnxruntime"),
    }
    return each({name: side.shell([*jail, *command]) for name, command in tried.items()}, must=("run.py",))


def closed_streams(side: Side) -> Outcome:
    """Standard input, output and error closed, one by one and together."""
    bundle = side.bundle("tiny", "cpu-onnxruntime", "onnxruntime fp32")
    command = side.command("bench", str(bundle), "--seconds", "1", "--processes", "1")
    closed = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-", "all": "<&- >&- 2>&-"}
    done = {name: side.shell(["bash", "-c", f'"$@" {how}', "bash", *command]) for name, how in closed.items()}
    return each(done, must=tuple(closed))


def ascii_locale(side: Side) -> Outcome:
    """LC_ALL=C without UTF-8 mode, a bundle in a folder whose name is not ASCII."""
    bundle = side.bundle("tiny", "cpu-onnxruntime", "onnxruntime fp32")
    place = side.folder / "größe 模" / "it.edgekit"
    shutil.copytree(bundle, place)
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = {
        "run.py": side.shell([side.python, str(place / "run.py")], plain),
        "bench": side.edgekit("bench", str(place), "--seconds", "1", "--processes", "1", extra=plain),
        "results": side.edgekit("results", "list", extra=plain),
        "pack": side.edgekit("bundle", "pack", str(place), "-o", str(side.folder / "ö.edgekit.zip"), extra=plain),
    }
    return each(done, must=tuple(done))


def each(done: dict[str, Done], must: tuple[str, ...]) -> Outcome:
    """Each works, or says in one line why not; those in ``must`` work."""
    ends = {}
    for name, item in done.items():
        ends[name] = "a traceback" if item.broke else "works" if item.code == 0 else f"exit {item.code}"
    right = all(end != "a traceback" for end in ends.values()) and all(ends[name] == "works" for name in must)
    return Outcome(", ".join(f"{name} {end}" for name, end in ends.items()), right)


def two_exports(side: Side) -> Outcome:
    """Two models are exported to one name at the same time, neither with --overwrite."""
    started = []
    for net in ("tiny", "pressure"):
        command = side.command(
            "export", f"nets.py:{net}", "--target", "cpu-onnxruntime", "--candidate", "onnxruntime fp32"
        )
        started.append(
            subprocess.Popen(
                [*command, "--max-time", "1", "--threads", "1", "-q", "-o", "same.edgekit"],
                cwd=side.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
        )  # fmt: skip
    codes = [process.wait() for process in started]
    kept = [path for path in side.folder.glob("*.edgekit*") if (path / "manifest.json").is_file()]
    inputs = {json.dumps(json.loads((path / "manifest.json").read_text())["inputs"]) for path in kept}
    text = f"exits {codes[0]} and {codes[1]}, {len(inputs)} of 2 models kept"
    return Outcome(text, sum(code == 0 for code in codes) == 1 and len(inputs) == 2)
