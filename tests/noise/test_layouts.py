"""Layouts of batches and calls: each has the lengths of its own tokens, or an error that says what to type."""

from __future__ import annotations

import dataclasses
import enum
import types
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_neft import EmbeddingNoise
from lightning_neft.errors import LengthsError, NoNoiseError
from tiny import batch

D, VOCABULARY = 512, 60
ALPHA = 5.0


@dataclasses.dataclass(slots=True)
class Slots:
    input_ids: torch.Tensor
    attention_mask: torch.Tensor


class OwnSlots:
    __slots__ = ("attention_mask", "input_ids")

    def __init__(self, input_ids, attention_mask):
        self.input_ids, self.attention_mask = input_ids, attention_mask


GIVEN = batch([3, 6], width=6)
IDS, MASK = GIVEN["input_ids"], GIVEN["attention_mask"]
PAIR = {"input_ids": IDS, "attention_mask": MASK}
ONES = torch.ones(2, 6, dtype=torch.long)
STACK = {key: torch.stack([value, value.flip(0), value], 1) for key, value in PAIR.items()}
OTHER = batch([6, 6], seed=3)["input_ids"]
LOOP: dict[str, Any] = {"inputs": PAIR}
LOOP["batch"] = LOOP
CAUSAL = torch.ones(6, 6).tril().bool() & MASK.bool()[:, None]
WINDOW = (torch.ones(6, 6).tril() - torch.ones(6, 6).tril(-2)).bool() & MASK.bool()[:, None]


def bounds(given: Any, call: Any, **options: Any) -> list[Any]:
    """What the largest noise of each token says of its L, rounded; 0 where there is no noise."""
    table = nn.Embedding(VOCABULARY, D, padding_idx=options.pop("padding_idx", None))
    nn.init.zeros_(table.weight)
    module = nn.ModuleDict({"tokens": table, **options.pop("beside", {})})
    module.config = options.pop("config", None)
    with EmbeddingNoise(ALPHA, **options).attach(module) as noise, noise.armed(given, 0):
        largest = call(table).detach().abs().amax(-1)
    lengths = torch.where(largest > 0, (ALPHA / largest).square() / D, 0.0)
    return lengths.round().int().tolist()


class Task(enum.Enum):
    CHAT = 1
    CODE = 2


PACKED_SEQUENCE = nn.utils.rnn.pack_sequence([IDS[0, :3], IDS[1]], enforce_sorted=False)
LONG = [[3, 3, 3, 0, 0, 0], [6] * 6]
# (batch, ids that the embedding is called with, L of each token)
RIGHT: dict[str, tuple[Any, torch.Tensor, Any]] = {
    "dataclass with slots": (Slots(IDS, MASK), IDS, LONG),
    "class with __slots__": (OwnSlots(IDS, MASK), IDS, LONG),
    "global_attention_mask": ({**PAIR, "global_attention_mask": MASK * 0 + torch.eye(2, 6).long()}, IDS.clone(), LONG),
    "attention_mask_b": ({**PAIR, "attention_mask_b": torch.eye(2, 6).long()}, IDS.clone(), LONG),
    "pixel_position_ids": ({"input_ids": IDS, "pixel_position_ids": torch.arange(3).repeat(2, 2)}, IDS, [[6] * 6] * 2),
    "pixel_attention_mask": ({**PAIR, "pixel_attention_mask": torch.ones(2, 1, 6, 4)}, IDS, LONG),
    "cross_attention_mask": ({**PAIR, "cross_attention_mask": torch.ones(2, 6, 3, 2)}, IDS, LONG),
    "audio_attention_mask": ({**PAIR, "audio_attention_mask": torch.ones(2)}, IDS, LONG),
    "special_tokens_mask": ({**PAIR, "special_tokens_mask": 1 - MASK}, IDS, LONG),
    "int32 ids, cast": ({**PAIR, "input_ids": IDS.int()}, IDS, LONG),
    "ids masked in the step": (PAIR, torch.where(torch.arange(6) == 1, 7, IDS), LONG),
    "padding written anew in the step": (PAIR, IDS.masked_fill(MASK == 0, 9), LONG),
    "choices, flattened": (
        STACK,
        STACK["input_ids"].view(6, 6),
        [LONG[0], LONG[1], LONG[0], LONG[1], LONG[0], LONG[1]],
    ),
    "choices, kept": (STACK, STACK["input_ids"], [[LONG[0], LONG[1], LONG[0]], [LONG[1], LONG[0], LONG[1]]]),
    "one choice": (STACK, STACK["input_ids"][:, 1], LONG[::-1]),
    "ids turned by the model, a view": (PAIR, IDS.T, torch.tensor(LONG).T.tolist()),
    "ids turned by the model, a copy": (PAIR, IDS.T.contiguous(), torch.tensor(LONG).T.tolist()),
    "causal mask of 4 dimensions": ({**PAIR, "attention_mask": CAUSAL[:, None]}, IDS, LONG),
    "sliding window": ({**PAIR, "attention_mask": WINDOW[:, None]}, IDS, LONG),
    "sliding window alone of the kinds": (
        {**PAIR, "attention_mask": {"sliding_attention": WINDOW[:, None]}},
        IDS,
        LONG,
    ),
    "float mask of 4 dimensions, 1 and 0": ({**PAIR, "attention_mask": CAUSAL[:, None].float()}, IDS, LONG),
    "one mask for all rows": ({**PAIR, "attention_mask": CAUSAL[:1, None]}, IDS, [LONG[0], LONG[0]]),
    "segment ids of a pair of sentences": (
        {**PAIR, "segment_ids": torch.tensor([[0, 1, 1, 0, 0, 0], [0] * 4 + [1] * 2])},
        IDS,
        LONG,
    ),
    "token_type_ids": ({**PAIR, "token_type_ids": torch.tensor([[0, 1, 1, 0, 0, 0], [0] * 4 + [1] * 2])}, IDS, LONG),
    "segment ids of packed documents": (
        {**PAIR, "segment_ids": torch.tensor([[1, 2, 2, 0, 0, 0], [1] * 4 + [2] * 2])},
        IDS,
        [[1, 2, 2, 0, 0, 0], [4, 4, 4, 4, 2, 2]],
    ),
    "cu_seqlens without its 0": (
        {"input_ids": IDS[1:], "cu_seqlens": torch.tensor([2, 6])},
        IDS[1:],
        [[2, 2, 4, 4, 4, 4]],
    ),
    "cu_seqlens of one row": (
        {"input_ids": IDS[1:], "cu_seqlens": torch.tensor([[0, 2, 6]])},
        IDS[1:],
        [[2, 2, 4, 4, 4, 4]],
    ),
    "keys that are numbers": ({0: PAIR, 1: {"other": torch.ones(2)}}, IDS, LONG),
    "keys of an enum": ({Task.CHAT: PAIR, Task.CODE: torch.ones(2)}, IDS, LONG),
    "six dicts deep": ({"a": {"b": {"c": {"d": {"e": PAIR}}}}}, IDS, LONG),
    "a sparse and a nested tensor beside it": (
        {
            **PAIR,
            "graph": torch.eye(6).to_sparse(),
            "spans": torch.nested.nested_tensor([IDS[0], IDS[1, :2]], layout=torch.jagged),
        },
        IDS,
        LONG,
    ),
    "a sparse tensor beside unnamed ids": ((IDS, torch.eye(6).long().to_sparse()), IDS, [[6] * 6, [6] * 6]),
    "a batch that holds itself": (LOOP, IDS, LONG),
    "positions that skip some": (
        {**PAIR, "position_ids": torch.tensor([[0, 1, 9, 10, 11, 12], range(0, 12, 2)])},
        IDS,
        LONG,
    ),
    "all but the last, a view": (PAIR, IDS[:, :-1], [[3, 3, 3, 0, 0], [5] * 5]),
    "all but the last, a copy": (PAIR, IDS[:, :-1].clone(), [[3, 3, 3, 0, 0], [5] * 5]),
    "all but the first, a copy": (PAIR, IDS[:, 1:].clone(), [[2, 2, 0, 0, 0], [5] * 5]),
    "int32 ids, cast and cut": ({**PAIR, "input_ids": IDS.int()}, IDS[:, :-1], [[3, 3, 3, 0, 0], [5] * 5]),
    "trimmed and masked in the step": (
        PAIR,
        torch.where(torch.arange(5) == 1, 7, IDS[:, :5]),
        [[3, 3, 3, 0, 0], [5] * 5],
    ),
    "one part with a mask and one without, the first": ({"a": PAIR, "b": {"input_ids": OTHER}}, IDS, LONG),
    "one part with a mask and one without, the second": ({"a": PAIR, "b": {"input_ids": OTHER}}, OTHER, [[6] * 6] * 2),
    "a packed sequence": (
        {"x": PACKED_SEQUENCE, "y": torch.ones(2)},
        PACKED_SEQUENCE.data,
        [6, 3, 6, 3, 6, 3, 6, 6, 6],
    ),
    "padding taken out": (PAIR, IDS[MASK == 1], [3, 3, 3, 6, 6, 6, 6, 6, 6]),
    "unnamed ids, no mask": ((IDS,), IDS, [[6] * 6, [6] * 6]),
    "named ids, more rows than columns": ({"input_ids": IDS.T.contiguous()}, IDS.T.contiguous(), [[2, 2]] * 6),
}


@pytest.mark.parametrize("layout", RIGHT)
def test_each_token_has_the_length_of_its_own_sequence(layout):
    given, ids, lengths = RIGHT[layout]
    assert bounds(given, lambda table: table(ids)) == lengths


def test_attrs_classes_are_recognised():
    attrs = pytest.importorskip("attrs")
    Batch = attrs.make_class("Batch", ["input_ids", "attention_mask"], slots=True)
    assert bounds(Batch(IDS, MASK), lambda table: table(IDS)) == LONG


SWAPPED = IDS.flip(0).contiguous()
PACKED = {"input_ids": IDS, "position_ids": torch.tensor([[0, 1, 0, 1, 2, 3], [0, 1, 2, 3, 4, 0]])}
REFUSED: dict[str, tuple[Any, torch.Tensor, str]] = {
    "tuple with an unnamed mask": (
        (IDS, MASK, torch.ones(2)),
        IDS,
        r"batch\[1\] \(2, 6\).*lambda batch: batch\[1\]",
    ),
    "a mask of another name": (
        {"ids": IDS, "token_mask": MASK},
        IDS,
        r"batch\['token_mask'\] \(2, 6\)",
    ),
    "PyTorch's key_padding_mask": (
        {"ids": IDS, "key_padding_mask": MASK == 0},
        IDS,
        r"batch\['key_padding_mask'\] == 0",
    ),
    "a mask whose prefix no ids have": ({"ids": IDS, "text_attention_mask": MASK}, IDS, "text_attention_mask"),
    "lengths": ({"ids": IDS, "lengths": MASK.sum(1)}, IDS, r"batch\['lengths'\] \(2,\)"),
    "lengths in a list": ({"ids": IDS, "lengths": [3, 6]}, IDS, r"torch\.tensor\(batch\['lengths'\], device="),
    "a list without a name": ((IDS, [3, 6]), IDS, r"batch\[1\] \(2,\)"),
    "a mask of another name beside a part with one": (
        {"a": PAIR, "b": {"input_ids": OTHER, "my_mask": MASK}},
        IDS,
        r"batch\['b'\]\['my_mask'\] \(2, 6\)",
    ),
    "a nested tensor": (
        {"input_ids": torch.nested.nested_tensor([IDS[0, :3], IDS[1]], layout=torch.jagged)},
        IDS,
        "input_ids.*attention_mask",
    ),
    "a copy of other rows' part": (PAIR, IDS[:, 1:].flip(0).clone(), r"tokens .*\(2, 5\)"),
    "a mask that is no tensor": (
        {"input_ids": IDS, "attention_mask": MASK.tolist()},
        IDS,
        "attention_mask is a list",
    ),
    "a mask for chunks alone": (
        {"input_ids": IDS, "attention_mask": {"chunked_attention": CAUSAL}},
        IDS,
        "attention_mask is a dict of chunked_attention",
    ),
    "a mask over other keys": (
        {"input_ids": IDS, "attention_mask": torch.ones(2, 1, 6, 9)},
        IDS,
        r"attention_mask has shape \(2, 1, 6, 9\)",
    ),
    "sequence-first ids": (
        (IDS.T.contiguous(),),
        IDS.T.contiguous(),
        r"\(6, 2\).*\(B, L\) or \(L, B\)",
    ),
    "1-D ids": ((IDS[0],), IDS[0], r"\(6,\).*length=512"),
    "a whole table": (PAIR, torch.arange(VOCABULARY), r"F\.embedding\(ids, tokens\.weight\)"),
    "one token of each row": (PAIR, IDS[:, 0], r"\(2,\).*attention_mask \(2, 6\)"),
    "rows in another order": (PAIR, SWAPPED, r"tokens .*\(2, 6\)"),
    "packed rows in another order": (PACKED, SWAPPED, r"tokens .*\(2, 6\)"),
    "segment ids of 0 and 1 without a mask": (
        {"input_ids": IDS, "segment_ids": torch.tensor([[0, 0, 1, 1, 0, 0]] * 2)},
        IDS,
        "segment_ids in training batch 0 ",
    ),
    "cu_seqlens of two rows": (
        {"input_ids": IDS[1:], "cu_seqlens": torch.tensor([[0, 6]] * 2)},
        IDS[1:],
        r"cu_seqlens has shape \(2, 2\)",
    ),
}


@pytest.mark.parametrize("layout", REFUSED)
def test_an_ambiguous_layout_is_an_error(layout, snapshot):
    given, ids, named = REFUSED[layout]
    with pytest.raises(LengthsError, match=named) as error:
        bounds(given, lambda table: table(ids))
    snapshot(str(error.value))


def test_a_lookup_in_the_weight_stays_clean():
    def call(table):
        assert F.embedding(torch.arange(VOCABULARY), table.weight).abs().max() == 0
        return table(IDS)

    assert bounds(PAIR, call) == LONG


def test_a_sequence_first_module_needs_a_mask_of_the_user(snapshot):
    beside = {"encoder": nn.LSTM(4, 4)}
    with pytest.raises(LengthsError, match=r"encoder \(LSTM\) .*batch_to_mask") as error:
        bounds(PAIR, lambda table: table(IDS), beside=beside)
    snapshot(str(error.value))
    turned = torch.tensor(LONG).T.tolist()
    told = {"batch_to_mask": lambda given: MASK, "beside": beside}
    assert bounds((IDS.T,), lambda table: table(IDS.T), **told) == turned
    assert bounds(PAIR, lambda table: table(IDS), **told) == LONG
    fixed = bounds((IDS.T,), lambda table: table(IDS.T), length=4, beside=beside)
    assert fixed == [[4, 4]] * 6
    assert bounds(PAIR, lambda table: table(IDS), beside={"encoder": nn.LSTM(4, 4, batch_first=True)}) == LONG


def test_square_ids_have_the_layout_of_an_earlier_batch():
    table = nn.Embedding(VOCABULARY, D)
    nn.init.zeros_(table.weight)
    square, wide = batch([3, 1, 2]), batch([3, 2])
    module = nn.ModuleDict({"tokens": table, "encoder": nn.GRU(4, 4)})
    noise = EmbeddingNoise(ALPHA, batch_to_mask=lambda given: given[1]).attach(module)
    with (
        pytest.raises(LengthsError, match=r"\(B, L\) or \(L, B\)"),
        noise.armed((0, square["attention_mask"]), 0),
    ):
        table(square["input_ids"])
    for given in (wide, square):
        with noise.armed((0, given["attention_mask"]), 0):
            noisy = table(given["input_ids"].T.contiguous())
        assert (noisy.abs().sum(-1) > 0).long().tolist() == given["attention_mask"].T.tolist()


def test_square_ids_that_the_model_transposes_are_compared():
    given = batch([3, 1, 2])
    expected = given["attention_mask"].T * torch.tensor([3, 1, 2])
    assert bounds(given, lambda table: table(given["input_ids"].T.contiguous())) == expected.tolist()
    with pytest.raises(LengthsError, match=r"\(3, 3\).*attention_mask"):
        bounds(given, lambda table: table(given["input_ids"].roll(1, 0)))


@pytest.mark.parametrize(
    "mask", [torch.tensor([[0.0, 0.0, -torch.inf]]), torch.zeros(1, 3).long()], ids=["additive", "0"]
)
@pytest.mark.parametrize("step", [0, 7])
def test_a_mask_that_leaves_no_token_is_an_error_in_every_batch(mask, step):
    ids = torch.tensor([[1, 2, 3]])
    table = nn.Embedding(VOCABULARY, 8)
    noise = EmbeddingNoise(ALPHA).attach(table)
    for earlier in range(step):
        with noise.armed({"input_ids": ids}, earlier):
            table(ids)
    with pytest.raises(NoNoiseError, match=f"training batch {step}: attention_mask "):  # noqa: SIM117
        with noise.armed({"input_ids": ids, "attention_mask": mask}, step):
            table(ids)


def test_values_are_read_in_the_first_batch_of_each_kind_alone():
    """What a later tuple of the same kind holds is not looked at: that would wait for a device."""
    table = nn.Embedding(VOCABULARY, D)
    noise = EmbeddingNoise(ALPHA).attach(table)
    for given in ((IDS, OTHER), (IDS, MASK)):
        with noise.armed(given, 0):
            table(IDS)
    with (
        pytest.raises(LengthsError, match=r"batch\[1\] \(2, 6\) "),
        noise.armed((IDS, MASK, OTHER), 2),
    ):
        table(IDS)
    given = {"ids": IDS, "mask": MASK}
    with pytest.raises(LengthsError, match=r"batch\['mask'\] \(2, 6\) "), noise.armed(given, 3):
        table(IDS)
    # One that trains another part of the model has nothing to say of tokens.
    with noise.armed({"pixels": IDS, "mask": MASK}, 4, required=False):
        pass


def test_the_first_batch_is_refused_before_its_forward_pass():
    noise = EmbeddingNoise(ALPHA).attach(nn.Embedding(VOCABULARY, D))
    with pytest.raises(LengthsError, match=r"batch\[1\] "):
        noise.arm((IDS, MASK), 0)


def test_a_batch_without_end_is_an_error():
    endless: dict[str, Any] = {}
    for _ in range(40):
        endless = {"inner": endless}
    with pytest.raises(LengthsError, match=r"32 levels.*length='padded'"):
        bounds(endless, lambda table: table(IDS))
    assert bounds(endless, lambda table: table(IDS), length="padded") == [[6] * 6] * 2


def test_a_packed_sequence_needs_no_batch_first():
    beside = {"encoder": nn.LSTM(4, 4)}
    given = {"x": PACKED_SEQUENCE, "y": torch.ones(2)}
    expected = [6, 3, 6, 3, 6, 3, 6, 6, 6]
    assert bounds(given, lambda table: table(PACKED_SEQUENCE.data), beside=beside) == expected


def test_a_mask_in_rows_does_not_fit_a_packed_sequence(snapshot):
    given = {"x": PACKED_SEQUENCE, "y": torch.ones(2)}
    with pytest.raises(LengthsError, match=r"\(1, T\).*PackedSequence") as error:
        bounds(given, lambda table: table(PACKED_SEQUENCE.data), batch_to_mask=lambda given: MASK)
    snapshot(str(error.value))
    # The batch's own ids say that the tokens lie row after row.
    flat = bounds((IDS,), lambda table: table(IDS[MASK == 1]), batch_to_mask=lambda given: MASK)
    assert flat == [3, 3, 3, 6, 6, 6, 6, 6, 6]
    with pytest.raises(LengthsError, match=r"\(9,\).*batch_to_mask \(2, 6\)"):
        bounds((IDS,), lambda table: table(PACKED_SEQUENCE.data), batch_to_mask=lambda given: MASK)


def config(**ids):
    return types.SimpleNamespace(**{f"{name}_token_id": value for name, value in ids.items()})


BARE = torch.tensor([[5, 0, 6, 0, 0, 0], [0, 0, 7, 8, 9, 0]])


@pytest.mark.parametrize("given", [{"input_ids": BARE}, (BARE, torch.ones(2)), {"text": BARE}], ids=str)
@pytest.mark.parametrize("told", [{"padding_idx": 0}, {"config": config(pad=0, eos=2)}], ids=["table", "config"])
def test_without_a_mask_the_padding_id_shows_the_padding(given, told):
    expected = [[3, 3, 3, 0, 0, 0], [0, 0, 3, 3, 3, 0]]
    assert bounds(given, lambda table: table(BARE), **told) == expected
    assert bounds(given, lambda table: table(BARE), length="padded", **told) == [[6] * 6] * 2
    # A mask knows better.
    if isinstance(given, dict):
        asked = {"input_ids": BARE, "attention_mask": torch.ones_like(BARE)}
        assert bounds(asked, lambda table: table(BARE), **told) == [[6] * 6] * 2


@pytest.mark.parametrize(
    "given", [lambda ids: {"input_ids": ids}, lambda ids: (ids, torch.ones(2))], ids=["dict", "tuple"]
)
def test_a_padding_id_that_may_end_rows_is_an_error(given, snapshot):
    both = config(pad=0, eos=[0, 3])
    single = torch.tensor([[5, 6, 7, 8, 9, 0], [5, 6, 7, 8, 9, 0]])
    assert bounds(given(single), lambda table: table(single), config=both) == [[6] * 6] * 2
    several = torch.tensor([[5, 6, 7, 0, 0, 0], [5, 6, 7, 8, 9, 0]])
    with pytest.raises(LengthsError, match=r"id 0.*attention_mask") as error:
        bounds(given(several), lambda table: table(several), config=both)
    with pytest.raises(LengthsError, match=r"id 0.*attention_mask"):
        bounds(given(several.flip(1)), lambda table: table(several.flip(1)), config=config(pad=0, bos=0))
    snapshot(str(error.value))
