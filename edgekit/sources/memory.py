"""Tensors that a module's ``forward`` overwrites: what it remembers from one call to the next.

A model that keeps its past in buffers (a ring buffer, a KV cache, the hidden state of a recurrent cell) is, as a
graph, a function of that past: `LiftedModule` turns the buffers into inputs and outputs. (torch.export's own signature
tells of buffers that are written in place, ``buffers_to_mutate``, and not of a submodule's that is given another
tensor: those it takes for constants, without a word.) Which of them carry something over follows from what the outputs
depend on: a counter that nothing reads, or a cache that every call fills anew, is no state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

from ..errors import SourceError
from ..quiet import TORCH, quiet
from . import tree
from .capture import tensor_placeholders
from .flat import FlatModule


class Memory:
    """The tensors that a module holds beside its parameters, with the values that they have now."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module
        self._loose: list[tuple[str, torch.Tensor, int]] = []  # in lists and dictionaries
        self._kept: dict[tuple[str, str], tuple[torch.Tensor, int, torch.Tensor]] = {}
        for path, part in module.named_modules():
            for name, tensor in (*part._buffers.items(), *vars(part).items()):
                if isinstance(tensor, torch.Tensor) and not isinstance(tensor, torch.nn.Parameter):
                    self._kept[path, name] = (tensor, tensor._version, tensor.detach().clone())
                elif isinstance(tensor, (list, tuple, dict)) and not name.startswith("_"):
                    where = f"{path}.{name}" if path else name
                    found = [leaf for _, leaf in tree.leaves(tensor) if isinstance(leaf, torch.Tensor)]
                    self._loose += [(where, leaf, leaf._version) for leaf in found]

    def refuse_loose(self) -> None:
        """A tensor in a list or a dictionary that was overwritten in place is state that no graph can be given.

        Raises:
            SourceError: names the attribute.
        """
        for where, tensor, version in self._loose:
            if tensor._version != version:
                raise SourceError(
                    f"forward overwrites a tensor in '{where}', which is a list or a dictionary: what it remembers "
                    "from one call to the next would be lost",
                    fix="Register each tensor of it as a buffer: self.register_buffer(name, tensor)",
                )

    def written(self) -> list[str]:
        """The paths of those that were overwritten since: in place, or by another tensor."""
        return [
            f"{path}.{name}" if path else name
            for (path, name), (tensor, version, _) in self._kept.items()
            if (now := getattr(self._module.get_submodule(path), name, None)) is not tensor or now._version != version
        ]

    def restore(self) -> None:
        """Give each of them the value that it had."""
        with torch.no_grad():
            for (path, name), (tensor, version, value) in self._kept.items():
                part = self._module.get_submodule(path)
                if getattr(part, name, None) is not tensor:
                    setattr(part, name, tensor)
                if tensor._version != version:
                    tensor.copy_(value)
                    self._kept[path, name] = (tensor, tensor._version, value)


def as_buffers(module: torch.nn.Module, paths: Sequence[str]) -> None:
    """Register as buffers those of the tensors that are plain attributes: torch.export takes them for constants."""
    for text in paths:
        path, _, name = text.rpartition(".")
        part = module.get_submodule(path)
        if name not in part._buffers:
            tensor = getattr(part, name)
            delattr(part, name)
            part.register_buffer(name, tensor, persistent=False)


def carried(program: torch.export.ExportedProgram, count: int) -> list[int]:
    """Which of the last ``count`` inputs of a lifted program an output of this or of a later call depends on.

    Its last ``count`` outputs are what they become.
    """
    with quiet(*TORCH):
        program = program.run_decompositions({})  # no operator writes in place any more
    nodes = {node.name: node for node in program.graph.nodes}
    ends = [nodes[name] for name in program.graph_signature.user_outputs if isinstance(name, str) and name in nodes]
    starts = {node.name: i for i, node in enumerate(tensor_placeholders(program)[-count:])}
    seen: set[str] = set()
    found: set[int] = set()
    behind = list(ends[:-count])
    while behind:
        node = behind.pop()
        if node.name in seen:
            continue
        seen.add(node.name)
        behind += node.all_input_nodes
        if node.name in starts:
            found.add(starts[node.name])
            behind.append(ends[starts[node.name] - count])  # what it becomes is read by the next call
    return sorted(found)


class LiftedModule(FlatModule):
    """A flat module whose buffers come in as its last inputs and go out as its last outputs.

    Args:
        flat: the module with its example arguments.
        buffers: their paths below the user's module.
        values: what they hold before the first call.
    """

    def __init__(self, flat: FlatModule, buffers: Sequence[str], values: Sequence[torch.Tensor]) -> None:
        super().__init__(flat.model, *flat.arguments.value)
        self.buffer_paths = tuple(buffers)
        taken = set(self.input_names)
        self.input_names = [*self.input_names, *(tree.unique(tree.valid_name(path), taken, "_in") for path in buffers)]
        self.tensors.value = (*self.tensors.value, *(value.detach().clone() for value in values))

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The tensors that the model returns for its own arguments, then the buffers' new values."""
        held: dict[str, torch.Tensor] = {}
        with self.holding(tensors, held) as own:
            results = self.called(own)
        # Copies: an output may be the buffer itself, or a view of it, and each is a value of its own.
        return (*results, *(held[path].clone() for path in self.buffer_paths))

    @contextlib.contextmanager
    def holding(
        self, tensors: Sequence[torch.Tensor], held: dict[str, torch.Tensor] | None = None
    ) -> Iterator[Sequence[torch.Tensor]]:
        """See `FlatModule.holding`: the buffers are the last of ``tensors`` meanwhile; ``held`` tells their ends."""
        count = len(self.buffer_paths)
        held = {} if held is None else held
        # A copy: torch.export refuses an input that is overwritten, and so would a caller.
        held.update({path: value.clone() for path, value in zip(self.buffer_paths, tensors[-count:], strict=True)})
        with _holding(self.model, held):
            yield tensors[:-count]


@contextlib.contextmanager
def _holding(module: torch.nn.Module, held: dict[str, torch.Tensor]) -> Iterator[None]:
    """``module`` with other tensors as its buffers; ``held`` afterwards tells what they became.

    As `torch.func.functional_call`, around any call. A buffer under two names is one tensor under both.
    """
    places: list[tuple[str, dict[str, torch.Tensor | None], str, torch.Tensor]] = []
    own = {path: module.get_buffer(path) for path in held}
    for path, tensor in own.items():
        for part in module.modules():
            places += [(path, part._buffers, name, tensor) for name, value in part._buffers.items() if value is tensor]
    try:
        for path, buffers, name, _ in places:
            buffers[name] = held[path]
        yield
        for path, buffers, name, _ in places:
            now = buffers[name]
            if now is None:
                raise SourceError(f"forward left nothing in the buffer '{path}'")
            if now is not held[path]:
                held[path] = now
    finally:
        for _, buffers, name, tensor in places:
            buffers[name] = tensor
