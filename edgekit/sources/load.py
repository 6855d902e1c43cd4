"""What the user named → a model with example inputs: a Python factory, a .pt2, a Hugging Face model, a .onnx file.

>>> source = load_source("net.py:build?width=64", inputs=["image:float32:1x3x224x224"])    # doctest: +SKIP
>>> source.forward(source.example)["output"].shape                                           # doctest: +SKIP
(1, 10)
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts import Array
from ..errors import SourceError, UsageError, suggestion
from .flags import flag_for
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
    example: str | Path | None = None,
) -> Source:
    """Load the model that ``spec`` names.

    Args:
        spec: ``file.py:factory``, ``package.module:factory`` (either with ``?key=value&…``), a ``.pt2`` or ``.onnx``
            file, a Hugging Face directory or id; from Python also a module, or (module, example inputs).
        inputs: ``NAME:DTYPE:1x3x224x224`` for each input, where the source does not bring examples. A dimension
            written as a name (``1xseq``, ``1xseq=128``) is free. ``NAME=VALUE`` gives an input's value.
        dynamic: ``NAME:AXIS`` or ``NAME:AXIS=DIM`` for each free dimension. Two with one DIM share it.
        task: the Hugging Face task (``feature-extraction``), where the model's own is not wanted.
        example: an ``.npz`` of example inputs, as the model takes them, in place of made-up ones or the source's own;
            of an ``.onnx`` file it may hold some of the inputs.

    Raises:
        SourceError: it cannot be loaded or called; says why and what to do.
        UsageError: ``inputs`` or ``dynamic`` is malformed or does not fit.
        EngineError: a package that this kind of source needs is not installed.
    """
    if example is not None:
        return _with_example(spec, _arrays(Path(example)), inputs, dynamic, task)
    if not isinstance(spec, (str, Path)):
        from . import factory

        return factory.load_module(spec, inputs, dynamic)
    text = str(spec)
    path = Path(text.partition("?")[0])
    if task is not None and not (path.is_dir() or _looks_like_hub_id(text)):
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


def _with_example(
    spec: Any, arrays: dict[str, Array], inputs: Sequence[str], dynamic: Sequence[str], task: str | None
) -> Source:
    """See `load_source`: an ONNX file fills in what is missing; elsewhere the arrays are all of the inputs."""
    if isinstance(spec, (str, Path)) and Path(str(spec)).suffix == ".onnx":
        from . import onnx_file

        return onnx_file.load(str(spec), _existing(Path(spec)), inputs, dynamic, arrays)
    described = [flag_for(name, array).removeprefix("--input ") for name, array in arrays.items()]
    program = isinstance(spec, (str, Path)) and Path(str(spec).partition("?")[0]).suffix == ".pt2"
    source = load_source(spec, inputs=inputs if program else [*inputs, *described], dynamic=dynamic, task=task)
    wanted = [item.name for item in source.inputs if item.name not in {pair.input for pair in source.state}]
    if sorted(arrays) != sorted(wanted):
        raise UsageError(f"--example must hold {', '.join(wanted)}, got {', '.join(arrays)}")
    source.use_example({**source.example, **arrays})
    return source


def _arrays(path: Path) -> dict[str, Array]:
    """The arrays of an ``.npz`` by name; pickles are refused."""
    import numpy as np

    try:
        file = np.load(_existing(path), allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise UsageError(f"--example {path} is one array", fix="Save it by name: np.savez(path, input=array)")
        with file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"--example {path} is not an .npz of arrays: {error}", fix="Make it with np.savez(path, input=array)."
        ) from error


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
