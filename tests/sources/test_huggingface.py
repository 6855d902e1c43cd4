"""Hugging Face models from a directory: class, task and example inputs as the config tells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.errors import SourceError, UsageError
from edgekit.sources.load import load_source

transformers = pytest.importorskip("transformers")
pytest.importorskip("optimum.exporters.onnx")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf") / "tiny-bert"
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=40, num_labels=3,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).half().save_pretrained(folder)
    return folder


def refusal(spec: object, kind: type[Exception] = SourceError, **options: object) -> str:
    with pytest.raises(kind) as caught:
        load_source(str(spec), **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_task_and_inputs_come_from_the_config(bert: Path) -> None:
    source = load_source(bert)
    assert (source.kind, source.name) == ("huggingface", "tiny-bert")
    assert source.description == "BertForSequenceClassification, task text-classification"
    assert [str(item) for item in source.inputs] == [
        f"{name} int64 1x40" for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    assert [str(item) for item in source.outputs] == ["logits float32 1x3"]  # saved in half, computed in single
    again = load_source(bert)
    np.testing.assert_array_equal(source.example["input_ids"], again.example["input_ids"])


def test_another_task_and_a_free_length(bert: Path) -> None:
    names = ("input_ids", "attention_mask", "token_type_ids")
    source = load_source(bert, task="feature-extraction", dynamic=[f"{name}:1" for name in names])
    assert source.inputs[0].shape == (1, "sequence_length")
    assert source.outputs[0].name == "last_hidden_state" and source.outputs[0].shape == (1, "sequence_length", 16)
    feeds = {name: np.ones((1, 7), "i8") for name in names}
    assert source.forward(feeds)["last_hidden_state"].shape == (1, 7, 16)
    assert "is not known. Did you mean 'fill-mask'?" in refusal(bert, UsageError, task="fill-maks")
    assert "has no export for the task 'image-classification'" in refusal(bert, UsageError, task="image-classification")


def test_image_size_comes_from_the_config(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    source = load_source(tmp_path)
    assert [str(item) for item in source.inputs] == ["pixel_values float32 1x3x32x32"]


def test_a_decoder_without_its_cache(tmp_path: Path) -> None:
    config = transformers.GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    source = load_source(tmp_path)
    assert [item.name for item in source.outputs] == ["logits"]
    assert source.capture_error is None


def test_directories_that_are_no_model(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert "does not say its model_type" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("no json")
    assert "is not valid JSON" in refusal(tmp_path)
    (tmp_path / "config.json").write_text((bert / "config.json").read_text())
    assert "holds no weights" in refusal(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"garbage")
    assert "cannot be read" in refusal(tmp_path)


def test_code_that_a_repository_brings_is_not_run(tmp_path: Path) -> None:
    boom = tmp_path / "boom"
    (tmp_path / "own.py").write_text(f"open({str(boom)!r}, 'w')\n")
    table = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(table))
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "brings Python code of its own, which edgekit does not run" in refusal(tmp_path)
    assert not boom.exists()


def test_weights_that_are_a_pickle_with_code_are_not_run(bert: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "boom",)

    (tmp_path / "config.json").write_text((bert / "config.json").read_text())
    torch.save({"weight": Bomb()}, tmp_path / "pytorch_model.bin")
    assert "cannot be read" in refusal(tmp_path)
    assert not (tmp_path / "boom").exists()


def test_offline_says_so_and_how_to_pass_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    message = refusal("nobody/no-such-model")
    assert "is not a file or folder here, and the Hugging Face hub cannot be reached (offline?)" in message
    assert "hf download nobody/no-such-model --local-dir model" in message
