"""A session of ONNX Runtime whose inputs and outputs stay in the memory of a device: a GPU.

What the hot call does and does not do. ``bind`` copies the inputs to the device once and allocates the outputs there.
The call runs the model on them and returns when the device is done, so the outputs are usable where they lie. Neither
copy is in it: that is what a session's neighbours on the device see, and what peers measure; a copy's time depends on
the caller's memory and not on the model. Where an app holds its data on the host, ``host_copies`` puts both into the
call. ``run`` always has them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import Feeds, Outputs, Placement, TensorSpec
from ..errors import EngineError
from ._ort import OrtSession
from ._values import engine_errors, is_plain, prepare


@dataclass(frozen=True, slots=True)
class Device:
    """Where a session's tensors lie."""

    kind: str = "cuda"  # ONNX Runtime's name of the memory
    index: int = 0


class DeviceSession:
    """An open model whose hot call works on the device's memory.

    Args:
        ort: the package.
        inner: the session, opened with the device's provider.
        device: where tensors lie.
        graph: whether the provider captures the device's work as a graph and replays it. A captured graph reads and
            writes the addresses of its capture, so every binding captures one of its own, and shapes must be static.
        host_copies: whether the hot call copies the inputs to the device and the outputs back.
        told: further settings for `in_force`, asked when that is.

    Raises:
        EngineError: ``graph`` with a shape that is not static, or a type that cannot lie on the device.
    """

    def __init__(
        self,
        ort: ModuleType,
        inner: OrtSession,
        device: Device,
        *,
        graph: bool = False,
        host_copies: bool = False,
        told: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._ort, self._inner, self._device = ort, inner, device
        self._graph, self._host_copies, self._told = graph, host_copies, told
        self._graph_ids = itertools.count(1)
        self._resident: _Binding | None = None
        if graph:
            for spec in (*inner.inputs, *inner.outputs):
                _refuse_in_graph(spec)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, as ONNX Runtime lists them."""
        return self._inner.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, as ONNX Runtime lists them."""
        return self._inner.outputs

    def run(self, feeds: Feeds) -> Outputs:
        """See contracts.Session.run: copies the inputs to the device and the outputs back.

        With static shapes it runs on one binding, the same way as the hot call does, a captured graph included.
        """
        if not all(_is_static(spec) for spec in (*self.inputs, *self.outputs)):
            return self._inner.run(feeds)
        ready = prepare(feeds, self.inputs)
        self._inner.native()
        if self._resident is None:
            self._resident = self._bound(ready)
        else:
            self._resident.update(ready)
        self._resident()
        return self._resident.fetch()

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """See contracts.Session.bind, and this module's account of what the call has in it.

        The inputs are copied here: changing the arrays later changes nothing (but with ``host_copies``). A model that
        reads or returns what cannot lie on the device (strings, sequences, types that numpy has not) runs on the host's
        arrays instead.
        """
        ready = prepare(feeds, self.inputs)
        if not all(is_plain(spec.dtype) for spec in (*self.inputs, *self.outputs)):
            return self._inner.bind(feeds)
        self._inner.native()
        binding = self._bound(ready)
        binding()
        if self._host_copies:
            return partial(_with_copies, binding, ready)
        return binding.call

    def placement(self) -> Placement:
        """See `OrtSession.placement`."""
        return self._inner.placement()

    def in_force(self) -> dict[str, Any]:
        """What ONNX Runtime reports of its settings, and the provider's."""
        copies = "copied to the device and back in every call" if self._host_copies else "on the device"
        return {**self._inner.in_force(), "tensors": copies, **self._told()}

    def close(self) -> None:
        """Free the session; what `bind` returned keeps its own hold until it is dropped."""
        self._resident = None
        self._inner.close()

    def _bound(self, ready: Mapping[str, Any]) -> _Binding:
        options = None
        if self._graph:
            options = self._ort.RunOptions()
            options.add_run_config_entry("gpu_graph_id", str(next(self._graph_ids)))
        return _Binding(self._ort, self._inner.native(), self.inputs, self.outputs, ready, self._device, options)


class _Binding:
    """Inputs and outputs of one session at fixed places on a device. Calling it runs the model on them."""

    def __init__(
        self,
        ort: ModuleType,
        native: Any,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        ready: Mapping[str, Any],
        device: Device,
        run_options: Any,
    ) -> None:
        self._device, self._specs = device, outputs
        with engine_errors("ONNX Runtime"):
            self._binding = native.io_binding()
            make = ort.OrtValue.ortvalue_from_shape_and_type
            self._inputs = {}
            for spec in inputs:
                array = ready[spec.name]
                value = make(list(array.shape), array.dtype.type, device.kind, device.index)
                self._binding.bind_ortvalue_input(spec.name, value)
                self._inputs[spec.name] = value
            self._outputs: dict[str, Any] = {}
            for spec in outputs:
                if _is_static(spec):
                    value = make(list(spec.shape), np.dtype(spec.dtype).type, device.kind, device.index)
                    self._binding.bind_ortvalue_output(spec.name, value)
                    self._outputs[spec.name] = value
                else:  # its shape is known when it is computed: the engine allocates it
                    self._binding.bind_output(spec.name, device.kind, device.index)
        self.update(ready)
        self.call = partial(native.run_with_iobinding, self._binding, run_options)
        vars(self.call)["held"] = (self._inputs, self._outputs)  # must live as long as the call

    def __call__(self) -> None:
        with engine_errors("ONNX Runtime"):
            self.call()

    def update(self, ready: Mapping[str, Any]) -> None:
        """Copy new inputs of the same shapes to where the old ones lie."""
        with engine_errors("ONNX Runtime"):
            for name, value in self._inputs.items():
                array = ready[name]
                if list(array.shape) != value.shape():  # the engine would copy as many bytes and say nothing
                    raise EngineError(f"input '{name}' must have the shape {value.shape()}, got {list(array.shape)}")
                if array.size:
                    value.update_inplace(array)

    def fetch(self) -> Outputs:
        """Copies of the outputs on the host."""
        with engine_errors("ONNX Runtime"):
            found = self._outputs
            if len(found) < len(self._specs):
                found = dict(zip((spec.name for spec in self._specs), self._binding.get_outputs(), strict=True))
            # On the host, which stands in for a device in tests, the array is a view of the engine's memory.
            copy = True if self._device.kind == "cpu" else None
            return {spec.name: np.array(found[spec.name].numpy(), copy=copy) for spec in self._specs}


def _with_copies(binding: _Binding, ready: Mapping[str, Any]) -> Outputs:
    binding.update(ready)
    binding()
    return binding.fetch()


def _is_static(spec: TensorSpec) -> bool:
    return is_plain(spec.dtype) and all(isinstance(size, int) for size in spec.shape)


def _refuse_in_graph(spec: TensorSpec) -> None:
    if not is_plain(spec.dtype):
        raise EngineError(f"a CUDA graph takes tensors of numpy's own dtypes, got '{spec}'")
    free = [size for size in spec.shape if isinstance(size, str)]
    if free:
        raise EngineError(
            f"a CUDA graph needs static shapes, but '{spec}' has the free dimension '{free[0]}'",
            fix="Export without --dynamic, or set cuda_graph = false.",
        )
