"""The numbers of accelerators: Philox as it is published, each element by itself, uniform."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import kstest

from lightning_neft.noise.uniform.philox import philox, philox_integers

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_known_answers_of_its_authors_library(counter, key, words):
    """Random123, tests/kat_vectors, philox4x32 with 10 rounds."""
    drawn = philox(tuple(torch.tensor([word]) for word in counter), key)
    assert tuple(word.item() for word in drawn) == words


def test_element_i_of_token_t_is_a_word_of_the_counter_i_and_t():
    seed = 0x299F31D0A4093822
    integers = philox_integers(seed, range(5, 8), 11, CPU)
    assert integers.dtype == torch.int32
    assert integers.shape == (3, 11)
    zero = torch.tensor(0)
    words = philox((torch.tensor(9 // 4), torch.tensor(7), zero, zero), (0xA4093822, 0x299F31D0))
    assert integers[2, 9].item() & 0xFFFFFFFF == words[9 % 4].item()


def test_an_element_does_not_depend_on_what_is_drawn_beside_it():
    whole = philox_integers(77, range(9), 10, CPU)
    assert torch.equal(philox_integers(77, range(4, 6), 10, CPU), whole[4:6])
    assert torch.equal(philox_integers(77, range(9), 7, CPU), whole[:, :7])


def test_each_half_of_the_seed_counts():
    drawn = [philox_integers(seed, range(1), 4, CPU).tolist() for seed in (1, 2, 1 << 32, 2 << 32)]
    assert len({str(row) for row in drawn}) == 4


def test_uniform_over_all_integers_of_32_bits():
    drawn = philox_integers(12, range(400), 1000, CPU).double().flatten()
    assert kstest(drawn.numpy(), "uniform", args=(-(2.0**31), 2.0**32)).pvalue > 0.01
    # Neighbours within a word's four, from four to four, and from token to token.
    rows = drawn.view(400, 1000) / 2**31
    for shifted in (rows[:, 1:] * rows[:, :-1], rows[:, 4:] * rows[:, :-4], rows[1:] * rows[:-1]):
        assert abs(shifted.mean().item()) < 4 / 3 / shifted.numel() ** 0.5
