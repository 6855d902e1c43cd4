"""Speech and text recognisers: the word error rate, from token ids or from scores that CTC reads."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...contracts import Array, describe
from ...errors import DataError, EngineError, UsageError
from ...measure.metrics import Metric
from .options import Options


class WordErrorRate(Metric):
    """(substitutions + deletions + insertions) / words of the truth, over all samples; jiwer counts them.

    The output is token ids, [rows, steps] or [steps], or with ``blank=ID`` scores [rows, steps, tokens] of CTC: the
    highest token of each step, repeated ones once, blanks left out (``blank=last`` is the last token). Labels are
    texts, one a row, or token ids, filled up with negative numbers. Without labels the reference's own reading is the
    truth.

    Options: ``tokens=FILE``, a line a token, makes texts of ids (``▁`` is a space); without it each id is a word.
    ``blank=ID|last``, ``ignore=ID+ID`` (ids that are no text: padding, begin, end), ``unit=word|character``
    (characters: the character error rate). Texts are compared as they stand, letter case and punctuation included.
    """

    name = "wer"
    prefers_labels = True
    higher_is_better = False

    def __init__(self, output: str, options: Options) -> None:
        if importlib.util.find_spec("jiwer") is None:
            raise EngineError("metric 'wer' needs jiwer", fix="Install it: pip install jiwer")
        super().__init__(output)
        self._characters = options.choice("unit", ("word", "character"), "word") == "character"
        self._last_is_blank = options.text("blank") == "last"
        self._blank = None if self._last_is_blank else options.whole("blank", None, 0)
        ignored = options.text("ignore")
        if ignored and not all(item.isdigit() for item in ignored.split("+")):
            raise UsageError(f"metric '{options.metric}': ignore must be token ids joined by +, got '{ignored}'")
        self._ignored = {int(item) for item in ignored.split("+")} if ignored else set()
        path = options.text("tokens")
        self._tokens = _lines(path) if path else None
        if self._characters and self._tokens is None:
            raise UsageError(
                f"metric '{options.metric}': characters are of texts, and nothing says which text a token is",
                fix="Name the file that holds them, one per line (wer,unit=character,tokens=tokens.txt).",
            )

    def value(self) -> float:
        """The error rate; above 1 where more is inserted than is there.

        Raises:
            DataError: there were no samples, or the truth has no words.
        """
        if self.samples and not self.contributions()[:, 1].any():
            raise DataError(f"metric 'wer': the truth of {self.samples} samples has no words")
        return super().value()

    def _add(self, values: Array, label: Any, reference: Array) -> Sequence[float]:
        got = [self._text(row) for row in self._ids(values)]
        if label is None:
            want = [self._text(row) for row in self._ids(reference)]
        else:
            want = self._labels(np.asarray(label))
        if len(got) != len(want):
            raise DataError(
                f"metric 'wer': sample {self.samples} has {len(want)} labels for {len(got)} rows of {describe(values)}"
            )
        counts = [self._count(truth, found) for truth, found in zip(want, got, strict=True)]
        return sum(wrong for wrong, _ in counts), sum(words for _, words in counts)

    def _count(self, truth: str, found: str) -> tuple[int, int]:
        """Errors, and words (or characters) of the truth."""
        import jiwer

        read = jiwer.process_characters if self._characters else jiwer.process_words
        told = read(truth, found)
        wrong = told.substitutions + told.deletions + told.insertions
        return wrong, told.hits + told.substitutions + told.deletions

    def _ids(self, values: Array) -> list[NDArray[np.int64]]:
        """The token ids of each row."""
        if values.dtype.kind in "iu":
            return list(values.astype(np.int64).reshape(-1, values.shape[-1] if values.ndim else 1))
        if self._blank is None and not self._last_is_blank:
            raise UsageError(
                f"metric 'wer': output {describe(values)} is scores, and nothing says which token is CTC's blank",
                fix="State its id (wer,blank=0 or wer,blank=last).",
            )
        if values.ndim < 2:
            raise DataError(f"metric 'wer' needs scores [rows, steps, tokens], got {describe(values)}")
        blank = values.shape[-1] - 1 if self._blank is None else self._blank
        best = values.argmax(axis=-1).reshape(-1, values.shape[-2])
        return [row[(row != blank) & (np.diff(row, prepend=-1) != 0)] for row in best]

    def _text(self, ids: NDArray[np.int64]) -> str:
        kept = [int(item) for item in ids if item >= 0 and int(item) not in self._ignored]
        if self._tokens is None:
            return " ".join(map(str, kept))
        over = next((item for item in kept if item >= len(self._tokens)), None)
        if over is not None:
            raise DataError(f"metric 'wer': sample {self.samples} has token {over}, and there are {len(self._tokens)}")
        return "".join(self._tokens[item] for item in kept).replace("▁", " ").strip()

    def _labels(self, label: Array) -> list[str]:
        if label.dtype.kind == "U":
            return [str(item) for item in label.reshape(-1)]
        if label.dtype.kind not in "iu":
            raise DataError(f"metric 'wer' needs texts or token ids as labels, got {describe(label)}")
        return [self._text(row.astype(np.int64)) for row in label.reshape(-1, label.shape[-1] if label.ndim else 1)]


def _lines(path: str) -> list[str]:
    """The tokens of a file, one a line.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"metric 'wer': the tokens {path} cannot be read: {error}") from error
    return text.removesuffix("\n").split("\n")
