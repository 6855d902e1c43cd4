"""The digits example: its data, its network, and the demo that exports it."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from edgekit.cli import main
from edgekit.errors import OutputError
from edgekit.examples.digits import BUNDLE, COMMAND, data, demo, net, run_demo
from edgekit.results import ExportResult


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return run_demo(tmp_path_factory.mktemp("work") / "edgekit-demo")


def test_the_split_is_even_and_nothing_is_on_both_sides(tmp_path: Path) -> None:
    train, test, train_labels, test_labels = data.load()
    assert train.shape == (898, 1, 32, 32)
    assert test.shape == (899, 1, 32, 32)
    assert train.dtype == test.dtype == np.float32
    assert train.min() >= 0
    assert train.max() <= 1
    assert np.abs(np.bincount(train_labels) - np.bincount(test_labels)).max() <= 1
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}

    data.write(tmp_path)
    with np.load(tmp_path / "calibration.npz") as calibration:
        assert calibration.files == ["image"]
        np.testing.assert_array_equal(calibration["image"], train[: data.CALIBRATION_SAMPLES])
    with np.load(tmp_path / "test.npz") as kept:
        np.testing.assert_array_equal(kept["image"], test)
        np.testing.assert_array_equal(kept["labels"], test_labels)


def test_the_command_is_one_that_export_takes() -> None:
    from edgekit.cli.export import command

    words = shlex.split(COMMAND)
    assert words[:2] == ["edgekit", "export"]
    values = command.make_context("export", words[2:]).params
    assert values["source"] == "net.py:build"
    assert values["data"] == "test.npz"
    assert values["max_drop"] == demo.MAX_DROP
    assert values["output"] == BUNDLE


@pytest.mark.slow
def test_what_it_prints_as_json_is_what_the_schema_says(
    done: ExportResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command itself, with the demo that ran for all these tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "run_demo", lambda folder, **_: done)
    printed = CliRunner().invoke(main, ["demo", "--json", "-q"])
    assert printed.exit_code == 0, printed.stderr
    value = json.loads(printed.stdout)
    schema = Path(__file__).parents[2] / "docs" / "schemas" / "demo.schema.json"
    jsonschema.validate(value, json.loads(schema.read_text("utf-8")), jsonschema.Draft202012Validator)
    assert value["chosen"] == done.chosen and value["calibration"]["real"] is True


@pytest.mark.slow
def test_the_demo_ships_an_accurate_bundle(done: ExportResult) -> None:
    metric = done.pick.metric
    assert metric is not None
    assert metric.samples == 899
    assert metric.reference >= 0.975
    assert metric.drop <= demo.MAX_DROP
    assert any(item.precision == "int8" and item.rejected is None for item in done.candidates)
    assert done.size_bytes <= (done.fp32_size_bytes or 0)
    assert done.calibration["same_data_as_checked"] is False


@pytest.mark.slow
def test_its_folder_holds_all_that_doing_it_by_hand_needs(done: ExportResult) -> None:
    folder = done.bundle.parent
    assert sorted(path.name for path in folder.iterdir()) == [
        "calibration.npz", "data.py", BUNDLE, "net.py", "test.npz", "train.npz", net.WEIGHTS,
    ]  # fmt: skip
    for name in ("net.py", "data.py"):
        assert (folder / name).read_bytes() == Path(demo.__file__).with_name(name).read_bytes()


@pytest.mark.slow
def test_the_bundle_runs_its_self_test(done: ExportResult) -> None:
    import subprocess
    import sys

    tested = subprocess.run([sys.executable, "run.py"], cwd=done.bundle, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A folder as an earlier demo leaves it, as far as the code and the weights go."""
    for name in ("net.py", "data.py"):
        shutil.copy(Path(demo.__file__).with_name(name), tmp_path)
    (tmp_path / net.WEIGHTS).write_bytes(b"weights")
    return tmp_path


def test_an_earlier_demo_keeps_its_weights(earlier: Path) -> None:
    demo._copy_code(earlier, overwrite=False)
    assert (earlier / net.WEIGHTS).read_bytes() == b"weights"


def test_a_demo_killed_early_is_gone_on_with(earlier: Path) -> None:
    (earlier / "data.py").unlink()
    demo._copy_code(earlier, overwrite=False)
    assert (earlier / "data.py").is_file()


def test_a_changed_network_is_not_overwritten_unasked(earlier: Path) -> None:
    (earlier / "net.py").write_text("mine = 1\n")
    with pytest.raises(OutputError, match=r"net\.py' was changed since the demo that wrote it") as caught:
        run_demo(earlier)
    assert "--overwrite" in str(caught.value)
    assert (earlier / "net.py").read_text() == "mine = 1\n"

    demo._copy_code(earlier, overwrite=True)
    assert (earlier / "net.py").read_bytes() == Path(demo.__file__).with_name("net.py").read_bytes()
    assert not (earlier / net.WEIGHTS).exists()  # they were another network's


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(OutputError, match="holds other files than an earlier demo"):
        run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_its_place_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "edgekit-demo").write_text("")
    with pytest.raises(OutputError, match=r"cannot write to .*edgekit-demo"):
        run_demo(tmp_path / "edgekit-demo")
