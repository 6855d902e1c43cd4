"""A PyTorch module seen from outside as tensors in, tensors out, whatever its ``forward`` takes and returns."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from .. import user_code
from ..contracts import Array, Feeds, describe
from ..errors import SourceError
from . import tree

PREFIX = "model"
"""The attribute that holds the user's module: exported module paths begin with it."""


class FlatModule(torch.nn.Module):
    """Calls ``model`` with the arguments ``args`` and ``kwargs``, their tensors replaced by those it is given.

    Returns a tuple of the tensors in the result, in order. What is no tensor in the arguments (a flag, None) stays as
    it is in every call; ``fixed`` names those.
    """

    def __init__(self, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.training = False  # not eval(): an exported program's module has none, and the others are in it already
        self.arguments = _Hidden((args, kwargs))
        named = named_arguments(model, args, kwargs)
        found = [(path, leaf) for name, value in named for path, leaf in _under(name, value)]
        tensors = [(path, leaf) for path, leaf in found if isinstance(leaf, torch.Tensor)]
        self.input_names = tree.input_names(path for path, _ in tensors)
        self.tensors = _Hidden(tuple(leaf for _, leaf in tensors))
        self.fixed = {".".join(path): leaf for path, leaf in found if not isinstance(leaf, torch.Tensor)}

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The tensors that ``model`` returns for these input tensors (which it must not be able to change)."""
        return self.called(tensors)

    @contextlib.contextmanager
    def holding(self, tensors: Sequence[torch.Tensor]) -> Iterator[Sequence[torch.Tensor]]:
        """For a call of ``model`` with ``tensors`` that is made elsewhere: those of them that are its arguments."""
        yield tensors

    def called(self, tensors: Iterable[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The tensors that ``model`` returns for its own arguments."""
        args, kwargs = self.rebuilt(tensors)
        with user_code.users_output():
            result = self.model(*args, **kwargs)
        return tuple(leaf for _, leaf in tree.leaves(result) if isinstance(leaf, torch.Tensor))

    def rebuilt(self, tensors: Iterable[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call of ``model`` with these input tensors."""
        args, kwargs = tree.rebuild(self.arguments.value, tensors)
        return args, kwargs

    def result(self) -> Any:
        """What ``model`` returns for the example arguments, as it is."""
        args, kwargs = self.rebuilt(tensor.clone() for tensor in self.tensors.value)
        with torch.no_grad(), user_code.users_output():
            return self.model(*args, **kwargs)


class _Hidden:
    """Keeps a value out of nn.Module's registration and of torch.export's search for attributes."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _under(name: str, value: Any) -> list[tuple[tuple[str, ...], Any]]:
    return [((name, *path), leaf) for path, leaf in tree.leaves(value)]


def argument_names(model: torch.nn.Module) -> list[str]:
    """The names of ``forward``'s arguments, in order; ``*args`` and ``**kwargs`` are left out."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [item.name for item in inspect.signature(model.forward).parameters.values() if item.kind not in kinds]


def required_arguments(model: torch.nn.Module) -> list[str]:
    """The names of ``forward``'s arguments that have no default."""
    parameters = inspect.signature(model.forward).parameters
    return [name for name in argument_names(model) if parameters[name].default is inspect.Parameter.empty]


def named_arguments(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Any]]:
    """(name, value) of every argument in the order of the call, named as ``forward`` names it.

    Raises:
        SourceError: ``forward`` does not take these arguments.
    """
    try:
        bound = inspect.signature(model.forward).bind(*args, **kwargs)
    except TypeError as error:
        raise SourceError(
            f"the example inputs do not fit {type(model).__name__}.forward: {error}",
            fix=f"It takes {', '.join(argument_names(model)) or 'nothing'}.",
        ) from error
    parameters = bound.signature.parameters
    named: list[tuple[str, Any]] = []
    for name, value in bound.arguments.items():
        if parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            named += [(f"{name}_{index}", item) for index, item in enumerate(value)]
        elif parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            named += list(value.items())
        else:
            named.append((name, value))
    return named


def to_numpy(tensor: torch.Tensor) -> Array:
    """A fresh numpy copy."""
    array: Array = tensor.detach().cpu().resolve_conj().resolve_neg().clone().contiguous().numpy()
    return array


def forward_failure(spec: str, module: torch.nn.Module, error: Exception, feeds: Feeds) -> SourceError:
    """The error to raise when ``forward`` raised one."""
    shapes = ", ".join(f"{name} {describe(array)}" for name, array in feeds.items())
    return SourceError(
        f"{spec}: {type(module).__name__}.forward {user_code.raised(error)}",
        details=(f"inputs: {shapes}", *user_code.lines(error.__traceback__)),
    )
