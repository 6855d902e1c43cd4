"""A model as the user gave it, with one set of example inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..contracts import Array, Feeds, Outputs, StatePair, TensorSpec
from ..errors import SourceError, suggestion
from .made_up import made_up

if TYPE_CHECKING:
    import torch

    from .flat import FlatModule
    from .quantized import Quantized


Kind = Literal["factory", "exported-program", "huggingface", "onnx"]


class NoExampleError(SourceError):
    """A factory brings no example inputs, and nothing else says what its model takes.

    Args:
        what: see `EdgekitError`.
        needed: the arguments of ``forward`` that have no default.
    """

    def __init__(self, what: str, *, needed: Sequence[str], details: Sequence[str] = (), fix: str = "") -> None:
        super().__init__(what, details=details, fix=fix)
        self.needed = tuple(needed)


@dataclass(kw_only=True, slots=True)
class Source:
    """A model as the user gave it, and one set of example inputs.

    Inputs are named as ``forward``'s arguments, outputs as `sources.tree.output_names` says. A free dimension of a
    TensorSpec is a name; an output's may be an expression over the inputs' names (``2*seq``).
    """

    spec: str  # what the user wrote
    kind: Kind
    name: str  # default name of the bundle: the factory's name, or the file's stem
    description: str  # "ResNet", "BertModel, task feature-extraction"
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    example: dict[str, Array] = field(repr=False)
    parameters: int  # number of scalars in parameters (ONNX: in weights, whatever they are stored as)
    quantized: Quantized | None = None  # how, where it does not come in float32
    module: torch.nn.Module | None = field(default=None, repr=False)  # in eval mode, float32, on the CPU
    program: torch.export.ExportedProgram | None = field(default=None, repr=False)
    path: Path | None = None  # the file, for a .onnx or .pt2
    notes: tuple[str, ...] = ()  # what was changed or assumed, one sentence each
    made: frozenset[str] = frozenset()  # inputs whose example nobody gave
    guessed: frozenset[str] = frozenset()  # free dimensions whose size in ``example`` nobody gave
    settled: bool = False  # the outputs' shapes are known to be true, see `accuracy.claims`; an ONNX file's word is not
    flat: FlatModule | None = field(default=None, repr=False)  # what is exported: tensors in, tensors out
    capture_error: Exception | None = field(default=None, repr=False)  # torch.export's
    state: tuple[StatePair, ...] = ()  # what goes from one run to the next
    state_found: tuple[str, ...] = ()  # its inputs that were found by their names, and not stated
    initial: dict[str, Array] = field(default_factory=dict, repr=False)  # its first value, where that is not zero

    def example_dims(self) -> dict[str, int]:
        """Free dimension → its size in the example inputs."""
        return {
            name: size
            for spec in self.inputs
            for name, size in zip(spec.shape, self.example[spec.name].shape, strict=True)
            if isinstance(name, str)
        }

    def use_example(self, feeds: Feeds) -> None:
        """Take a sample that the user gave as the example inputs, whose sizes then stand for the free dimensions'."""
        self.example = dict(feeds)
        self.made = self.guessed = frozenset()

    def describe_quantized(self, found: Quantized | None) -> None:
        """Take over what its exported graph says: a program may hold a quantized model, too."""
        if found is not None and self.quantized is None:
            self.quantized, self.parameters = found, found.parameters

    @property
    def precision(self) -> str:
        """What it comes in: ``fp32``, or how it was quantized before."""
        return "fp32" if self.quantized is None else self.quantized.precision

    @property
    def made_up(self) -> str | None:
        """What of ``example`` nobody gave: "images 1x3x32x32"; None: all of it is the user's."""
        return made_up({name: array for name, array in self.example.items() if name in self.made})

    def forward(self, feeds: Feeds) -> Outputs:
        """PyTorch's answer in float32, in eval mode: output name → fresh array.

        Raises:
            SourceError: the feeds do not fit, ``forward`` raises, or the source is a .onnx file and has no PyTorch.
        """
        import torch

        from . import flat as flat_module

        tensors = self._tensors(feeds)
        assert self.flat is not None
        try:
            with torch.no_grad():
                results = self.flat(*tensors)
        except Exception as error:
            raise flat_module.forward_failure(self.spec, self.flat.model, error, feeds) from error
        if len(results) != len(self.outputs):
            raise SourceError(
                f"{self.spec} returned {len(results)} tensors for these inputs, but {len(self.outputs)} for its "
                "example inputs; a model must return the same outputs for every input"
            )
        return {spec.name: flat_module.to_numpy(tensor) for spec, tensor in zip(self.outputs, results, strict=True)}

    def layers(self, feeds: Feeds) -> Iterator[tuple[str, Array]]:
        """(module path, first output) of each submodule in the order in which they ran, PyTorch float32.

        A module that runs twice comes twice. For an exported program the path is that of the module that the traced
        operators came from.

        Raises:
            SourceError: as `forward`.
        """
        from .layers import hooked_layers, traced_layers

        tensors = self._tensors(feeds)
        assert self.flat is not None
        if self.kind == "exported-program":
            return traced_layers(self.flat, tensors)
        call, module = self.flat, self.flat.model
        return hooked_layers(module, lambda: call(*tensors))

    def _tensors(self, feeds: Feeds) -> tuple[torch.Tensor, ...]:
        import numpy as np
        import torch

        if self.flat is None:
            raise SourceError(
                f"{self.spec} is an ONNX file and has no PyTorch model to run",
                fix="Its reference is the ONNX reference evaluator.",
            )
        names = [item.name for item in self.inputs]
        for name in feeds:
            if name not in names:
                raise SourceError(f"{self.spec} has no input '{name}'", fix=suggestion(name, names))
        for item in self.inputs:
            if item.name not in feeds:
                raise SourceError(f"input '{item.name}' of {self.spec} is missing", fix=f"It takes: {', '.join(names)}")
            reason = item.refuses(feeds[item.name])
            if reason:
                raise SourceError(f"input {reason}")
        return tuple(torch.from_numpy(np.array(feeds[name], order="C", copy=True)) for name in names)

    def to_json(self) -> dict[str, Any]:
        """What a manifest or a report keeps: no weights, no absolute path."""
        return {
            "spec": self.spec,
            "kind": self.kind,
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "precision": self.precision,
            "quantized": None if self.quantized is None else str(self.quantized),
            "inputs": [_spec_json(item) for item in self.inputs],
            "outputs": [_spec_json(item) for item in self.outputs],
            "notes": list(self.notes),
            "made_up": self.made_up,
            "state": [asdict(pair) for pair in self.state],
            "state_found": list(self.state_found),
        }

    def __str__(self) -> str:
        shapes = ", ".join(str(item) for item in self.inputs)
        return f"{self.spec}   {self.description}, {self.parameters} parameters   {shapes}"


def _spec_json(item: TensorSpec) -> dict[str, Any]:
    return {"name": item.name, "dtype": item.dtype, "shape": list(item.shape)}
