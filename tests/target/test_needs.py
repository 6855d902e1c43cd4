"""What is not installed is said at once, whole, and with the line that installs it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from edgekit import plugins
from edgekit.api.export import export
from edgekit.errors import EngineError
from edgekit.target.load import load_target
from edgekit.target.needs import checker_of, refuse_missing
from edgekit.target.toolchain import Toolchain


@pytest.fixture
def engine_gone(monkeypatch: pytest.MonkeyPatch):
    """Make a runtime's engine look uninstalled."""

    def make(name: str, fix: str) -> None:
        def version(self: object) -> str:
            raise EngineError(f"{name} is not installed", fix=fix)

        monkeypatch.setattr(plugins.load("runtimes", name), "version", version)

    return make


@pytest.fixture
def package_gone(monkeypatch: pytest.MonkeyPatch):
    def make(*gone: str) -> None:
        real = metadata.version

        def version(name: str) -> str:
            if name in gone:
                raise metadata.PackageNotFoundError(name)
            return real(name)

        monkeypatch.setattr(metadata, "version", version)

    return make


def refused(target: str, is_here: bool = True) -> EngineError:
    profile = load_target(target)
    with pytest.raises(EngineError) as caught:
        refuse_missing(profile.name, list(map(Toolchain, profile.candidates)), is_here)
    return caught.value


def test_all_of_it_in_one_line(engine_gone, package_gone) -> None:
    engine_gone("litert", "Install it: pip install ai-edge-litert")
    package_gone("litert-torch")
    assert str(refused("cpu-litert")) == (
        "litert is not installed, and litert-torch is missing too. Install it: pip install ai-edge-litert litert-torch"
    )


def test_after_advice_that_is_no_pip_line(engine_gone, package_gone) -> None:
    engine_gone("litert", "Install it: pip install ai-edge-litert. Or take a newer board.")
    package_gone("litert-torch")
    assert refused("cpu-litert").fix.endswith("Or take a newer board. Install it: pip install litert-torch")


def test_an_engine_that_is_its_own_exporter_is_named_once(engine_gone, package_gone) -> None:
    engine_gone("executorch", "Install it: pip install executorch")
    package_gone("executorch")
    assert str(refused("cpu-executorch")) == "executorch is not installed. Install it: pip install executorch"


def test_an_exporter_alone(package_gone) -> None:
    package_gone("executorch")
    assert str(refused("cpu-executorch")) == "executorch is not installed. Install it: pip install executorch"


def test_two_engines_are_told_apart(engine_gone) -> None:
    engine_gone("onnxruntime", "Install it: pip install onnxruntime")
    engine_gone("openvino", "Install it: pip install openvino")
    error = refused("cpu")
    assert error.what == "no candidate of target 'cpu' can be used"
    assert "openvino fp32: openvino is not installed" in error.details
    assert "onnxruntime fp32: onnxruntime is not installed" in error.details


def test_one_engine_is_enough(engine_gone) -> None:
    engine_gone("openvino", "Install it: pip install openvino")
    profile = load_target("cpu")
    refuse_missing(profile.name, list(map(Toolchain, profile.candidates)), is_here=True)


def test_another_machines_engines_are_not_asked(engine_gone) -> None:
    engine_gone("onnxruntime", "")
    profile = load_target("cpu-onnxruntime")
    refuse_missing(profile.name, list(map(Toolchain, profile.candidates)), is_here=False)


def test_a_stand_in_will_do_and_may_be_missing_too(engine_gone) -> None:
    engine_gone("tensorrt", "Install it: pip install tensorrt")
    toolchain = Toolchain(load_target("jetson").candidates[0])
    stand_in = checker_of(toolchain, is_here=True).stand_in
    assert stand_in is not None
    assert (stand_in.runtime, stand_in.reason) == ("onnxruntime", "tensorrt is not installed")
    engine_gone("onnxruntime", "Install it: pip install onnxruntime")
    assert refused("jetson").fix == "Install it: pip install onnxruntime"


def test_it_comes_before_the_model_is_loaded(engine_gone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("def build():\n    raise SystemExit('an hour of work')\n")
    engine_gone("onnxruntime", "Install it: pip install onnxruntime")
    with pytest.raises(EngineError, match="onnxruntime is not installed"):
        export("net.py:build", "cpu-onnxruntime")
