"""What the user named → a model with example inputs: a Python factory, a .pt2, a Hugging Face model, a .onnx file.

>>> source = load_source("net.py:build?width=64", inputs=["image:float32:1x3x224x224"])    # doctest: +SKIP
>>> source.forward(source.example)["output"].shape                                           # doctest: +SKIP
(1, 10)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .contracts import Array, Feeds, Outputs, TensorSpec, describe
from .errors import SourceError, suggestion

if TYPE_CHECKING:
    import torch

    from .sources.flat import FlatModule

Kind = Literal["factory", "exported-program", "huggingface", "onnx"]

_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib")


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
    parameters: int  # number of scalars in parameters (ONNX: in floating-point initializers)
    module: torch.nn.Module | None = field(default=None, repr=False)  # in eval mode, float32, on the CPU
    program: torch.export.ExportedProgram | None = field(default=None, repr=False)
    path: Path | None = None  # the file, for a .onnx or .pt2
    notes: tuple[str, ...] = ()  # what was changed or assumed, one sentence each
    flat: FlatModule | None = field(default=None, repr=False)  # what is exported: tensors in, tensors out
    capture_error: Exception | None = field(default=None, repr=False)  # torch.export's

    def example_dims(self) -> dict[str, int]:
        """Free dimension → its size in the example inputs."""
        return {
            name: size
            for spec in self.inputs
            for name, size in zip(spec.shape, self.example[spec.name].shape, strict=True)
            if isinstance(name, str)
        }

    def forward(self, feeds: Feeds) -> Outputs:
        """PyTorch's answer in float32, in eval mode: output name → fresh array.

        Raises:
            SourceError: the feeds do not fit, ``forward`` raises, or the source is a .onnx file and has no PyTorch.
        """
        import torch

        from .sources import flat as flat_module

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
        from .sources import exported_program
        from .sources import flat as flat_module

        tensors = self._tensors(feeds)
        assert self.flat is not None
        if self.kind == "exported-program":
            return exported_program.layer_outputs(self.flat, tensors)
        call, module = self.flat, self.flat.model
        return flat_module.layer_outputs(module, lambda: call(*tensors))

    def _tensors(self, feeds: Feeds) -> tuple[torch.Tensor, ...]:
        import numpy as np
        import torch

        if self.flat is None:
            raise SourceError(
                f"{self.spec} is an ONNX file and has no PyTorch model to run",
                fix="Its reference is the ONNX reference evaluator",
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
            "inputs": [_spec_json(item) for item in self.inputs],
            "outputs": [_spec_json(item) for item in self.outputs],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        shapes = ", ".join(str(item) for item in self.inputs)
        return f"{self.spec}   {self.description}, {self.parameters} parameters   {shapes}"


def _spec_json(item: TensorSpec) -> dict[str, Any]:
    return {"name": item.name, "dtype": item.dtype, "shape": list(item.shape)}


def load_source(
    spec: str | Path | torch.nn.Module | tuple[torch.nn.Module, Any],
    *,
    inputs: Sequence[str] = (),
    dynamic: Sequence[str] = (),
    task: str | None = None,
) -> Source:
    """Load the model that ``spec`` names.

    Args:
        spec: ``file.py:factory``, ``package.module:factory`` (either with ``?key=value&…``), a ``.pt2`` or ``.onnx``
            file, a Hugging Face directory or id; from Python also a module, or (module, example inputs).
        inputs: ``NAME:DTYPE:1x3x224x224`` for each input, where the source does not bring examples. A dimension
            written as a name (``1xseq``, ``1xseq=128``) is free.
        dynamic: ``NAME:AXIS`` or ``NAME:AXIS=DIM`` for each free dimension. Two with one DIM share it.
        task: the Hugging Face task (``feature-extraction``), where the model's own is not wanted.

    Raises:
        SourceError: it cannot be loaded or called; says why and what to do.
        UsageError: ``inputs`` or ``dynamic`` is malformed or does not fit.
        EngineError: a package that this kind of source needs is not installed.
    """
    if not isinstance(spec, (str, Path)):
        from .sources import factory

        return factory.load_module(spec, inputs, dynamic)
    text = str(spec)
    path = Path(text.partition("?")[0])
    if task is not None and not (path.is_dir() or _looks_like_hub_id(text)):
        from .errors import UsageError

        raise UsageError(f"--task is for Hugging Face models; '{text}' is none")
    if path.suffix in _PICKLES or _is_torchscript(path):
        raise _refuse_pickle(text, path)
    if path.suffix == ".onnx":
        from .sources import onnx_file

        return onnx_file.load(text, _existing(path), inputs, dynamic)
    if path.suffix == ".pt2":
        from .sources import exported_program

        return exported_program.load(text, _existing(path), inputs, dynamic)
    if path.is_dir():
        from .sources import huggingface

        return huggingface.load(text, path, inputs, dynamic, task)
    if _is_factory(text):
        from .sources import factory

        return factory.load(text, inputs, dynamic)
    if _looks_like_hub_id(text):
        from .sources import huggingface

        return huggingface.load(text, None, inputs, dynamic, task)
    raise _unknown(text, path)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise SourceError(f"{path} is not a file" if path.exists() else f"there is no file {path}", fix=_nearby(path))
    return path


def _nearby(path: Path) -> str:
    folder = path.parent
    same = [item.name for item in folder.glob(f"*{path.suffix}")] if folder.is_dir() else []
    return suggestion(path.name, same) if same else ""


def _is_factory(text: str) -> bool:
    """``x.py``, ``x.py:f``, ``package.module:f``, each with or without ``?…``; not a Windows drive."""
    main = text.partition("?")[0]
    head, colon, attribute = main.rpartition(":")
    if main.endswith(".py"):
        return True
    return bool(colon) and attribute.isidentifier() and (head.endswith(".py") or _is_module_name(head))


def _is_module_name(text: str) -> bool:
    return bool(text) and all(part.isidentifier() for part in text.split("."))


def _looks_like_hub_id(text: str) -> bool:
    """``owner/name`` or ``name`` as the Hugging Face hub writes them, and nothing of that name lies here."""
    import re

    return bool(re.fullmatch(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?", text)) and not Path(text).exists()


def _is_torchscript(path: Path) -> bool:
    return path.suffix in (".ts", ".torchscript", ".jit")


def _refuse_pickle(text: str, path: Path) -> SourceError:
    return SourceError(
        f"{text} is refused: a {path.suffix} file is a pickle or a TorchScript archive, and opening one can run any "
        "code that is in it",
        details=(
            "a factory: def build(): net = Net(); "
            f'net.load_state_dict(torch.load("{path.name}", weights_only=True)); return net',
            'or an exported program: torch.export.save(torch.export.export(net, example), "net.pt2")',
        ),
        fix="Name it as net.py:build, or as net.pt2",
    )


def _unknown(text: str, path: Path) -> SourceError:
    forms = "file.py:factory, package.module:factory, model.pt2, model.onnx, a Hugging Face directory or id"
    if path.exists():
        return SourceError(f"{text} is no source edgekit can read", fix=f"A source is one of: {forms}")
    return SourceError(f"there is no {text}", fix=f"A source is one of: {forms}")


def example_summary(feeds: Feeds) -> str:
    """``x float32 1x3x8x8, ids int64 1x16``."""
    return ", ".join(f"{name} {describe(array)}" for name, array in feeds.items())
