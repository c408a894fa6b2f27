"""What is to be run: lists of alphas, the ends of a search, names of folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_neft.errors import ConfigError
from lightning_neft.study.plan import Arm, Plan, Search, parse_alphas, parse_search


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,x", "--alphas '0,x': 'x' is not a number of 0 or more; use the form 0,5,10,15"),
        ("0,-1", "--alphas '0,-1': '-1' is not a number of 0 or more; use the form 0,5,10,15"),
        ("0,nan", "--alphas '0,nan': 'nan' is not a number of 0 or more; use the form 0,5,10,15"),
        ("0,,5", "--alphas '0,,5': '' is not a number of 0 or more; use the form 0,5,10,15"),
        ("0,5,5.0", "--alphas '0,5,5.0': a value is repeated; give each one once"),
        ("5,10", "--alphas '5,10': 0 is missing, the baseline of all comparisons; give 0,5,10"),
    ],
)
def test_a_wrong_list_of_alphas_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_alphas(text)
    assert str(error.value) == message


@pytest.mark.parametrize("text", ["5", "5,1", "1,1", "1,2,3"])
def test_a_search_needs_two_rising_ends(text: str) -> None:
    with pytest.raises(ConfigError, match="give the smallest and the largest alpha, such as 1,20"):
        parse_search(text, 3, "tpe")


def test_each_arm_has_a_folder_of_its_own_in_that_of_the_study() -> None:
    plan = Plan(Path("out"), (0.0, 0.5, 5.0), (0, 1))
    folders = {plan.folder_of(Arm(alpha, seed)) for alpha in plan.alphas for seed in plan.seeds}
    assert len(folders) == plan.arm_count == 6
    assert Path("out/arms/alpha-0.5-seed-1") in folders


def test_a_search_counts_its_trials_and_the_baseline() -> None:
    assert Plan(Path("out"), (0.0,), (0, 1), Search(1, 20, trials=8)).arm_count == 18
