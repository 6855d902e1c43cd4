"""Each operator of a quantized graph alone, with the quantizers around it: to find the one a compiler chokes on."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

_CARRIERS = ("QuantizeLinear", "DequantizeLinear", "Constant")


def units(model: ir.Model) -> Iterator[tuple[list[ir.Node], ir.Model]]:
    """Every distinct operator of the main graph as a model of its own, with the nodes that are like it.

    Two are alike where operator, attributes, and the types and shapes of their quantized inputs and outputs are.
    """
    found: dict[tuple[object, ...], list[ir.Node]] = {}
    for node in model.graph:
        if node.op_type not in _CARRIERS:
            found.setdefault(_signature(node), []).append(node)
    for nodes in found.values():
        inputs, outputs = _ends(nodes[0])
        if inputs and outputs:
            graph = ir.convenience.extract(model.graph, inputs, outputs)
            yield nodes, ir.Model(graph, ir_version=model.ir_version)


def _ends(node: ir.Node) -> tuple[list[ir.Value], list[ir.Value]]:
    """Where to cut: before the QuantizeLinear of each computed input, behind the DequantizeLinear of each output."""
    inputs = dict.fromkeys(_start(value) for value in node.inputs if value is not None and not _constant(value))
    outputs = dict.fromkeys(_end(value) for value in node.outputs if value.uses() or value.is_graph_output())
    return list(inputs), list(outputs)


def _start(value: ir.Value) -> ir.Value:
    for operator in ("DequantizeLinear", "QuantizeLinear"):
        maker = value.producer()
        if maker is None or maker.op_type != operator or maker.inputs[0] is None:
            return value
        value = maker.inputs[0]
    return value


def _end(value: ir.Value) -> ir.Value:
    for operator in ("QuantizeLinear", "DequantizeLinear"):
        readers = value.consumers()
        if len(readers) != 1 or readers[0].op_type != operator:
            return value
        value = readers[0].outputs[0]
    return value


def _constant(value: ir.Value) -> bool:
    """Whether a value is a constant, or one behind a DequantizeLinear."""
    if ir.convenience.get_const_tensor(value) is not None:
        return True
    maker = value.producer()
    return (
        maker is not None
        and maker.op_type == "DequantizeLinear"
        and ir.convenience.get_const_tensor(maker.inputs[0]) is not None  # type: ignore[arg-type]
    )


def _signature(node: ir.Node) -> tuple[object, ...]:
    def kind(value: ir.Value | None) -> tuple[object, ...]:
        if value is None:
            return ()
        maker = value.producer()
        stored = maker.inputs[0] if maker is not None and maker.op_type == "DequantizeLinear" else value
        return (str(stored.dtype if stored is not None else None), str(value.shape), _constant(value))

    attributes = tuple(sorted((name, str(item.value)) for name, item in node.attributes.items()))
    return (node.domain, node.op_type, attributes, *map(kind, node.inputs))
