"""`torch.export`, held to what was asked: static shapes stay static, free dimensions stay free or it is an error."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ..contracts import TensorSpec
from ..errors import SourceError
from ..quiet import TORCH, quiet
from .flags import FreeAxis


def capture(
    module: torch.nn.Module,
    tensors: tuple[torch.Tensor, ...],
    free: Sequence[dict[int, str]],
    listener: logging.Handler | None = None,
) -> torch.export.ExportedProgram:
    """Export ``module`` for ``tensors``; ``free`` maps, for each of them, free axes to names.

    ``listener`` gets what torch logs about symbolic shapes, at the moment it does.

    Raises:
        Exception: whatever torch.export raises: a free dimension that the model makes constant, control flow that
            depends on data, and so on. `edgekit.exporters._failure` turns it into a sentence.
    """
    dynamic = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in free)
    # numpy's `image[None]` has a stride of 0, which the program would keep and ExecuTorch refuse.
    tensors = tuple(
        item.clone(memory_format=torch.contiguous_format) if 0 in item.stride() else item for item in tensors
    )
    with quiet(*TORCH), contextlib.ExitStack() as stack:
        if listener is not None:
            stack.enter_context(_listening(listener))
        if any(free):
            stack.enter_context(_dynamic_patches())
        return torch.export.export(module, tensors, dynamic_shapes=(dynamic,) if any(free) else None, strict=False)


@contextlib.contextmanager
def _listening(listener: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level, propagate, handlers = logger.level, logger.propagate, logger.handlers
    logger.handlers = [listener]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.handlers = handlers
        logger.setLevel(level)
        logger.propagate = propagate


@contextlib.contextmanager
def _dynamic_patches() -> Iterator[None]:
    """What torch.onnx.export does around its own capture of dynamic shapes (_capture_strategies.py).

    A free dimension whose example size is 0 or 1 stays free, and LSTM and GRU become loops, not unrolled.
    """
    from torch.fx.experimental import _config

    with contextlib.ExitStack() as stack:
        stack.enter_context(_config.patch(backed_size_oblivious=True))  # type: ignore[attr-defined]
        try:
            from torch.export import _patches
        except ImportError:  # before torch 2.10: LSTM over a free length fails with a message of its own
            yield
            return
        stack.enter_context(_patches.register_lstm_while_loop_decomposition())
        stack.enter_context(_patches.register_gru_while_loop_decomposition())
        yield


def tensor_placeholders(program: torch.export.ExportedProgram) -> list[Any]:
    """The FX placeholders that are the program's own inputs and tensors, in order."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    found = [nodes[name] for name in program.graph_signature.user_inputs if isinstance(name, str) and name in nodes]
    return [node for node in found if isinstance(node.meta.get("val"), torch.Tensor)]


def tensor_outputs(program: torch.export.ExportedProgram) -> list[torch.Tensor]:
    """The fake tensors of the program's own outputs, in order; what is no tensor is left out."""
    nodes = {node.name: node for node in program.graph.nodes}
    found = [nodes[name] for name in program.graph_signature.user_outputs if isinstance(name, str) and name in nodes]
    return [node.meta["val"] for node in found if isinstance(node.meta.get("val"), torch.Tensor)]


def dimension_names(program: torch.export.ExportedProgram, axes: Sequence[tuple[int, FreeAxis]]) -> dict[str, str]:
    """Symbol of the program → name of the free dimension, from (index of the input, its free axis).

    Raises:
        SourceError: the model ties a free dimension to another one of another chosen name, to a multiple of
            something, or to a constant.
    """
    placeholders = tensor_placeholders(program)
    owner: dict[str, FreeAxis] = {}
    for index, item in axes:
        size = placeholders[index].meta["val"].shape[item.axis]
        where = f"dimension {item.axis} of input '{item.input}' ('{item.dim}')"
        if isinstance(size, int):
            raise SourceError(
                f"{where} was asked to be free, but the model makes it constant: {size}",
                fix=f"Drop --dynamic {item.input}:{item.axis}, or take its size from x.shape instead of a number.",
            )
        symbol = str(size)
        if not re.fullmatch(r"\w+", symbol):
            raise SourceError(
                f"{where} was asked to be free, but the model only takes sizes of the form {symbol}",
                fix=f"Drop --dynamic {item.input}:{item.axis}, or pad to the multiple inside the model.",
            )
        first = owner.setdefault(symbol, item)
        if first.dim == item.dim:
            continue
        if first.chosen and item.chosen:
            raise SourceError(
                f"the model needs '{first.dim}' (input '{first.input}') and '{item.dim}' (input '{item.input}') to be "
                "equal",
                fix=f"Give them one name: --dynamic {first.input}:{first.axis}={first.dim} "
                f"--dynamic {item.input}:{item.axis}={first.dim}",
            )
        if item.chosen:
            owner[symbol] = item
    return {symbol: item.dim for symbol, item in owner.items()}


def rename_dimension(size: object, names: dict[str, str]) -> int | str:
    """The size of a dimension as an int, or as the name or expression it is after renaming its symbols."""
    text = str(size)
    if text.lstrip("-").isdigit():
        return int(text)
    return re.sub(r"[A-Za-z_]\w*", lambda match: names.get(match.group(), match.group()), text)


def input_specs(
    program: torch.export.ExportedProgram, input_names: Sequence[str], names: dict[str, str]
) -> tuple[TensorSpec, ...]:
    """Name, dtype and shape of each input; free dimensions by name."""
    return _specs([node.meta["val"] for node in tensor_placeholders(program)], input_names, names)


def output_specs(
    program: torch.export.ExportedProgram, output_names: Sequence[str], names: dict[str, str]
) -> tuple[TensorSpec, ...]:
    """Name, dtype and shape of each output; free dimensions by name."""
    return _specs(tensor_outputs(program), output_names, names)


def _specs(
    values: Sequence[torch.Tensor], tensor_names: Sequence[str], names: dict[str, str]
) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, dtype_name(value.dtype), tuple(rename_dimension(size, names) for size in value.shape))
        for name, value in zip(tensor_names, values, strict=True)
    )


def dtype_name(dtype: torch.dtype) -> str:
    """The numpy name of a torch dtype: ``float32``."""
    return str(dtype).removeprefix("torch.")
