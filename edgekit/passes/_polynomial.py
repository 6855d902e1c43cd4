"""Recognise a formula by its algebra, however an exporter wrote it down.

A value computed from x by Add, Sub, Mul, Div, Neg and Pow with constant numbers is a polynomial in x. Two ways to
write a formula are the same formula exactly where their polynomials agree, so one comparison stands for every order,
every distribution of a factor, and every choice of dividing or multiplying.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from ._rewriting import is_onnx, rank_of, scalar

Polynomial = dict[tuple[int, ...], float]
"""Exponents of the variables → coefficient: with variables (x, e), ½·x·e is ``{(1, 1): 0.5}``."""

# Enough for GELU's cubic inside a few factors; a guard against walking through a whole network.
_DEGREE = 8
_DEPTH = 12
# Exporters round √2 and √(2/π) to float32 (relative error 6e-8) or to a few more or fewer digits: 1.4142, 0.79788456.
_RELATIVE = 5e-5


def polynomial(
    value: ir.Value, variables: tuple[ir.Value, ...], used: set[ir.Node], depth: int = _DEPTH
) -> Polynomial | None:
    """``value`` as a polynomial of ``variables``, or None where it is none.

    Args:
        value: what to express.
        variables: the unknowns; of them, constants and nothing else the value may be made.
        used: the nodes on the way are added to it.
        depth: how many nodes may lie on the way.
    """
    if value in variables:
        return {tuple(int(value is variable) for variable in variables): 1.0}
    number = scalar(value, rank_of(variables[0]))
    if number is not None:
        return {(0,) * len(variables): number}
    node = value.producer()
    if depth == 0 or not is_onnx(node, "Add", "Sub", "Mul", "Div", "Neg", "Pow") or node is None:
        return None
    terms = [None if item is None else polynomial(item, variables, used, depth - 1) for item in node.inputs]
    left, right = terms[0], terms[-1]
    if left is None or right is None:
        return None
    used.add(node)
    zero = (0,) * len(variables)
    if node.op_type == "Neg":
        return _times(left, {zero: -1.0})
    if node.op_type in ("Add", "Sub"):
        return _plus(left, right if node.op_type == "Add" else _times(right, {zero: -1.0}))
    if node.op_type == "Mul":
        return _times(left, right)
    number = right.get(zero) if set(right) == {zero} else None
    if number is None or number == 0.0:
        return None
    if node.op_type == "Div":
        return _times(left, {zero: 1.0 / number})
    return _power(left, int(number)) if number in (1.0, 2.0, 3.0) else None


def equals(found: Polynomial | None, wanted: Polynomial) -> bool:
    """Whether two polynomials are the same up to the rounding of their written-down constants."""
    if found is None:
        return False
    scale = max(map(abs, wanted.values()))
    return all(
        abs(found.get(term, 0.0) - wanted.get(term, 0.0)) <= _RELATIVE * abs(wanted.get(term, scale))
        for term in {*found, *wanted}
    )


def ancestors(value: ir.Value, depth: int) -> Iterable[ir.Value]:
    """``value`` and what it is computed from within ``depth`` nodes, the nearest first."""
    seen, layer = {value}, [value]
    for _ in range(depth + 1):
        yield from layer
        makers = [maker for item in layer if (maker := item.producer()) is not None]
        layer = [item for maker in makers for item in maker.inputs if item is not None and item not in seen]
        layer = list(dict.fromkeys(layer))
        seen.update(layer)


def _plus(left: Polynomial, right: Polynomial | None) -> Polynomial | None:
    if right is None:
        return None
    return {term: left.get(term, 0.0) + right.get(term, 0.0) for term in {**left, **right}}


def _power(base: Polynomial, exponent: int) -> Polynomial | None:
    result: Polynomial | None = base
    for _ in range(exponent - 1):
        result = None if result is None else _times(result, base)
    return result


def _times(left: Polynomial, right: Polynomial) -> Polynomial | None:
    product: Polynomial = {}
    for one, a in left.items():
        for other, b in right.items():
            term = tuple(map(sum, zip(one, other, strict=True)))
            product[term] = product.get(term, 0.0) + a * b
    return product if all(sum(term) <= _DEGREE for term in product) else None
