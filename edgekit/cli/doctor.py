"""``edgekit doctor``: what is installed, what each target still needs, how to get it."""

from __future__ import annotations

import click

from ..errors import UsageError
from .console import Console
from .options import define, target_option

EXAMPLE = """
edgekit doctor
edgekit doctor --target cpu && edgekit export net.py:build --target cpu
edgekit doctor --device ssh://pi@raspberrypi --target raspberry-pi-5
edgekit doctor --device browser
"""


@define("doctor", example=EXAMPLE)
@target_option(required=False)
@click.option("--device", metavar="URL", help="Look at that device: ssh://[user@]host[:port], adb://serial or browser.")
@click.option(
    "--install", "install_there", is_flag=True, help="With --device: install what is missing there, from this machine."
)
@click.option("--clean", is_flag=True, help="With --device: delete edgekit's cache there, installed packages too.")
def command(console: Console, target: str | None, device: str | None, install_there: bool, clean: bool) -> None:
    """What is installed, what each target still needs, and how to get it.

    With --target or --device, the exit code is 6 while something that is needed is missing.
    """
    if device is not None and device.partition(":")[0] == "browser":
        _browser(console, device, install_there, clean)
        return
    if device is not None and device != "local":
        _remote(console, device, target, install_there, clean)
        return
    if install_there or clean:
        raise UsageError("--install and --clean are about a remote device", fix="Name it: --device ssh://user@host")
    from ..api.doctor import examine
    from ..report.doctor import doctor_text

    with console.progress.stage("looking at the engines"):
        report = examine(target)
    console.show(report.to_json(), lambda: doctor_text(report, console.colour, console.width))
    missing = [] if target is None else [need for item in report.targets for need in item.needs]
    if missing:
        console.complain(f"target '{report.targets[0].name}' is not ready: {'; '.join(missing)}")
        raise click.exceptions.Exit(6)


def _browser(console: Console, url: str, install_there: bool, clean: bool) -> None:
    from ..devices.browser import BrowserDevice
    from ..report.device import browser_text

    if clean:
        raise UsageError("--clean is about a remote device: nothing stays in the browser")
    with console.progress.stage(f"looking at {url}"):
        report = BrowserDevice(url).examine(fetch=install_there)
    console.show(report.to_json(), lambda: browser_text(report, console.colour, console.width))


def _remote(console: Console, url: str, target: str | None, install_there: bool, clean: bool) -> None:
    from ..devices import remote_device
    from ..devices.examine import examine_device, install
    from ..report.device import device_text

    if install_there and clean:
        raise UsageError("--install and --clean cannot be used together", fix="Clean first, then install.")
    with remote_device(url) as device:
        if clean:
            with console.progress.stage(f"clean {url}"):
                root = device.clean()
            console.show({"schema": 1, "url": url, "deleted": root}, lambda: f"deleted {root} on {url}")
            return
        with console.progress.stage(f"looking at {url}"):
            report = examine_device(device, target)
        if install_there and report.missing:
            with console.progress.stage(f"installing on {url}"):
                install(device, report.packages)
                report = examine_device(device, target)
    console.show(report.to_json(), lambda: device_text(report, console.colour, console.width))
    if report.missing:
        problems = "; ".join(f"{part.name}: {part.problem}" for part in report.missing)
        console.complain(f"device '{url}' is not ready: {problems}")
        raise click.exceptions.Exit(6)
