"""Ours and a third party's plug-ins come in by the same door: entry points."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import plugins
from edgekit.errors import EdgekitError, UsageError
from edgekit.target.load import load_target


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What was found is kept for the life of a process; tests install packages within it."""
    plugins._found.cache_clear()
    yield
    plugins._found.cache_clear()


def install(folder: Path, entry_points: str, monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    """Lay out a distribution as pip would, and put it on the import path."""
    info = folder / "acme-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(entry_points)
    for name, text in files.items():
        path = folder / name.replace("__", "/", 1)
        path = path.with_suffix(".toml" if text.startswith("name =") else ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    for module in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        monkeypatch.delitem(sys.modules, module)


def test_ours_are_found_by_their_modules_names() -> None:
    assert {"null", "onnxruntime", "openvino"} <= set(plugins.names("runtimes"))
    assert {"onnx", "openvino_ir"} <= set(plugins.names("exporters"))
    assert "fold_constants" in plugins.names("passes")
    assert "cpu" in plugins.target_files()


def test_private_modules_are_no_plugins() -> None:
    for kind in ("runtimes", "exporters", "passes"):
        assert not [name for name in plugins.names(kind) if name.startswith("_")]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["runtimes", "exporters", "passes"])
def test_every_plugin_is_called_as_its_module(kind: plugins.Kind) -> None:
    for name in plugins.names(kind):
        assert plugins.load(kind, name).name == name


def test_an_unknown_name_has_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"runtime 'onnxruntim' is not known. Did you mean 'onnxruntime'\?"):
        plugins.load("runtimes", "onnxruntim")
    with pytest.raises(UsageError, match=r"pass 'fold_batchnrom' is not known. Did you mean 'fold_batchnorm'\?"):
        plugins.load("passes", "fold_batchnrom")


def test_a_third_partys_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "[edgekit.runtimes]\nacme = acme.engine:Acme\n"
    install(tmp_path, points, monkeypatch, acme____init__="", acme__engine="class Acme:\n    name = 'acme'\n")
    assert "acme" in plugins.names("runtimes")
    assert plugins.load("runtimes", "acme").name == "acme"


def test_a_third_partys_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "[edgekit.passes]\nacme = acme\n"
    install(
        tmp_path,
        points,
        monkeypatch,
        acme____init__="",
        acme__shrink="class Shrink: name = 'shrink'\nPLUGIN = Shrink\n",
    )
    assert plugins.load("passes", "shrink").name == "shrink"


def test_names_import_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "[edgekit.passes]\nacme = acme\n"
    install(tmp_path, points, monkeypatch, acme____init__="", acme__shrink="raise RuntimeError('imported')\n")
    assert "shrink" in plugins.names("passes")


def test_a_module_without_plugin_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "[edgekit.passes]\nacme = acme\n", monkeypatch, acme____init__="", acme__shrink="")
    with pytest.raises(EdgekitError, match=r"acme\.shrink is offered as a plug-in but has no attribute PLUGIN"):
        plugins.load("passes", "shrink")


def test_two_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "[edgekit.runtimes]\nonnxruntime = acme.engine:Acme\n"
    install(tmp_path, points, monkeypatch, acme____init__="", acme__engine="class Acme: ...\n")
    with pytest.raises(EdgekitError, match="both offer runtime 'onnxruntime'") as caught:
        plugins.names("runtimes")
    assert "acme 1.2" in str(caught.value)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "[edgekit.runtimes]\nacme = acme_gone\n", monkeypatch)
    with pytest.raises(EdgekitError, match="an entry point names the package 'acme_gone', which cannot be found"):
        plugins.names("runtimes")


def test_a_third_partys_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = 'name = "acme-board"\nextends = "cpu-arm64"\ndescription = "ACME board"\n'
    points = "[edgekit.targets]\nacme = acme\n"
    install(tmp_path, points, monkeypatch, acme____init__="", **{"acme__acme-board": board})
    assert load_target("acme-board").arch == ("aarch64",)


def test_two_targets_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "[edgekit.targets]\nacme = acme\n"
    install(tmp_path, points, monkeypatch, acme____init__="", acme__cpu='name = "cpu"\n')
    with pytest.raises(EdgekitError, match="two packages offer target 'cpu'"):
        plugins.target_files()
