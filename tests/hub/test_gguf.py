"""GGUF files as bases: what they are expanded to, once, and what is refused in one line."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gguf_files import write_gguf
from lightning_neft.errors import ModelError
from lightning_neft.hub import gguf as bases
from lightning_neft.hub.gguf import expand, expanded_folder, expanded_from, is_gguf
from lightning_neft.hub.gguf_header import checked_header
from lightning_neft.hub.names import resolve_base
from lightning_neft.hub.tiny_models import TINY
from lightning_neft.hub.tokenizer import load_tokenizer

gguf = pytest.importorskip("gguf", reason="needs the extra gguf")

TEXTS = ["Which of 3 and 5 is larger?", " two  spaces\n, a line", "naïve ü"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.Q4_1.gguf")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the expanded files."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache" / "lightning_neft" / "gguf"


@pytest.mark.parametrize("quantization", ["F32", "F16", "Q8_0", "Q4_1"])
def test_the_folder_has_the_weights_of_the_file(quantization: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    expand(write_gguf(tmp_path / "m.gguf", quantization), tmp_path / "model")
    found, original = load_file(tmp_path / "model" / "model.safetensors"), load_file(TINY / "model.safetensors")
    assert found.keys() == original.keys()
    kind = gguf.GGMLQuantizationType[quantization]
    for name, weights in original.items():
        expected = weights.numpy()
        if expected.ndim > 1:
            expected = gguf.dequantize(gguf.quantize(expected, kind), kind)
        np.testing.assert_array_equal(found[name].numpy(), expected, err_msg=name)
        assert found[name].dtype == torch.float32


def test_the_folder_has_config_and_tokenizer_of_the_file(written: Path, cache: Path) -> None:
    folder = expanded_folder(written)
    assert "quantization_config" not in (folder / "config.json").read_text()
    mine, theirs = load_tokenizer(str(folder)), load_tokenizer("tiny")
    assert [mine(text).input_ids for text in TEXTS] == [theirs(text).input_ids for text in TEXTS]
    assert (mine.eos_token, mine.pad_token, mine.model_max_length) == ("</s>", "<pad>", 1024)
    # None that transformers adds.
    assert mine.get_vocab() == theirs.get_vocab()


@pytest.mark.parametrize(
    ("quantization", "source"),
    [("Q4_1", "4-bit values (Q4_1)"), ("Q8_0", "8-bit values (Q8_0)"), ("F16", None), ("F32", None)],
)
def test_the_quantisation_is_named(quantization: str, source: str | None, tmp_path: Path, cache: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", quantization)
    assert expanded_from(resolve_base(str(path))) == source
    assert expanded_from(TINY) is None


def test_a_file_without_its_type_is_named_by_its_tensors(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gguf.GGUFWriter.add_file_type", lambda writer, kind: None)
    path = write_gguf(tmp_path / "m.gguf", "Q5_1")
    assert expanded_from(resolve_base(str(path))) == "5-bit values (Q5_1)"


def test_a_file_is_expanded_once(
    written: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        folder = resolve_base(str(written))
    assert "4-bit values (Q4_1) to float32" in caplog.text
    monkeypatch.setattr(bases, "_expand", lambda *_: pytest.fail("expanded again"))
    assert resolve_base(str(written)) == folder
    # Without the package too.
    monkeypatch.setattr("lightning_neft.hub.gguf_header.find_spec", lambda name: None)
    assert resolve_base(str(written)) == folder
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [Path(folder).name]


def test_another_file_of_the_same_name_is_another_folder(written: Path, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / written.name
    path.write_bytes(written.read_bytes())
    first = resolve_base(str(path))
    assert first == resolve_base(str(written))
    write_gguf(path, "Q8_0")
    assert resolve_base(str(path)) != first


def test_the_ending_makes_it_a_gguf_file(tmp_path: Path) -> None:
    assert is_gguf(Path("M.GGUF"))
    (tmp_path / "folder.gguf").mkdir()
    assert not is_gguf(tmp_path / "folder.gguf")


def _patched(content: bytes, before: bytes, after: bytes) -> bytes:
    assert content.count(before) >= 1
    return content.replace(before, after, 1)


def _type_of_first_tensor(content: bytes, number: int) -> bytes:
    # Its name, two dimensions, then its type.
    at = content.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 2 * 8
    return content[:at] + struct.pack("<I", number) + content[at + 4 :]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        pytest.param(lambda content: b"", ["not a GGUF file", "empty"], id="empty"),
        pytest.param(lambda content: b"{}" * 9, ["not a GGUF file", "b'{}{}'"], id="JSON"),
        pytest.param(lambda content: content[:3], ["not a GGUF file"], id="three bytes"),
        pytest.param(lambda content: content[:9], ["truncated", "9 bytes"], id="nine bytes"),
        pytest.param(lambda content: content[:5000], ["truncated", "5000 bytes"], id="half a header"),
        pytest.param(lambda content: content[:-1], ["truncated", "ends at byte"], id="without its last byte"),
        pytest.param(
            lambda content: content[:4] + b"\0\0\0\3" + content[8:], ["version", "little-endian"], id="big-endian"
        ),
        pytest.param(lambda content: content[:8] + b"\xff" * 8 + content[16:], ["damaged"], id="2^64 tensors"),
        pytest.param(lambda content: content[:16] + b"\xff" * 8 + content[24:], ["damaged"], id="2^64 entries"),
        pytest.param(
            lambda content: _type_of_first_tensor(content, 999),
            ["token_embd.weight", "quantisation", "type 999", "Q4_K_M"],
            id="a quantisation of the future",
        ),
        pytest.param(
            # Q8_K, which llama.cpp uses in memory only.
            lambda content: _type_of_first_tensor(content, 15),
            ["token_embd.weight", "quantisation", "Q8_K", "gguf"],
            id="a quantisation that cannot be expanded",
        ),
        pytest.param(
            lambda content: _patched(content, b"blk.0.ffn_up.weight", b"blk.0.ffn_xx.weight"),
            ["lacks weights", "LlamaForCausalLM", "model.layers.0.mlp.up_proj.weight"],
            id="without a tensor",
        ),
        pytest.param(
            lambda content: _patched(content, b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lxama"),
            ["lxama"],
            id="an unknown architecture",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(
    written: Path, tmp_path: Path, cache: Path, change: Callable[[bytes], bytes], names: list[str]
) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(change(written.read_bytes()))
    with pytest.raises(ModelError) as caught:
        resolve_base(str(path))
    message = str(caught.value)
    assert "\n" not in message
    for name in [str(path), *names]:
        assert name in message
    assert not [left for left in cache.glob("*") if left.is_dir()]


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({"general.type": "adapter"}, ["'adapter'", "language model"]),
        ({"split.count": 3}, ["3 parts", "llama-gguf-split --merge"]),
        ({"general.alignment": 0}, ["general.alignment", "0"]),
    ],
)
def test_a_part_or_another_kind_is_one_line(
    tmp_path: Path, cache: Path, metadata: dict[str, str | int], names: list[str]
) -> None:
    path = write_gguf(tmp_path / "m.gguf", metadata=metadata)
    with pytest.raises(ModelError) as caught:
        resolve_base(str(path))
    assert all(name in str(caught.value) for name in [str(path), *names])


def test_a_file_that_ends_anywhere_is_one_line(written: Path, tmp_path: Path, cache: Path) -> None:
    content = written.read_bytes()
    path = tmp_path / "m.gguf"
    rng = np.random.default_rng(0)
    for length in [*range(4, 300), *rng.integers(300, len(content), 300).tolist()]:
        path.write_bytes(content[:length])
        with pytest.raises(ModelError, match="truncated"):
            expand(path, tmp_path)


def test_a_damaged_header_is_one_line_or_a_model(written: Path, tmp_path: Path) -> None:
    content = written.read_bytes()
    rng = np.random.default_rng(0)
    lines = []
    for number in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(4, 400) if number % 2 else rng.integers(4, 20_000)] = rng.integers(256)
        (tmp_path / "m.gguf").write_bytes(damaged)
        try:
            checked_header(tmp_path / "m.gguf")
        except ModelError as error:
            lines.append(str(error))
    assert len(lines) > 20
    assert not [line for line in lines if "\n" in line]


def test_a_model_of_many_times_the_weights_is_not_built(tmp_path: Path, cache: Path) -> None:
    for key, names in {"llama.feed_forward_length": ["weights"], "llama.block_count": ["layers"]}.items():
        path = write_gguf(tmp_path / "m.gguf")
        content = path.read_bytes()
        at = content.index(key.encode()) + len(key) + 4
        path.write_bytes(content[:at] + struct.pack("<I", 10**8) + content[at + 4 :])
        with pytest.raises(ModelError) as caught:
            resolve_base(str(path))
        assert all(name in str(caught.value) for name in [str(path), "describes", *names])


def test_without_the_package_the_extra_is_named(written: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_neft.hub.gguf_header.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"needs the package gguf: pip install 'lightning-neft\[gguf\]'"):
        resolve_base(str(written))


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for name in ("m.gguf", "owner/m.gguf", str(tmp_path / "m.gguf")):
        with pytest.raises(ModelError, match="no such file"):
            resolve_base(name)


def test_a_cache_that_cannot_be_written_is_one_line(written: Path, tmp_path: Path, cache: Path) -> None:
    cache.parent.parent.mkdir(parents=True, exist_ok=True)
    cache.parent.write_text("a file")
    with pytest.raises(ModelError, match=r"cannot be expanded into .*HF_DATASETS_CACHE"):
        resolve_base(str(written))
