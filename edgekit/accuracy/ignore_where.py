"""``--ignore-where attention_mask=0`` → which outputs are not compared where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..contracts import TensorSpec
from ..errors import UsageError, suggestion
from ..measure.ignore import IgnoreWhere

if TYPE_CHECKING:
    from ..sources.source import Source

NONE = "none"
_USUAL = "attention_mask"


def ignore_rules(source: Source, texts: Sequence[str]) -> tuple[IgnoreWhere, ...]:
    """What the user states; of a Hugging Face model without a word, what ``attention_mask`` says is padding.

    Args:
        source: names inputs and outputs, with their shapes.
        texts: ``NAME=VALUE`` each; ``none`` alone: everything is compared.

    Raises:
        UsageError: not of that form, no such input, or no output has the mask's dimensions.
    """
    if not texts:
        mask = next((spec for spec in source.inputs if spec.name == _USUAL), None)
        if source.kind != "huggingface" or mask is None:
            return ()
        # [B, L] alone may as well be one number a class: there the names of dimensions must say that it is not.
        outputs = tuple(
            spec.name
            for spec in source.outputs
            if _follows(spec, mask) and (len(spec.shape) > len(mask.shape) or isinstance(mask.shape[-1], str))
        )
        return (IgnoreWhere(_USUAL, 0.0, outputs),) if outputs else ()
    return () if list(texts) == [NONE] else tuple(_rule(source, text) for text in texts)


def _rule(source: Source, text: str) -> IgnoreWhere:
    name, sign, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        sign = ""
        value = 0.0
    if not sign or not name:
        raise UsageError(
            f"--ignore-where '{text}' does not have the form NAME=VALUE",
            fix="For example: --ignore-where attention_mask=0",
        )
    mask = next((spec for spec in source.inputs if spec.name == name), None)
    if mask is None:
        raise UsageError(
            f"--ignore-where '{text}': {source.spec} has no input '{name}'",
            fix=suggestion(name, [spec.name for spec in source.inputs]),
        )
    outputs = tuple(spec.name for spec in source.outputs if mask.shape and _follows(spec, mask))
    if not outputs:
        shapes = ", ".join(f"'{spec}'" for spec in source.outputs)
        raise UsageError(f"--ignore-where '{text}': no output begins with the dimensions of '{mask}': {shapes}")
    return IgnoreWhere(name, value, outputs)


def _follows(output: TensorSpec, mask: TensorSpec) -> bool:
    return output.shape[: len(mask.shape)] == mask.shape


def ignore_note(rule: IgnoreWhere) -> str:
    """For the user: ``where attention_mask is 0, logits is not compared: nobody reads it there``."""
    names, verb = ", ".join(rule.outputs), "is" if len(rule.outputs) == 1 else "are"
    it = "it" if len(rule.outputs) == 1 else "them"
    return f"where {rule.input} is {rule.value:g}, {names} {verb} not compared: nobody reads {it} there"
