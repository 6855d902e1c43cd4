"""The whole job on a small real model and real data: what `edgekit demo` runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.contracts import Progress, Quiet
from edgekit.errors import EngineError, OutputError

if TYPE_CHECKING:
    from edgekit.results import ExportResult

MAX_DROP = 0.005  # half a percent of top-1
BUNDLE = "digits.edgekit"
COMMAND = (
    "edgekit export net.py:build --target cpu --data test.npz --calibration-data calibration.npz "
    f"--metric top1 --max-drop {MAX_DROP} -o {BUNDLE}"
)
"""What `run_demo` does after training, as a user would type it in the demo's folder."""

_CODE = ("net.py", "data.py")


def run_demo(directory: Path, *, progress: Progress | None = None, overwrite: bool = False) -> ExportResult:
    """Train the digits network (or load it, where an earlier demo did) and export it for this machine's CPU.

    ``directory`` is created. Afterwards it holds all that `COMMAND` needs to do the same again by hand: ``net.py``,
    ``weights.pt``, ``test.npz``, ``calibration.npz``, and what made them: ``data.py``, ``train.npz``. An earlier
    demo's bundle is replaced; any other file of these names only with ``overwrite``.

    Raises:
        OutputError: ``directory`` holds something else than an earlier demo, or cannot be written.
        EngineError: an installed package that the demo needs is missing.
        EdgekitError: as `edgekit.export`.
    """
    progress = progress or Quiet()
    _refuse_missing_packages()
    _copy_code(directory, overwrite)

    from edgekit.api.export import export
    from edgekit.examples.digits.data import write
    from edgekit.examples.digits.net import WEIGHTS, train

    with progress.stage("write the data"):
        write(directory)
    if not (directory / WEIGHTS).is_file():
        with progress.stage("train the network"):
            train(directory, progress.step)
    return export(
        f"{directory / 'net.py'}:build",
        target="cpu",
        output=directory / BUNDLE,
        data=str(directory / "test.npz"),
        calibration_data=str(directory / "calibration.npz"),
        metric="top1",
        max_drop=MAX_DROP,
        overwrite=True,
        progress=progress,
    )


def _refuse_missing_packages() -> None:
    from importlib.util import find_spec

    packages = {"torch": "torch", "sklearn": "scikit-learn"}
    missing = [package for module, package in packages.items() if not find_spec(module)]
    if missing:
        raise EngineError(
            f"the demo needs {' and '.join(missing)}, which is not installed", fix='pip install "edgekit[cpu]"'
        )


def _copy_code(directory: Path, overwrite: bool) -> None:
    """Put the model's and the data's code into the folder. A user's own or changed files are not touched unasked."""
    fix = "Choose another folder, or add --overwrite."
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()) and not (directory / _CODE[0]).is_file() and not overwrite:
            raise OutputError(f"'{directory}' holds other files than an earlier demo", fix=fix)
        for name in _CODE:
            shipped, copy = Path(__file__).with_name(name), directory / name
            if copy.is_file() and copy.read_bytes() == shipped.read_bytes():
                continue
            if copy.exists() and not overwrite:
                raise OutputError(f"'{copy}' was changed since the demo that wrote it", fix=fix)
            (directory / "weights.pt").unlink(missing_ok=True)  # trained by other code
            shutil.copyfile(shipped, copy)
    except OSError as error:
        raise OutputError(f"cannot write to '{error.filename or directory}': {error.strerror}") from error
