"""What the user names → a Source: every form of `SOURCE`, and what is said when it is wrong."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from edgekit.errors import SourceError, UsageError
from edgekit.sources.load import load_source
from edgekit.sources.source import Source

from .refusals import Bomb, refusal


class Returns(torch.nn.Module):
    """Returns whatever a function makes of x."""

    def __init__(self, make: object) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor) -> object:
        return self.make(x)  # type: ignore[operator]


def names_of(make: object) -> list[str]:
    return [item.name for item in load_source((Returns(make), torch.randn(2, 3))).outputs]


# Factories


def test_factory_with_parameters(net: Path) -> None:
    source = load_source("net.py:build?width=6")
    assert (source.kind, source.name, source.description) == ("factory", "build", "Net")
    assert [str(item) for item in source.inputs] == ["image float32 1x3x8x8"]
    assert [str(item) for item in source.outputs] == ["output float32 1x6x6x6"]
    assert source.parameters == 6 * 3 * 9 + 6 + 6 + 6
    assert source.module is not None and not source.module.training
    with torch.no_grad():
        want = source.module(torch.from_numpy(source.example["image"])).numpy()
    np.testing.assert_array_equal(source.forward(source.example)["output"], want)


def test_factory_in_a_package(net: Path) -> None:
    assert load_source("net:build").parameters == load_source(f"{net}:build").parameters


def test_what_a_factory_prints_stays_off_stdout(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loud.py").write_text(
        "import torch\nprint('import')\nclass L(torch.nn.Linear):\n"
        "    def forward(self, x):\n        print('forward')\n        return super().forward(x)\n"
        "def build():\n    print('build')\n    return L(2, 2), torch.ones(1, 2)\n"
    )
    source = load_source(f"{tmp_path / 'loud.py'}:build")
    source.forward(source.example)
    said = capfd.readouterr()
    assert said.out == ""
    assert "import" in said.err and "build" in said.err and "forward" in said.err


def test_a_wrong_name_gets_the_nearest(net: Path) -> None:
    assert refusal("net.py:biuld") == "net.py has no 'biuld'. Did you mean 'build'?"
    assert "there is no file nte.py. Did you mean 'net.py'?" in refusal("nte.py:build")
    assert "there is no Python module 'nosuch'" in refusal("nosuch.module:build")
    assert "net.py:constant is a int, not a function" in refusal("net.py:constant")


def test_a_file_alone_lists_what_it_offers(net: Path) -> None:
    message = refusal("net.py")
    assert "'net.py' does not say what to call" in message
    assert "\n  net.py:build\n" in message


def test_a_factory_that_raises_shows_its_own_lines(net: Path) -> None:
    message = refusal("net.py:broken?channels=1")
    assert message.splitlines()[0] == "net.py:broken raised ValueError at net.py:20: expected 3 channels, got 1:"
    assert message.splitlines()[1].strip().startswith("net.py:20 in broken: raise ValueError")
    assert len(message.splitlines()) == 2  # none of edgekit's frames


def test_a_file_with_an_error_in_it(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def build(:\n")
    assert "cannot be read as Python" in refusal(f"{tmp_path / 'bad.py'}:build")
    (tmp_path / "missing.py").write_text("import no_such_package_at_all\n")
    assert "raised ModuleNotFoundError" in refusal(f"{tmp_path / 'missing.py'}:build")


def test_wrong_factory_arguments(net: Path) -> None:
    assert "has no argument 'widht'. Did you mean 'width'?" in refusal("net.py:build?widht=3", UsageError)
    assert "gives 'width' twice" in refusal("net.py:build?width=3&width=4", UsageError)
    assert "does not have the form key=value" in refusal("net.py:build?&", UsageError)


def test_values_are_literals_else_text(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\ndef build(a, b, c):\n    raise RuntimeError(f'{a!r} {b!r} {c!r}')\n"
    )
    assert "raised RuntimeError at" in refusal(f"{tmp_path / 'net.py'}:build?a=[1, 2]&b=tiny&c=None")
    assert "[1, 2] 'tiny' None" in refusal(f"{tmp_path / 'net.py'}:build?a=[1, 2]&b=tiny&c=None")
    assert "the factory needs b, c" in refusal(f"{tmp_path / 'net.py'}:build?a=1", UsageError)


def test_missing_example_inputs_show_the_flag_to_add(net: Path) -> None:
    message = refusal("net.py:bare")
    assert "net.py:bare returned Net without example inputs" in message
    assert "forward takes: image" in message
    assert "--input image:float32:1x3x224x224" in message


def test_example_inputs_from_flags(net: Path) -> None:
    source = load_source("net.py:bare", inputs=["image:float32:1x3x16x16"])
    assert source.outputs[0].shape == (1, 4, 14, 14)
    again = load_source("net.py:bare", inputs=["image:float32:1x3x16x16"])
    np.testing.assert_array_equal(source.example["image"], again.example["image"])
    assert "has no argument 'imgae'. Did you mean 'image'?" in refusal(
        "net.py:bare", UsageError, inputs=["imgae:float32:1x3x16x16"]
    )


def test_wrong_example_shape_names_the_line_of_forward(net: Path) -> None:
    message = refusal("net.py:bare", inputs=["image:float32:1x4x16x16"])
    assert "Net.forward raised RuntimeError at net.py:10" in message
    assert "inputs: image float32 1x4x16x16" in message


def test_half_precision_is_converted_and_said(net: Path) -> None:
    source = load_source("net.py:half")
    assert source.inputs[0].dtype == source.outputs[0].dtype == "float32"
    assert "weights in float16 were converted to float32" in source.notes[0]


def test_example_arrays_of_numpy_keep_their_rank_and_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "scaled.py").write_text(
        """
import numpy as np, torch

class Scaled(torch.nn.Module):
    def forward(self, x, k):
        return x * k

def build():
    return Scaled(), (np.array([[1, 2]], ">f4"), np.array(3.0, np.float32))
"""
    )
    source = load_source(tmp_path / "scaled.py:build")
    assert [spec.shape for spec in source.inputs] == [(1, 2), ()]
    np.testing.assert_array_equal(source.example["x"], [[1, 2]])


def test_what_is_no_module(net: Path) -> None:
    assert "returned the class Net, which is neither" in refusal("net.py:klass")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".bin", ".torchscript"])
def test_pickles_are_refused_unread(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    message = refusal(path)
    assert "can run any code" in message and "weights_only=True" in message and ".pt2" in message
    assert not (tmp_path / "boom").exists()


def test_unknown_sources(tmp_path: Path) -> None:
    other = tmp_path / "model.h5"
    other.write_bytes(b"")
    assert "is not a source that edgekit can read" in refusal(other)
    assert "there is no file" in refusal(tmp_path / "no.onnx")
    assert "without config.json" in refusal(tmp_path)
    assert "--task is for Hugging Face models" in refusal(other, UsageError, task="fill-mask")


# Modules handed over from Python


def test_a_callers_module_is_left_as_it_was() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout()).double().train()
    source = load_source((module, torch.randn(1, 3, dtype=torch.float64)))
    assert module.training and next(module.parameters()).dtype == torch.float64
    assert source.module is not module and source.inputs[0].dtype == "float32"
    assert source.kind == "factory" and source.name == "sequential"


def test_output_names() -> None:
    assert names_of(lambda x: x + 1) == ["output"]
    assert names_of(lambda x: (x + 1, x + 2)) == ["output_0", "output_1"]
    assert names_of(lambda x: {"feat": [x + 1, x + 2], "none": None}) == ["feat.0", "feat.1"]
    assert names_of(lambda x: Pair(x + 1, x + 2)) == ["left", "right"]
    assert names_of(lambda x: {"x": x + 1}) == ["x_out"]
    assert names_of(lambda x: {"a b": x + 1, "a_b": x + 2}) == ["a_b", "a_b_out"]
    assert names_of(lambda x: Named(x + 1, [x + 2])) == ["score", "parts.0"]


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


@dataclasses.dataclass
class Named:
    score: torch.Tensor
    parts: list[torch.Tensor]


def test_outputs_that_are_no_tensor() -> None:
    source = load_source((Returns(lambda x: {"y": x, "n": 3}), torch.randn(2)))
    assert [item.name for item in source.outputs] == ["y"]
    assert "output 'n' is the Python value 3, not a tensor, and is left out" in source.notes
    assert "output 'o' is a object" in refusal((Returns(lambda x: {"y": x, "o": object()}), torch.randn(2)))
    assert "is complex64" in refusal((Returns(lambda x: torch.complex(x, x)), torch.randn(2)))
    assert "returned no tensor" in refusal((Returns(lambda x: None), torch.randn(2)))


class Many(torch.nn.Module):
    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, cache: list[torch.Tensor], scale: float = 1.0
    ) -> torch.Tensor:
        return (ids * mask).sum() * scale + cache[0] + cache[1]


def test_several_nested_and_fixed_inputs() -> None:
    example = {
        "ids": torch.ones(1, 4, dtype=torch.int64),
        "mask": torch.tensor([[True, False, True, True]]),
        "cache": [torch.ones(2), torch.ones(2)],
        "scale": 2.0,
    }
    source = load_source((Many(), example))
    assert [(i.name, i.dtype) for i in source.inputs] == [
        ("ids", "int64"),
        ("mask", "bool"),
        ("cache.0", "float32"),
        ("cache.1", "float32"),
    ]
    np.testing.assert_array_equal(source.forward(source.example)["output"], [8.0, 8.0])
    assert "argument 'scale' is fixed at 2.0" in source.notes


def test_feeds_are_checked() -> None:
    source = load_source((torch.nn.Linear(3, 2), torch.randn(1, 3)))
    for feeds, text in (
        ({}, "input 'input' of Linear is missing"),
        ({"inptu": np.zeros((1, 3), "f4")}, "has no input 'inptu'. Did you mean 'input'?"),
        ({"input": np.zeros((1, 4), "f4")}, "'input' must have the shape 1x3, got 1x4"),
        ({"input": np.zeros((1, 3))}, "'input' must be float32, got float64"),
    ):
        with pytest.raises(SourceError, match=text.replace("?", r"\?")):
            source.forward(feeds)


def test_forward_cannot_change_the_feeds() -> None:
    source = load_source((Returns(lambda x: x.mul_(2)), torch.ones(2)))
    feeds = {"x": np.ones(2, "f4")}
    np.testing.assert_array_equal(source.forward(feeds)["output"], [2, 2])
    np.testing.assert_array_equal(feeds["x"], [1, 1])


def test_layers_come_in_execution_order_as_copies() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU(inplace=True), torch.nn.Linear(3, 2))
    source = load_source((module, torch.randn(4, 3)))
    found = list(source.layers(source.example))
    assert [path for path, _ in found] == ["0", "1", "2"]
    assert (found[0][1] < 0).any() and (found[1][1] >= 0).all()
    np.testing.assert_array_equal(found[2][1], source.forward(source.example)["output"])


def test_a_model_that_answers_differently_each_time() -> None:
    message = refusal((Returns(lambda x: x + torch.rand_like(x)), torch.ones(2)))
    assert "two calls of forward with the same inputs gave different outputs" in message


# Free dimensions


def test_dynamic_dimensions_are_named_and_shared() -> None:
    class Add(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return torch.cat([a + b, a], 1)

    example = (torch.randn(1, 5), torch.randn(1, 5))
    source = load_source((Add(), example), dynamic=["a:0", "b:0", "a:1=seq", "b:1=seq"])
    assert [item.shape for item in source.inputs] == [("batch", "seq"), ("batch", "seq")]
    assert source.outputs[0].shape == ("batch", "2*seq")
    feeds = {"a": np.ones((3, 7), "f4"), "b": np.ones((3, 7), "f4")}
    assert source.forward(feeds)["output"].shape == (3, 14)
    # Default names give way to each other where the model needs the sizes to be equal …
    source = load_source((Add(), example), dynamic=["a:1", "b:-1"])
    assert [item.shape for item in source.inputs] == [(1, "a_dim1"), (1, "a_dim1")]
    # … chosen ones do not.
    message = refusal((Add(), example), dynamic=["a:1=left", "b:1=right"])
    assert "the model needs 'left' (input 'a') and 'right' (input 'b') to be equal" in message


def test_dynamic_flags_that_do_not_fit() -> None:
    pair = (torch.nn.Linear(3, 2), torch.randn(1, 3))
    assert "does not have the form NAME:AXIS" in refusal(pair, UsageError, dynamic=["input"])
    assert "has no input 'inptu'. Did you mean 'input'?" in refusal(pair, UsageError, dynamic=["inptu:0"])
    assert "AXIS must be below 2, got 2" in refusal(pair, UsageError, dynamic=["input:2"])
    module = Returns(lambda x: x[0] + x[1])
    both = {"x": [torch.ones(2), torch.ones(3)]}
    assert "is 2 in input 'x.0' (axis 0) and 3 in input 'x.1'" in refusal(
        (module, both), dynamic=["x.0:0", "x.1:0"]
    ) or "forward raised" in refusal((module, both))


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("image", "does not have the form NAME:DTYPE:SHAPE"),
        ("image:flaot32:1x3", "'flaot32' is not a dtype of an input. Did you mean 'float32'?"),
        ("image:float32:1x-3", "'-3' is not a dimension"),
        ("image:float32:1x0", "'0' is not a dimension"),
    ],
)
def test_malformed_input_flags(flag: str, text: str) -> None:
    assert text in refusal(torch.nn.Linear(3, 2), UsageError, inputs=[flag])


def test_input_flags_make_free_dimensions() -> None:
    source = load_source(torch.nn.Embedding(10, 4), inputs=["input:int64:batchxseq=12"])
    assert source.inputs[0].shape == ("batch", "seq")
    assert source.example["input"].shape == (1, 12) and set(source.example["input"].ravel()) <= {0, 1}
    assert source.outputs[0].shape == ("batch", "seq", 4)
    commas = load_source(torch.nn.Embedding(10, 4), inputs=["input:int64:1,max_len"])
    assert commas.inputs[0].shape == (1, "max_len")


def test_json_holds_no_weights_and_no_example(net: Path) -> None:
    import json

    table = json.loads(json.dumps(load_source("net.py:build").to_json()))
    assert table["inputs"] == [{"name": "image", "dtype": "float32", "shape": [1, 3, 8, 8]}]
    facts = {"spec", "kind", "name", "description", "parameters", "inputs", "outputs", "notes"}
    assert set(table) == facts | {"made_up", "precision", "quantized", "state", "state_found"}


def test_importing_edgekit_source_does_not_import_torch() -> None:
    heavy = "{'torch', 'onnx', 'onnx_ir', 'PIL'}"
    code = f"import sys, edgekit.sources.load, edgekit.data.load; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_source_is_printable(net: Path) -> None:
    source: Source = load_source("net.py:build")
    assert str(source) == "net.py:build   Net, 120 parameters   image float32 1x3x8x8"
