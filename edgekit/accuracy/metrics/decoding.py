"""Boxes that are still on their grids: what the raw heads of YOLOX and YOLOv5 hold, in pixels.

A cell (i, j) of a grid of stride s, i to the right and j down, holds

    YOLOX    x = (x̂ + i) · s               y = (ŷ + j) · s               w, h = exp(ŵ) · s, exp(ĥ) · s
    YOLOv5   x = (2·σ(x̂) − ½ + i) · s      y = (2·σ(ŷ) − ½ + j) · s      w, h = (2·σ(ŵ))² · a, (2·σ(ĥ))² · b

with an anchor's width and height a and b in pixels, one box for each anchor. As in YOLOX's
`YOLOXHead.decode_outputs` and `demo_postprocess`, and in YOLOv5's `Detect.forward` (YOLOv7's raw heads are the same).
The cells of a grid stand row by row; of an output that joins all grids, that of the least stride comes first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...contracts import Array, describe
from ...errors import DataError, UsageError
from ...measure.metrics import as_float64
from .boxes import Floats
from .layout import Layout, probabilities
from .options import Options

STRIDES = (8, 16, 32)
ANCHORS = (10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326)
"""YOLOv5's of COCO at 640 pixels (`anchors_p5_640`): width and height, three a stride."""
LARGEST_LOG = 20.0
"""A box of exp(20) strides is larger than any picture: its sides are pixels already, or an engine's nonsense."""


@dataclass(frozen=True, slots=True)
class _Cells:
    """Where each candidate stands."""

    corner: Floats  # [candidates, 2]: i, j
    stride: Floats  # [candidates, 1], pixels
    anchor: Floats  # [candidates, 2], pixels


class Decoding:
    """``decode=yolox`` or ``decode=yolov5``, and what goes with it.

    Options: ``strides=8,16,32``; of YOLOv5 ``anchors=10,13,16,30,…``: width and height, for the strides in turn; of
    YOLOX ``size=416x640``: height and width of the image, where one output joins the grids of one that is not square.

    Args:
        options: the metric's.
        layout: what the columns hold; in one part of several outputs each is a grid: [images, columns, rows, cells], or
            of YOLOv5 [images, anchors, rows, cells, columns] as well.

    Raises:
        UsageError: an option is malformed, or the layout has no cxcywh.
    """

    def __init__(self, options: Options, layout: Layout, kind: str) -> None:
        self._spec, self._layout, self._kind = options.metric, layout, kind
        if layout.form != "cxcywh" or layout.names_class:
            raise UsageError(
                f"metric '{self._spec}': decode={kind} is of boxes as cxcywh, with scores of every class",
                fix=f"Like layout=cxcywh-objectness-scores,decode={kind}.",
            )
        self._strides = options.wholes("strides", STRIDES)
        if sorted(set(self._strides)) != self._strides:
            raise UsageError(f"metric '{self._spec}': strides must rise, got {_listed(self._strides)}")
        self._anchors: Floats = np.ones((len(self._strides), 1, 2))
        self._size: tuple[int, int] | None = None
        if kind == "yolov5":
            if len(layout.outputs) > 1:
                raise UsageError(
                    f"metric '{self._spec}': decode=yolov5 is of outputs that hold all columns each",
                    fix="Like layout=cxcywh-objectness-scores,decode=yolov5.",
                )
            anchors = options.wholes("anchors", ANCHORS)
            if len(anchors) % (2 * len(self._strides)):
                raise UsageError(
                    f"metric '{self._spec}': {len(anchors)} numbers of anchors are no pairs for {len(self._strides)} "
                    f"strides ({_listed(self._strides)})",
                    fix="State width and height of each anchor in pixels, those of the least stride first.",
                )
            self._anchors = np.array(anchors, np.float64).reshape(len(self._strides), -1, 2)
        elif text := options.text("size"):
            sides = text.split("x")
            if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
                raise UsageError(f"metric '{self._spec}': size must be like 416x640 (height, width), got '{text}'")
            self._size = (int(sides[0]), int(sides[1]))

    @property
    def is_logits(self) -> bool:
        """Whether the scores are to go through a sigmoid if nothing else is said."""
        return self._kind == "yolov5"

    @property
    def counts(self) -> set[int]:
        """How many outputs there may be: one a grid, or as many as the layout has parts."""
        parts = len(self._layout.outputs)
        return (
            {len(self._strides)} if self._kind == "yolov5" else {parts, len(self._strides)} if parts == 1 else {parts}
        )

    def outputs(self, first: Array) -> int:
        """How many of a model's outputs are read; its first tells grids from an output that joins them."""
        return max(self.counts) if np.ndim(first) > 3 else min(self.counts)

    def columns(self, outputs: Sequence[tuple[str, Array]], *, is_right: bool) -> dict[str, Floats]:
        """As `Layout.columns`, with the boxes in pixels.

        Args:
            outputs: names and arrays, `outputs` of them.
            is_right: they are the reference's, which holds no nonsense.

        Raises:
            DataError: the outputs do not have these columns, or are no such grids.
        """
        if len(outputs) != len(self._layout.outputs) or outputs[0][1].ndim > 3:
            joined, cells = self._join(outputs)
            found = self._layout.columns([("+".join(name for name, _ in outputs), joined)], columns_last=True)
        else:
            found = self._layout.columns(outputs)
            cells = self._cells(self._grids(found["box"].shape[1]))
        raw = found["box"]
        if self._kind == "yolov5":
            sigmoid = probabilities(raw, "sigmoid")
            centre, sides = 2 * sigmoid[..., :2] - 0.5, np.square(2 * sigmoid[..., 2:]) * cells.anchor
        else:
            if is_right and raw[..., 2:].max(initial=0.0) > LARGEST_LOG:
                raise DataError(
                    f"metric '{self._spec}': the logarithm of a box's side is {raw[..., 2:].max():.4g}, so the "
                    "boxes are in pixels already",
                    fix="Leave decode=yolox out, or correct the layout.",
                )
            centre, sides = raw[..., :2], np.exp(np.minimum(raw[..., 2:], LARGEST_LOG)) * cells.stride
        found["box"] = np.concatenate([(centre + cells.corner) * cells.stride, sides], axis=-1)
        return found

    def _join(self, outputs: Sequence[tuple[str, Array]]) -> tuple[Floats, _Cells]:
        """An output a grid → [images, candidates, columns], and where the candidates stand."""
        if len(outputs) != len(self._strides):
            raise DataError(
                f"metric '{self._spec}': {len(outputs)} outputs are no grids of the strides {_listed(self._strides)}"
            )
        grids = [self._grid(name, array) for name, array in outputs]
        grids.sort(key=lambda grid: -grid.shape[2] * grid.shape[3])  # the least stride has the most cells
        if len({(grid.shape[0], grid.shape[-1]) for grid in grids}) > 1 or not self._are_halved(grids):
            raise DataError(
                f"metric '{self._spec}': outputs {', '.join(describe(array) for _, array in outputs)} are no grids of "
                f"one picture with the strides {_listed(self._strides)}",
                fix="Name the raw heads alone, joined by +, and state strides= if they are others.",
            )
        cells = self._cells([(grid.shape[2], grid.shape[3]) for grid in grids])
        return np.concatenate([grid.reshape(len(grid), -1, grid.shape[-1]) for grid in grids], axis=1), cells

    def _grid(self, name: str, array: Array) -> Floats:
        """[images, anchors, rows, cells, columns]."""
        values, anchors = as_float64(array), self._anchors.shape[1]
        if values.ndim == 4 and values.shape[1] % anchors == 0:
            images, columns, rows, cells = values.shape
            return values.reshape(images, anchors, columns // anchors, rows, cells).transpose(0, 1, 3, 4, 2)
        if values.ndim == 5 and values.shape[1] == anchors and self._kind == "yolov5":
            return values
        forms = (
            "[images, columns, rows, cells]"
            if self._kind == "yolox"
            else (f"[images, {anchors}, rows, cells, columns] or [images, {anchors}·columns, rows, cells]")
        )
        raise DataError(
            f"metric '{self._spec}': output '{name}' is {describe(array)}, and decode={self._kind} needs {forms}"
        )

    def _are_halved(self, grids: Sequence[Floats]) -> bool:
        """Whether the grids are of one picture: rows and cells times stride agree, to a cell of the largest stride."""
        return all(
            np.ptp([grid.shape[axis] * stride for grid, stride in zip(grids, self._strides, strict=True)])
            <= self._strides[-1]
            for axis in (2, 3)
        )

    def _grids(self, candidates: int) -> list[tuple[int, int]]:
        """Rows and cells of each stride, of an output that joins them."""
        size = self._size
        if size is None:
            side = round(math.sqrt(candidates / sum(1 / stride**2 for stride in self._strides)))
            size = (side, side)
        grids = [(size[0] // stride, size[1] // stride) for stride in self._strides]
        if sum(rows * cells for rows, cells in grids) != candidates:
            told = f"an image of {size[0]}x{size[1]}" if self._size else "a square image"
            raise DataError(
                f"metric '{self._spec}': {candidates} candidates are not those of {told} with the strides "
                f"{_listed(self._strides)}",
                fix="State height and width of the image as size=416x640, and strides= if they are others.",
            )
        return grids

    def _cells(self, grids: Sequence[tuple[int, int]]) -> _Cells:
        corner, stride, anchor = [], [], []
        for (rows, cells), step, sizes in zip(grids, self._strides, self._anchors, strict=True):
            j, i = np.mgrid[:rows, :cells]
            for size in sizes:
                corner.append(np.stack([i.ravel(), j.ravel()], axis=1))
                stride.append(np.full((rows * cells, 1), step))
                anchor.append(np.tile(size, (rows * cells, 1)))
        return _Cells(*(np.concatenate(item).astype(np.float64) for item in (corner, stride, anchor)))


def decoding(options: Options, layout: Layout) -> Decoding | None:
    """What ``decode=`` states; None: the boxes are decoded already.

    Raises:
        UsageError: as `Decoding`, or the word is not known.
    """
    kind = options.choice("decode", ("none", "yolox", "yolov5"), "none")
    return None if kind == "none" else Decoding(options, layout, kind)


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
