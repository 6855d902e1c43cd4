"""A ``.onnx`` file: checked, its external data confined to its folder, inputs and outputs read; weights are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
import onnx_ir as ir

from ..contracts import Array, TensorSpec, describe
from ..errors import SourceError, UsageError, suggestion
from .flags import BATCH_NAMES, FreeAxis, InputFlag, check_sizes, parse_dynamic, parse_input
from .quantized import quantized_form
from .source import Source

_DEFAULT_SIZE = 32
_LFS = b"version https://git-lfs.github.com/"
_NAMELESS = ("", "?", "none", "unk", "unknown", "dynamic", "-")


def load(
    spec: str,
    path: Path,
    inputs: Sequence[str],
    dynamic: Sequence[str],
    example: Mapping[str, Array] = MappingProxyType({}),
) -> Source:
    """Open ``path``.

    ``inputs`` may fix a dimension that the file leaves free (``x:float32:1x3x64x64``), give it an example size
    (``x:float32:batchx3xh=64xw=64``), or give the value of an input (``sr=16000``); ``dynamic`` may name one that the
    file leaves unnamed. ``example``: arrays for some inputs, as the model takes them.

    Raises:
        SourceError: the file is damaged, fails onnx's checker, or has data outside its folder.
        UsageError: a flag does not fit the file.
    """
    model = open_model(path)
    graph = model.graph
    values = [value for value in graph.inputs if value.name not in graph.initializers]
    if not values:
        raise SourceError(f"{spec} has no inputs")
    specs = [_spec(spec, value) for value in values]
    flags = {flag.name: flag for flag in map(parse_input, inputs)}
    for name in flags:
        if name not in {item.name for item in specs}:
            raise UsageError(
                f"--input '{name}': {spec} has no such input", fix=suggestion(name, [s.name for s in specs])
            )
    fixed: dict[str, int] = {}
    numbers = {name: flag.value for name, flag in flags.items() if flag.value is not None}
    flags = {name: flag for name, flag in flags.items() if flag.value is None}
    specs = [_apply(item, flags.get(item.name), fixed) for item in specs]
    specs = [
        TensorSpec(s.name, s.dtype, tuple(fixed.get(d, d) if isinstance(d, str) else d for d in s.shape)) for s in specs
    ]
    axes = [parse_dynamic(text, [(s.name, len(s.shape)) for s in specs], {}) for text in dynamic]
    specs = [_rename(item, axes, given=item.name in flags and bool(fixed)) for item in specs]
    sized = {**_sizes_given(specs, flags), **_sizes_of(spec, specs, example)}
    sizes = {**_guessed_sizes(specs), **sized}
    arrays = {item.name: _example(item, sizes, numbers.get(item.name), example.get(item.name)) for item in specs}
    quantized = quantized_form(model)
    floats = sum(tensor.size for tensor in _tensors(model) if tensor.dtype.is_floating_point())
    return Source(
        spec=spec,
        kind="onnx",
        name=path.stem,
        description=_description(model),
        inputs=tuple(specs),
        outputs=tuple(_output(spec, value, fixed) for value in graph.outputs),
        example=arrays,
        parameters=quantized.parameters if quantized else floats,
        quantized=quantized,
        path=path,
        made=frozenset(arrays) - numbers.keys() - example.keys(),
        guessed=frozenset(_free(specs)) - sized.keys(),
        notes=tuple(f"dimension '{dim}' was fixed at {size} by --input" for dim, size in fixed.items()),
    )


def open_model(path: Path) -> ir.Model:
    """Check the file and open it; weights stay in it, mapped when they are read.

    Raises:
        SourceError: see `load`.
    """
    try:
        with path.open("rb") as file:
            pointer = file.read(len(_LFS)) == _LFS
        if pointer:
            raise SourceError(
                f"{path} is a pointer of Git LFS, not the model itself", fix="Fetch it with git lfs pull."
            )
        model = ir.load(path)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{path} is not an ONNX model: {_one_line(error)}") from error
    if not model.graph.outputs:
        raise SourceError(f"{path} is not an ONNX model: its graph has no outputs")
    _confine(path, model)
    try:
        onnx.checker.check_model(str(path))  # by path: it follows external data, and files above 2 GB work
    except Exception as error:
        no_shape = "Field 'shape'" in str(error)
        raise SourceError(
            f"{path} fails onnx's checker: {_one_line(error)}",
            fix=f"Let onnx infer the shapes: onnx.shape_inference.infer_shapes_path('{path.name}')"
            if no_shape
            else "Export it again, or repair it with onnx.helper.",
        ) from error
    return model


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")


def _tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Every constant tensor of the model: weights of the graph and its sub-graphs, and tensors in attributes."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
    nodes = [*model.graph.all_nodes(), *(node for f in model.functions.values() for node in f.all_nodes())]
    for node in nodes:
        for attribute in node.attributes.values():
            if (
                isinstance(attribute, ir.Attr)
                and attribute.type == ir.AttributeType.TENSOR
                and attribute.value is not None
            ):
                yield attribute.as_tensor()
            elif isinstance(attribute, ir.Attr) and attribute.type == ir.AttributeType.TENSORS:
                yield from attribute.as_tensors()


def _confine(path: Path, model: ir.Model) -> None:
    """External data must be whole files inside the model's own folder.

    Raises:
        SourceError: an absolute path, one with ``..``, a link that leads out, a missing or a short file.
    """
    folder = path.parent.resolve()
    for tensor in _tensors(model):
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        location = str(tensor.location)
        where = f"tensor '{tensor.name}' of {path} lies in '{location}'"
        target = (folder / location).resolve()
        if Path(location).is_absolute() or ".." in Path(location).parts or not target.is_relative_to(folder):
            raise SourceError(
                f"{where}, outside the model's folder, which is refused",
                fix="Keep external data beside the .onnx file: onnx.save(model, path, save_as_external_data=True)",
            )
        if not target.is_file():
            raise SourceError(f"{where}, which is not there", fix="Copy the data file beside the .onnx file.")
        size, end = target.stat().st_size, int(tensor.offset or 0) + int(tensor.length or 0)
        if end > size:
            raise SourceError(f"{where}, which is truncated: {end} bytes are needed, but it has {size}")


def _spec(spec: str, value: ir.Value) -> TensorSpec:
    if not isinstance(value.type, ir.TensorType):
        raise SourceError(
            f"input '{value.name}' of {spec} is a {value.type or 'value of no stated type'}, not a tensor"
        )
    if value.shape is None:
        raise SourceError(
            f"input '{value.name}' of {spec} has no stated shape",
            fix="Set it with onnx.tools.update_model_dims, or export it again.",
        )
    return TensorSpec(str(value.name), _dtype(value.type.dtype), _dims(str(value.name), value.shape))


def _dtype(dtype: ir.DataType) -> str:
    return "string" if dtype == ir.DataType.STRING else np.dtype(dtype.numpy()).name


def _dims(name: str, shape: ir.Shape) -> tuple[int | str, ...]:
    """Sizes; a free dimension by its name, or by ``batch`` or ``NAME_dimAXIS`` where the file gives it none."""
    return tuple(
        size
        if isinstance(size, int) and size >= 0
        else _dim_name(None if isinstance(size, int) else size.value, "batch" if axis == 0 else f"{name}_dim{axis}")
        for axis, size in enumerate(shape)
    )


def _dim_name(name: str | None, otherwise: str) -> str:
    """The file's name of a free dimension; what other exporters write for "unknown" (-1, ``?``, '') is none."""
    text = (name or "").strip()
    return otherwise if text.lower() in _NAMELESS or text.lstrip("-").isdigit() else str(name)


def _apply(item: TensorSpec, flag: InputFlag | None, fixed: dict[str, int]) -> TensorSpec:
    """Check ``--input`` against what the file says; a number for a free dimension fixes it (kept in ``fixed``)."""
    if flag is None:
        return item
    if flag.dtype != item.dtype:
        raise UsageError(f"--input '{item.name}': the file says {item.dtype}, got {flag.dtype}")
    if len(flag.shape) != len(item.shape):
        raise UsageError(f"--input '{item.name}': the file says {item}, got {len(flag.shape)} dimensions")
    for axis, (want, got) in enumerate(zip(item.shape, flag.shape, strict=True)):
        if isinstance(want, int):
            if axis in flag.free or want != got:
                raise UsageError(f"--input '{item.name}': the file fixes dimension {axis} at {want}")
        elif axis not in flag.free and fixed.setdefault(want, got) != got:
            raise UsageError(f"--input '{item.name}': dimension '{want}' is both {fixed[want]} and {got}")
    return item


def _rename(item: TensorSpec, axes: Sequence[FreeAxis], *, given: bool) -> TensorSpec:
    """``item`` with the names of ``--dynamic``. ``given``: sizes of it may be those of ``--input``, not the file's."""
    shape = list(item.shape)
    for axis in axes:
        if axis.input != item.name:
            continue
        if isinstance(shape[axis.axis], int):
            if given:
                raise UsageError(
                    f"--dynamic {item.name}:{axis.axis}: --input gives this dimension the size {shape[axis.axis]}",
                    fix=f"Where the file leaves it free, name it there: {axis.dim}={shape[axis.axis]}",
                )
            raise UsageError(
                f"--dynamic {item.name}:{axis.axis}: the file has fixed this dimension at {shape[axis.axis]}",
                fix="Free it where the file is made, at export.",
            )
        if axis.chosen:
            shape[axis.axis] = axis.dim
    return TensorSpec(item.name, item.dtype, tuple(shape))


def _free(specs: Sequence[TensorSpec]) -> Iterator[str]:
    return (dim for spec in specs for dim in spec.shape if isinstance(dim, str))


def _sizes_given(specs: Sequence[TensorSpec], flags: Mapping[str, InputFlag]) -> dict[str, int]:
    """Free dimension → the size that ``--input`` gives it in the example.

    Raises:
        SourceError: two of them give it different ones.
    """
    axes = [
        FreeAxis(spec.name, axis, dim, True)
        for spec in specs
        if spec.name in flags
        for axis, dim in enumerate(spec.shape)
        if isinstance(dim, str) and axis in flags[spec.name].given
    ]
    shapes = {name: np.empty(flag.shape, np.uint8) for name, flag in flags.items()}
    check_sizes(axes, shapes)
    return {axis.dim: shapes[axis.input].shape[axis.axis] for axis in axes}


def _guessed_sizes(specs: Sequence[TensorSpec]) -> dict[str, int]:
    """One size for each free dimension, wherever it stands: 1 for what stands first somewhere or is called a batch."""
    first = {spec.shape[0] for spec in specs if spec.shape}
    return {dim: 1 if dim in first or dim in BATCH_NAMES else _DEFAULT_SIZE for dim in _free(specs)}


def _sizes_of(spec: str, specs: Sequence[TensorSpec], example: Mapping[str, Array]) -> dict[str, int]:
    """Free dimension → its size in the arrays of ``--example``.

    Raises:
        UsageError: one is of no input, or does not fit the file.
        SourceError: two give one dimension different sizes.
    """
    known = {item.name: item for item in specs}
    for name, array in example.items():
        if name not in known:
            raise UsageError(f"--example: {spec} has no input '{name}'", fix=suggestion(name, list(known)))
        item = known[name]
        fits = len(array.shape) == len(item.shape) and all(
            isinstance(want, str) or want == got for want, got in zip(item.shape, array.shape, strict=True)
        )
        if not fits or array.dtype.name != item.dtype:
            raise UsageError(f"--example: input '{name}' must be {item}, got {describe(array)}")
    free = [
        FreeAxis(item.name, axis, dim, True)
        for item in specs
        if item.name in example
        for axis, dim in enumerate(item.shape)
        if isinstance(dim, str)
    ]
    check_sizes(free, dict(example))
    return {axis.dim: example[axis.input].shape[axis.axis] for axis in free}


def _example(item: TensorSpec, by_name: Mapping[str, int], value: float | None, given: Array | None) -> Array:
    if given is not None:
        return given
    sizes = tuple(by_name[size] if isinstance(size, str) else size for size in item.shape)
    if item.dtype == "string":
        return np.full(sizes, "a", dtype=object)
    return InputFlag(item.name, item.dtype, sizes, {}, value=value).make()


def _output(spec: str, value: ir.Value, fixed: dict[str, int]) -> TensorSpec:
    name = str(value.name)
    if not isinstance(value.type, ir.TensorType) or value.shape is None:
        raise SourceError(f"output '{name}' of {spec} is a {value.type}, not a tensor")
    return TensorSpec(
        name,
        _dtype(value.type.dtype),
        tuple(
            _fixed(size, axis, value.shape, name, fixed) if isinstance(size, str) else size
            for axis, size in enumerate(_dims(name, value.shape))
        ),
    )


def _fixed(dim: str, axis: int, shape: ir.Shape, output: str, fixed: Mapping[str, int]) -> int | str:
    """The size that ``--input`` gives a dimension by the file's name of it: a name that is ours says nothing here."""
    given = shape[axis]
    named = not isinstance(given, int) and _dim_name(given.value, "") == dim
    if dim not in fixed:
        return dim
    return fixed[dim] if named else f"{output}_dim{axis}"


def _description(model: ir.Model) -> str:
    producer = " ".join(part for part in (model.producer_name, model.producer_version) if part)
    return f"ONNX opset {model.opset_imports.get('', 0)}{f' by {producer}' if producer else ''}"
