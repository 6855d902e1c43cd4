"""What the user named → a model with example inputs: a Python factory, a .pt2, a Hugging Face model, a .onnx file.

>>> source = load_source("net.py:build?width=64", inputs=["image:float32:1x3x224x224"])    # doctest: +SKIP
>>> source.forward(source.example)["output"].shape                                           # doctest: +SKIP
(1, 10)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SourceError, suggestion
from .source import Source

if TYPE_CHECKING:
    import torch


_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib")


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
        from . import factory

        return factory.load_module(spec, inputs, dynamic)
    text = str(spec)
    path = Path(text.partition("?")[0])
    if task is not None and not (path.is_dir() or _looks_like_hub_id(text)):
        from ..errors import UsageError

        raise UsageError(f"--task is for Hugging Face models, and '{text}' is not one")
    if path.suffix in _PICKLES or _is_torchscript(path):
        raise _refuse_pickle(text, path)
    if path.suffix == ".onnx":
        from . import onnx_file

        return onnx_file.load(text, _existing(path), inputs, dynamic)
    if path.suffix == ".pt2":
        from . import exported_program

        return exported_program.load(text, _existing(path), inputs, dynamic)
    if path.is_dir():
        from . import huggingface

        return huggingface.load(text, path, inputs, dynamic, task)
    if _is_factory(text):
        from . import factory

        return factory.load(text, inputs, dynamic)
    if _looks_like_hub_id(text):
        from . import huggingface

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
        fix="Name it as net.py:build, or as net.pt2.",
    )


def _unknown(text: str, path: Path) -> SourceError:
    forms = "file.py:factory, package.module:factory, model.pt2, model.onnx, a Hugging Face directory or id"
    if path.exists():
        return SourceError(f"{text} is not a source that edgekit can read", fix=f"A source is one of: {forms}")
    return SourceError(f"there is no {text}", fix=f"A source is one of: {forms}")
