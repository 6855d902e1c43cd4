"""How good a bundle's embeddings are, beside PyTorch's: ``python evaluate.py minilm.edgekit``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import data
import encoder
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from edgekit import open_bundle

Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class Quality:
    """What was found on the evaluation pairs."""

    cosine_mean: float  # between the bundle's and PyTorch's embedding of a sentence, over all sentences
    cosine_min: float
    spearman_pytorch: float  # rank correlation of embedding similarity with the pairs' graded scores
    spearman_bundle: float
    neighbour_agreement: float  # share of sentences whose most similar other sentence is the same one
    sentences: int
    pairs: int


def evaluate(bundle: Path) -> Quality:
    """Embed every evaluation sentence with PyTorch and with the bundle's own engine, and compare."""
    texts = data.sentences(data.pairs())
    reference, ours = embed_pytorch(texts), embed_bundle(bundle, texts)
    cosine = (reference * ours).sum(axis=1)
    return Quality(
        cosine_mean=float(cosine.mean()),
        cosine_min=float(cosine.min()),
        spearman_pytorch=ranking(texts, reference),
        spearman_bundle=ranking(texts, ours),
        neighbour_agreement=float((nearest(reference) == nearest(ours)).mean()),
        sentences=len(texts),
        pairs=len(data.pairs()),
    )


def embed_pytorch(texts: list[str]) -> Embeddings:
    """[n] sentences → [n, 384]."""
    model, _ = encoder.build()
    with torch.no_grad():
        rows = [model(**{name: torch.from_numpy(array) for name, array in data.feeds(text).items()}) for text in texts]
    return torch.cat(rows).numpy()


def embed_bundle(bundle: Path, texts: list[str]) -> Embeddings:
    """[n] sentences → [n, 384], each scaled to length 1 in case the engine's precision lost it."""
    session = open_bundle(bundle).session()
    try:
        rows = np.concatenate([next(iter(session.run(data.feeds(text)).values())) for text in texts])
    finally:
        session.close()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def ranking(texts: list[str], embeddings: Embeddings) -> float:
    """Spearman's rank correlation between the cosine of each pair and its graded score."""
    row = {text: index for index, text in enumerate(texts)}
    cosine = [embeddings[row[pair.first]] @ embeddings[row[pair.second]] for pair in data.pairs()]
    return float(spearmanr(cosine, [pair.score for pair in data.pairs()]).statistic)


def nearest(embeddings: Embeddings) -> NDArray[np.intp]:
    """For each row the index of the most similar other row."""
    similarity = embeddings @ embeddings.T
    np.fill_diagonal(similarity, -np.inf)
    return similarity.argmax(axis=1)


if __name__ == "__main__":
    print(json.dumps(asdict(evaluate(Path(sys.argv[1]))), indent=2))
