"""Detectors: boxes and scores from outputs of a stated layout, beside the reference's or the labelled ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...contracts import Array, Outputs
from ...errors import DataError, UsageError
from ...measure.metrics import Metric
from .boxes import Detections, Floats, matches, suppress, to_xyxy, with_area
from .decoding import decoding
from .layout import Layout, probabilities
from .options import Options

_CONSIDERED = 10_000
"""Candidates of an image that suppression looks at, the best first: a third of Ultralytics' 30,000."""


class BoxMetric(Metric):
    """Compares boxes.

    Options: ``layout=…`` (see `layout`); ``decode=none|yolox|yolov5`` of raw heads (see `decoding`);
    ``activation=none|sigmoid|softmax`` of the scores and the objectness;
    ``background=none|first|last``: the column of scores that is no class (SSD's first, DETR's last);
    ``confidence=X``: the least score; ``nms=X|none``: the intersection over union above which the lesser box of a class
    goes, by default none where the layout holds class numbers, which come after suppression; ``top=N`` boxes an image.
    """

    every_class = False  # whether a box counts once for each class with a score, or for the best one

    def __init__(self, output: str, options: Options, *, confidence: float, nms: float) -> None:
        super().__init__(output)
        spec = options.metric
        self._layout = Layout(spec, options.text("layout"))
        self._decoding = decoding(options, self._layout)
        self._outputs = output.split("+") if output else []
        parts = len(self._layout.outputs)
        allowed = {parts} if self._decoding is None else self._decoding.counts
        if self._outputs and len(self._outputs) not in allowed:
            raise UsageError(
                f"metric '{spec}' names {len(self._outputs)} outputs, and its layout '{self._layout.text}' is of "
                f"{' or '.join(map(str, sorted(allowed)))}",
                fix="Join outputs by + as in the layout (detections:boxes+scores,layout=xyxy+scores).",
            )
        raw = self._decoding is not None and self._decoding.is_logits
        self._activation = options.choice("activation", ("none", "sigmoid", "softmax"), "sigmoid" if raw else "none")
        self._background = options.choice("background", ("none", "first", "last"), "none")
        self._confidence = options.real("confidence", confidence, 0, 1)
        self._top = options.whole("top", None, 1) or 300
        if options.text("nms") == "none" or (not options.text("nms") and self._layout.names_class):
            self._nms = 1.0
        else:
            self._nms = options.real("nms", nms, 0, 1)
        self._best = 0.0  # the highest score that the truth's side gave

    def add(self, outputs: Outputs, label: Any = None, reference: Outputs | None = None) -> None:
        """See `Metric.add`."""
        self._require(label, reference)
        found = self._found(outputs, is_right=reference is None or reference is outputs)
        wanted = found if reference is outputs else None
        if reference is not None and wanted is None and self.needs_reference:
            wanted = self._found(reference, is_right=True)
        self._keep(self._compare(found, label, wanted))

    @abstractmethod
    def _compare(self, found: Sequence[Detections], label: Any, wanted: Sequence[Detections] | None) -> Sequence[float]:
        """The numbers of one sample, from what was found in each of its images."""

    def _add(self, values: Array, label: Any, reference: Array) -> Sequence[float]:
        raise NotImplementedError  # `add` is overridden: it looks at several outputs

    def _found(self, outputs: Outputs, *, is_right: bool) -> list[Detections]:
        """The detections in each image of a sample."""
        count = len(self._layout.outputs)
        if self._decoding is not None and outputs:
            count = self._decoding.outputs(next(iter(outputs.values())))
        names = self._outputs or list(outputs)[:count]
        if not self._outputs and len(names) < count:
            raise UsageError(
                f"metric '{self.name}': layout '{self._layout.text}' is of {count} outputs, and the model has "
                f"{len(names)}"
            )
        named = [(name, self._named(outputs, name)) for name in names]
        if self._decoding is None:
            columns = self._layout.columns(named)
        else:
            columns = self._decoding.columns(named, is_right=is_right)
        kind = "scores" if "scores" in columns else "score"
        scores = probabilities(columns[kind], self._activation)
        if is_right:
            self._refuse_other_scores(columns[kind], scores)
        if self._background != "none":
            scores = scores[..., 1:] if self._background == "first" else scores[..., :-1]
        if "objectness" in columns:
            scores = scores * probabilities(
                columns["objectness"], "sigmoid" if self._activation != "none" else self._activation
            )
        if is_right:
            self._best = max(self._best, float(scores.max(initial=0.0)))
        boxes = to_xyxy(columns["box"], self._layout.form)
        classes = columns.get("class")
        return [
            self._of_image(boxes[image], scores[image], None if classes is None else classes[image, :, 0])
            for image in range(len(boxes))
        ]

    def _of_image(self, boxes: Floats, scores: Floats, classes: Floats | None) -> Detections:
        """Boxes [n, 4] with scores [n, classes], or [n, 1] of stated classes → those that stay."""
        if self.every_class or scores.shape[1] == 1:
            rows, kinds = np.nonzero(scores >= self._confidence)
        else:
            kinds = scores.argmax(axis=1)
            rows = np.flatnonzero(scores[np.arange(len(scores)), kinds] >= self._confidence)
            kinds = kinds[rows]
        kept = scores[rows, kinds]
        if classes is not None:
            kinds = np.rint(classes[rows]).astype(np.int64)
            there = kinds >= 0  # -1 fills rows up
            rows, kept, kinds = rows[there], kept[there], kinds[there]
        best = np.argsort(-kept, kind="stable")[:_CONSIDERED]
        return suppress(Detections(boxes[rows[best]], kept[best], kinds[best]), self._nms, self._top)

    def _refuse_other_scores(self, raw: Floats, scores: Floats) -> None:
        """Raise DataError where the scores are no probabilities, or were some before the activation."""
        low, high = float(raw.min(initial=0.0)), float(raw.max(initial=0.0))
        if self._activation != "none" and low >= 0 and high <= 1 and raw.size > 1:
            raise DataError(
                f"metric '{self.name}': the scores of sample {self.samples} run from {low:.4g} to {high:.4g} before "
                f"the {self._activation}, which is for logits",
                fix=f"Leave activation={self._activation} out, or correct the layout '{self._layout.text}'.",
            )
        if scores.min(initial=0.0) < -0.01 or scores.max(initial=0.0) > 1.01:
            raise DataError(
                f"metric '{self.name}': the scores of sample {self.samples} run from {low:.4g} to {high:.4g}, and "
                f"probabilities from 0 to 1 are needed (layout '{self._layout.text}')",
                fix="Of logits state activation=sigmoid or activation=softmax; else correct the layout.",
            )


class DetectionsKept(BoxMetric):
    """How the detections agree with the reference's, without labels: 2 M / (R + E).

    R boxes of the reference and E of the engine stay above the confidence after suppression; M of them meet: the same
    class, and an intersection over union of ``iou`` (0.5) at least, one to one, the engine's best first. So it is the
    F1 of the engine's detections with the reference's as truth; 1 where all are kept and none is false. `details` has
    both sides: ``kept`` is M / R, ``false`` 1 − M / E. A box without an area meets none, not even itself, and nobody
    sees it: it does not count.
    """

    name = "detections"
    needs_reference = True
    of_reference = 1.0

    def __init__(self, output: str, options: Options) -> None:
        super().__init__(output, options, confidence=0.25, nms=0.45)
        self._iou = options.real("iou", 0.5, 0, 1)

    def value(self) -> float:
        """The F1.

        Raises:
            DataError: there were no samples, or the reference finds nothing in them.
        """
        if self.samples and not self.contributions()[:, 1].any():
            raise DataError(
                f"metric 'detections': the reference finds nothing in {self.samples} samples: its highest score is "
                f"{self._best:.3g}, and {self._confidence:g} counts",
                fix="Give images that hold something, or state a lower confidence=, or correct the layout.",
            )
        return super().value()

    def details(self) -> dict[str, float]:
        """The share of the reference's that are kept, the share of the engine's that are false, and their numbers."""
        met, wanted, found = self.contributions().sum(axis=0).tolist()
        return {
            "kept": met / wanted,
            "false": 1 - met / found if found else 0.0,
            "wanted_count": wanted,
            "found_count": found,
        }

    def of_sums(self, sums: Floats) -> Floats:
        """From boxes that met, the reference's, the engine's: [..., 3]."""
        return np.asarray(2 * sums[..., 0] / (sums[..., 1] + sums[..., 2]))

    def _compare(self, found: Sequence[Detections], label: Any, wanted: Sequence[Detections] | None) -> Sequence[float]:
        assert wanted is not None, "`_require` saw to it"
        if len(found) != len(wanted):
            raise DataError(
                f"metric 'detections': the engine's outputs of sample {self.samples} are of {len(found)} images, the "
                f"reference's of {len(wanted)}"
            )
        found, wanted = ([with_area(item) for item in side] for side in (found, wanted))
        met = sum(matches(ours, theirs, self._iou) for ours, theirs in zip(found, wanted, strict=True))
        return met, sum(len(item.scores) for item in wanted), sum(len(item.scores) for item in found)
