"""What goes from one run to the next: pairs of an output and the input that it becomes, as named or as found.

A pair is found where dtype and shape are the same and the names say so. A name is read as words
(``past_key_values.0.key``: past, 0, key); words that tell a direction in time (``past`` and ``present``, ``prev`` and
``next``, ``h0`` and ``hn``) are set aside, and the rest must be equal: ``past_key_0`` and ``present_key_0``, ``state``
and ``stateN``. ``in`` and ``out`` alone are no such words: ``image_in`` and ``image_out`` are a picture and a better
one, unless the rest is a word for memory: ``cache_in`` and ``cache_out``. The second and later outputs of a
``forward`` that gives them no names (``output_1``) are found by their shape alone, for inputs that are called
``state``, ``h``, ``cache``, …, where no other output could be meant. ``hidden_states`` is what Hugging Face calls a
layer's input: no memory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ..contracts import StatePair, TensorSpec
from ..errors import UsageError, suggestion
from .source import Source

NONE = "none"
"""``--state none``: nothing is to be found."""

_SHOWN = 4  # flags in a hint
_SHAPE_ALONE = {"state", "states", "hidden", "cell", "cache", "h", "c", "hx", "cx"}
_MEMORY = _SHAPE_ALONE | {
    "caches",
    "cached",
    "mem",
    "memory",
    "past",
    "kv",
    "carry",
    "ring",
    "ssm",
    "lstm",
    "gru",
    "rnn",
    "recurrent",
    "history",
}
_BEFORE = {"past", "prev", "previous", "old", "init", "initial"}
_AFTER = {"present", "next", "new", "updated", "final", "n"}
_WEAK_IN = {"in", "input", "inputs"}
_WEAK_OUT = {"out", "output", "outputs"}


def settle(source: Source, named: Sequence[str]) -> None:
    """Give ``source`` its pairs: those that ``forward`` keeps in buffers, those that are named, else those found.

    Args:
        source: its ``state`` is filled in; in an ONNX file's made-up example a state becomes zeros.
        named: ``OUT=IN`` each, or the one word ``none``.

    Raises:
        UsageError: a pair names what is not there, or what does not fit.
    """
    if list(named) == [NONE]:
        return
    taken = {pair.input for pair in source.state} | {pair.output for pair in source.state}
    pairs = [_parsed(text, source) for text in named if text != NONE]
    for text, pair in zip(named, pairs, strict=False):
        for name in (pair.input, pair.output):
            if name in taken:
                raise UsageError(f"--state '{text}': '{name}' is in another pair already")
            taken.add(name)
    found = [] if pairs else find_pairs(_free(source.inputs, taken), _free(source.outputs, taken))
    source.state = (*source.state, *pairs, *found)
    if source.kind == "onnx":
        for pair in (*pairs, *found):
            source.example[pair.input] = np.zeros_like(source.example[pair.input])
    source.state_found = tuple(pair.input for pair in found)
    if hint := growing_hint(source) or _nameless_hint(source):
        source.notes += (hint,)


def growing_hint(source: Source) -> str:
    """What to do about outputs that are an input grown by a step, by names and sizes; empty: there are none.

    They are not taken as state unasked: another input (a mask, positions) may have to grow along.
    """
    taken = {pair.input for pair in source.state} | {pair.output for pair in source.state}
    outputs = _free(source.outputs, taken)
    pairs = [
        (before, after)
        for before in _free(source.inputs, taken)
        for after in outputs
        if _grown(before, after) is not None and _related(before.name, after.name)
    ]
    if not pairs:
        return ""
    (before, after), more = pairs[0], f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
    flags = [
        *(
            f"--dynamic {item.name}:{axis}"
            for item, other in pairs
            if (axis := _grown(item, other)) is not None and isinstance(item.shape[axis], int)
        ),
        *(f"--state {other.name}={item.name}" for item, other in pairs),
    ]
    shown = f"{' '.join(flags[:_SHOWN])}{' …' if len(flags) > _SHOWN else ''}"
    return (
        f"output '{after.name}' is input '{before.name}' grown by a step{more}, which is not taken as state unless it "
        f"is named: {shown}"
    )


def _nameless_hint(source: Source) -> str:
    """What to do about the one later output that has the dtype and shape of the one input; empty: it is not so clear.

    Names say nothing of it, and a model of two inputs and two outputs may as well have no memory.
    """
    if source.state or source.kind == "huggingface":
        return ""
    pairs = [
        (before, after)
        for before in source.inputs
        for after in source.outputs[1:]
        if _alike(before, after) and before.dtype.startswith("float") and len(before.shape) > 1
    ]
    if len(pairs) != 1 or len(source.inputs) < 2:
        return ""
    ((before, after),) = pairs
    return (
        f"output '{after.name}' has the shape of input '{before.name}': if it is what the next run takes, name it: "
        f"--state {after.name}={before.name}"
    )


def _grown(before: TensorSpec, after: TensorSpec) -> int | None:
    """The one axis on which ``after`` is longer; None: it is no longer ``before``."""
    if before.dtype != after.dtype or len(before.shape) != len(after.shape):
        return None
    axes = [axis for axis, (a, b) in enumerate(zip(before.shape, after.shape, strict=True)) if a != b]
    if len(axes) != 1:
        return None
    was, now = before.shape[axes[0]], after.shape[axes[0]]
    if isinstance(was, int) and isinstance(now, int):
        return axes[0] if now > was else None
    return axes[0] if isinstance(was, str) and isinstance(now, str) else None


def _free(specs: Sequence[TensorSpec], taken: set[str]) -> list[TensorSpec]:
    return [spec for spec in specs if spec.name not in taken]


def _parsed(text: str, source: Source) -> StatePair:
    output, equals, name = text.partition("=")
    if not equals or not output or not name:
        raise UsageError(
            f"--state '{text}' does not have the form OUT=IN", fix="Write --state stateN=state, or --state none."
        )
    inputs = {spec.name: spec for spec in source.inputs}
    outputs = {spec.name: spec for spec in source.outputs}
    if output not in outputs and output in inputs and name in outputs:
        raise UsageError(f"--state '{text}': the output comes first", fix=f"Write --state {name}={output}")
    for kind, given, known in (("output", output, outputs), ("input", name, inputs)):
        if given not in known:
            raise UsageError(f"--state '{text}': {source.spec} has no {kind} '{given}'", fix=suggestion(given, known))
    after, before = outputs[output], inputs[name]
    fits = len(after.shape) == len(before.shape) and all(
        a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(after.shape, before.shape, strict=True)
    )
    if after.dtype != before.dtype or not fits:
        axis = _grown(before, after)
        grows = "" if axis is None else f"It grows by a step: free that dimension: --dynamic {name}:{axis}"
        raise UsageError(f"--state '{text}': output '{after}' cannot be fed as input '{before}'", fix=grows)
    return StatePair(name, output)


def find_pairs(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[StatePair]:
    """The obvious pairs, in the order of the inputs; none where the model would be left without an input of its own."""
    pairs: list[StatePair] = []
    left = list(outputs)
    for before in inputs:
        after = [item for item in left if _may_be_alike(before, item) and _related(before.name, item.name)]
        if len(after) == 1:
            pairs.append(StatePair(before.name, after[0].name))
            left.remove(after[0])
    known = {pair.input for pair in pairs}
    pairs += _by_shape([item for item in inputs if item.name not in known], left)
    order = [item.name for item in inputs]
    pairs.sort(key=lambda pair: order.index(pair.input))
    return pairs if len(pairs) < len(inputs) else []


def _by_shape(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[StatePair]:
    """Inputs with a name for memory and later outputs without a name, where as many of the one as of the other fit."""
    nameless = [item for item in outputs if re.fullmatch(r"output_[1-9]\d*(\.\d+)*", item.name)]
    memory = [item for item in inputs if _means_memory(item.name)]
    pairs = []
    for before in memory:
        rivals = [item for item in memory if _alike(before, item)]
        after = [item for item in nameless if _alike(before, item)]
        if len(after) == len(rivals):
            pairs.append(StatePair(before.name, after[rivals.index(before)].name))
    return pairs


def _alike(before: TensorSpec, after: TensorSpec) -> bool:
    return (before.dtype, before.shape) == (after.dtype, after.shape)


def _may_be_alike(before: TensorSpec, after: TensorSpec) -> bool:
    """The same dtype and shape, where a dimension that a file leaves without a name may be any."""
    same_rank = before.dtype == after.dtype and len(before.shape) == len(after.shape)
    return same_rank and all(
        a == b or _nameless(before, axis) or _nameless(after, axis)
        for axis, (a, b) in enumerate(zip(before.shape, after.shape, strict=True))
    )


def _nameless(spec: TensorSpec, axis: int) -> bool:
    """Whether the name of this dimension is a tool's own: ours, TorchScript's (``LSTMhn_dim_1``), tf2onnx's."""
    size = str(spec.shape[axis])
    return (axis == 0 and size == "batch") or bool(re.fullmatch(r"\?|.*_dim_?\d+|unk_*\d+|dynamic_axes_\d+", size))


def _means_memory(name: str) -> bool:
    """By itself: ``h``, ``h0``, ``state``, ``prev_state``, ``conv_cache``; not ``state_mask``."""
    words = [word for word in _words(name) if not word.isdigit() and word not in _WEAK_IN]
    return bool(words) and words[-1] in _SHAPE_ALONE


def _related(before: str, after: str) -> bool:
    """Whether the names are those of one thing at two times."""
    ours, theirs = _words(before), _words(after)
    strong = bool(_BEFORE & set(ours)) or bool(_AFTER & set(theirs))
    rest_in = [word for word in ours if word not in _BEFORE | _WEAK_IN]
    rest_out = [word for word in theirs if word not in _AFTER | _WEAK_OUT]
    # h0 → hn, c_0 → c_n: the number is the time.
    if rest_in[-1:] == ["0"] and theirs[-1:] == ["n"] and rest_in[:-1] == rest_out:
        return True
    if not rest_in or rest_in != rest_out or ours == theirs:
        return False
    memory = any(word in _MEMORY for word in ours)
    return memory or (strong and not (set(ours) & _WEAK_IN))


def _words(name: str) -> list[str]:
    """``stateN`` → state, n; ``past_key_values.0.key`` → past, key, values, 0, key; ``hn`` → h, n; ``h0`` → h, 0."""
    text = re.sub(r"hidden_states", "activations", re.sub(r"(past|present)_key_values?", r"\1", name))
    found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", text)
    words = [word.lower() for word in found]
    split: list[str] = []
    for word in words:
        single = re.fullmatch(r"([hc])(n|out|in|x)", word)
        split += [single[1], single[2]] if single and single[2] != "x" else [word]
    return split
