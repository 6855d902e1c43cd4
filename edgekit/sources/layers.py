"""What each module of a PyTorch program answers, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ..contracts import Array
from . import tree
from .flat import FlatModule, to_numpy


def hooked_layers(model: torch.nn.Module, call: Callable[[], object]) -> Iterator[tuple[str, Array]]:
    """(module path, first tensor it returned) of each submodule in the order in which they finish during ``call``.

    A module that runs more than once comes as often. Copies, so that an in-place operation later changes none.
    """
    found: list[tuple[str, Array]] = []

    def keep(path: str) -> Callable[[torch.nn.Module, Any, Any], None]:
        def hook(module: torch.nn.Module, args: Any, result: Any) -> None:
            first = next((leaf for _, leaf in tree.leaves(result) if isinstance(leaf, torch.Tensor)), None)
            if first is not None:
                found.append((path, to_numpy(first)))

        return hook

    handles = [module.register_forward_hook(keep(path)) for path, module in model.named_modules() if path]
    try:
        with torch.no_grad():
            call()
    finally:
        for handle in handles:
            handle.remove()
    return iter(found)


class _Tracer(torch.fx.Interpreter):
    """Runs a traced graph and keeps, for each run of operators from one module, the last tensor."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.found: list[tuple[str, Array]] = []
        self._last: tuple[str, torch.Tensor] | None = None

    def run_node(self, n: torch.fx.Node) -> Any:
        """Run one node; when the module changes, what the one before computed last was its output."""
        value = super().run_node(n)
        first = next((item for item in value if isinstance(item, torch.Tensor)), None) if _is_list(value) else value
        if n.op == "call_function" and isinstance(first, torch.Tensor):
            path = _path(n)
            if self._last is not None and self._last[0] != path:
                self.flush()
            self._last = (path, first.detach().clone())
        return value

    def flush(self) -> None:
        """Keep the last tensor of the module that just ended."""
        if self._last is not None and self._last[0]:
            self.found.append((self._last[0], to_numpy(self._last[1])))
        self._last = None


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _path(node: torch.fx.Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def traced_layers(flat: FlatModule, tensors: tuple[torch.Tensor, ...]) -> Iterator[tuple[str, Array]]:
    """(path of the module the operators came from, the last tensor they computed), in the order of the trace."""
    from torch.utils import _pytree

    graph = flat.get_submodule("model")
    assert isinstance(graph, torch.fx.GraphModule)
    tracer = _Tracer(graph)
    with torch.no_grad(), flat.holding(tensors) as own:
        leaves = _pytree.tree_leaves(flat.rebuilt(own))
        tracer.run(*leaves, enable_io_processing=False)
    tracer.flush()
    return iter(tracer.found)
