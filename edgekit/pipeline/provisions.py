"""What the end of an export will need, looked for before the work: a place for the bundle, and room on the disks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..bundle.write import refuse_destination
from ..errors import OutputError
from ..plain import readable
from ..sources.source import Source
from ..target.toolchain import Toolchain
from ..tempdir import temporary_folder, work_folder
from ..units import size

_BITS = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8, "int4": 4}
_FLOOR_BYTES = 300_000
"""Of a bundle without its model: the code that runs it."""


def refuse_output(destination: Path, overwrite: bool) -> None:
    """Refuse a place where the bundle could not be written at the end. It is tried: rights are more than a folder's.

    Raises:
        OutputError: it is taken, cannot be written to, or has a name that no engine can open.
    """
    refuse_destination(destination, overwrite)
    whole = os.fsencode(destination.absolute())
    try:
        whole.decode("utf-8")
    except UnicodeDecodeError as error:
        shown = readable(str(destination.absolute()))
        raise OutputError(
            f"the path '{shown}' is not UTF-8, and engines open no other", fix="Choose another place with -o."
        ) from error
    with work_folder(beside=destination):
        pass


def refuse_full_disks(destination: Path, source: Source, offered: Sequence[Toolchain]) -> None:
    """Refuse where even the least that will be written has no room: no estimate, so nothing that could work is refused.

    The least there is to write for P parameters: 4·P bytes of the graph in float32 among the temporary files (none for
    a .onnx, which may be smaller), and in the bundle P times the bits of the smallest candidate's precision, with the
    code that runs it. Both where it is one disk.

    Args:
        destination: the bundle's folder.
        source: the model.
        offered: the candidates.

    Raises:
        OutputError: names the folder, what is free there, and what is needed.
    """
    bits = min((_BITS.get(item.candidate.precision, 4) for item in offered), default=4)
    bundle_bytes = source.parameters * bits // 8 + _FLOOR_BYTES
    graph_bytes = 0 if source.kind == "onnx" else 4 * source.parameters
    needs = [(temporary_folder(), graph_bytes), (destination.absolute().parent, bundle_bytes)]
    one_disk = needs[0][0].stat().st_dev == needs[1][0].stat().st_dev
    together = sum(needed for _, needed in needs)
    for folder, own in needs:
        needed, free = together if one_disk else own, shutil.disk_usage(folder).free
        if free < needed:
            raise OutputError(
                f"'{folder}' has {size(free)} free, and this export writes at least {size(needed)} there",
                fix="Free some space, or choose another folder: -o for the bundle, TMPDIR for temporary files.",
            )
