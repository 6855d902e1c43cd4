"""PyTorch itself, running an exported program eagerly: the baseline that a device's engine is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import Array, Artifact, Feeds, Outputs, Placement, Session, TensorSpec
from ..errors import EngineError
from ._values import engine_errors, extended_dtype, import_engine, is_plain, prepare


class TorchEager:
    """Opens ``exported-program`` artifacts (``.pt2``, written by ``torch.export.save``)."""

    name = "torch_eager"
    formats = ("exported-program",)
    install = "pip install torch"

    @dataclass(frozen=True, slots=True)
    class Options:
        """Session options. PyTorch has one thread pool a process: the session opened last sets its size."""

        threads: int = 0  # 0: PyTorch's choice, which `in_force` tells

        def __post_init__(self) -> None:
            if self.threads < 0:
                raise ValueError(f"threads must be >= 0, got {self.threads}")

    def version(self) -> str:
        """PyTorch's version, without its build."""
        return str(import_engine("torch", self.install).__version__).split("+")[0]

    def open(self, artifact: Artifact, options: Options) -> Session:
        """See contracts.Runtime.open."""
        torch = import_engine("torch", self.install)
        if not artifact.path.is_file():
            raise EngineError(f"model file '{artifact.path}' does not exist")
        with engine_errors(f"PyTorch refuses {artifact.path.name}"):
            program = torch.export.load(artifact.path)
            if options.threads:
                torch.set_num_threads(options.threads)
            return TorchSession(torch, program, artifact)


class TorchSession:
    """An exported program's module."""

    def __init__(self, torch: ModuleType, program: Any, artifact: Artifact) -> None:
        self._torch = torch
        self._module = program.module()
        self._structure = program.call_spec.in_spec
        values = {node.name: node.meta.get("val") for node in program.graph.nodes}
        signature = program.graph_signature
        self._inputs = _specs(torch, signature.user_inputs, values, artifact.inputs)
        self._outputs = _specs(torch, signature.user_outputs, values, artifact.outputs)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, named as the artifact names them."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, named as the artifact names them."""
        return self._outputs

    def run(self, feeds: Feeds) -> Outputs:
        """See contracts.Session.run."""
        with engine_errors("PyTorch"), self._torch.inference_mode():
            results = self._torch.utils._pytree.tree_leaves(self._call(feeds)())
            return {
                spec.name: self._to_numpy(tensor, spec) for spec, tensor in zip(self._outputs, results, strict=True)
            }

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """See contracts.Session.bind: eager PyTorch allocates its outputs at every call."""
        call, inference_mode = self._call(feeds), self._torch.inference_mode

        def hot() -> object:
            with inference_mode():
                return call()

        with engine_errors("PyTorch"):
            hot()
        return hot

    def placement(self) -> Placement:
        """Unknown: eager PyTorch runs operators as it meets them."""
        self._open()
        return Placement(unknown="PyTorch runs eagerly and keeps no account of its operators")

    def in_force(self) -> dict[str, Any]:
        """What PyTorch reports."""
        self._open()
        return {"threads": self._torch.get_num_threads(), "precision": "as the program says"}

    def close(self) -> None:
        """Free the module; what `bind` returned keeps its own hold until it is dropped."""
        self._module = None

    def _open(self) -> Any:
        if self._module is None:
            raise EngineError("this session is closed")
        return self._module

    def _call(self, feeds: Feeds) -> Callable[[], object]:
        module = self._open()
        ready = prepare(feeds, self._inputs)
        tensors = [self._to_tensor(ready[spec.name], spec) for spec in self._inputs]
        args, kwargs = self._torch.utils._pytree.tree_unflatten(tensors, self._structure)
        return lambda: module(*args, **kwargs)

    def _to_tensor(self, value: Array, spec: TensorSpec) -> Any:
        if is_plain(spec.dtype):
            return self._torch.from_numpy(value if value.flags.writeable else value.copy())
        bits = value.view(np.int16 if value.itemsize == 2 else np.uint8)
        return self._torch.from_numpy(bits.copy()).view(getattr(self._torch, spec.dtype))

    def _to_numpy(self, tensor: Any, spec: TensorSpec) -> Array:
        if is_plain(spec.dtype):
            return np.array(tensor.numpy())
        bits = tensor.contiguous().view(self._torch.int16 if tensor.itemsize == 2 else self._torch.uint8)
        return np.array(bits.numpy().view(extended_dtype(spec.dtype)))


def _specs(
    torch: ModuleType, names: Sequence[Any], values: dict[str, Any], wanted: Sequence[TensorSpec]
) -> tuple[TensorSpec, ...]:
    """The program's values as TensorSpecs; what the artifact calls them stands in the same order."""
    specs = []
    for i, name in enumerate(names):
        value = values.get(name)
        if not isinstance(value, torch.Tensor):
            raise EngineError(
                f"'{name}' of the exported program is not a tensor; export one that takes and gives tensors"
            )
        shape = tuple(size if isinstance(size, int) else str(size) for size in value.shape)
        called = wanted[i].name if len(wanted) == len(names) else str(name)
        specs.append(TensorSpec(called, str(value.dtype).removeprefix("torch."), shape))
    return tuple(specs)


PLUGIN = TorchEager
