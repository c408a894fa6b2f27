"""Several workers of a study on one PostgreSQL server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import postgres_server
from claiming import claimed_by_two
from lightning_neft.evaluation.result import read_result
from lightning_neft.study.plan import Arm, Plan
from study_runs import two_workers

pytest.importorskip("psycopg")
pytestmark = [
    pytest.mark.skipif(postgres_server.missing() is not None, reason=str(postgres_server.missing())),
    pytest.mark.xdist_group("postgres"),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres_server.server() as url:
        yield url


def test_two_processes_never_claim_the_same_arm(tmp_path: Path, url: str) -> None:
    plan = Plan(tmp_path, tuple(float(n) for n in range(15)), (0, 1))
    found = claimed_by_two(plan, url)
    assert all(found), "one worker had taken all before the other began"
    expected = {Arm(alpha, seed): 1 for alpha in plan.alphas for seed in plan.seeds}
    assert Counter(arm for arms in found for arm in arms) == expected


@pytest.mark.slow
def test_two_workers_share_the_arms_and_run_none_twice(folder: Path, short: list[str], url: str) -> None:
    options = ["--answers=2", "--max-new-tokens=4", "--out=out", f"--storage={url}"]
    printed = two_workers([*short, *options, "--alphas=0,5,9", "--seeds=2"], folder)
    fits = Counter(version.parent.name for version in folder.glob("out/arms/*/version_*"))
    assert len(fits) == 6
    assert set(fits.values()) == {1}
    shares = [text.count(": started") for text in printed]
    assert sum(shares) == 6
    assert min(shares) >= 1
    arms = read_result(folder / "out" / "study.json")["arms"]
    assert [arm["state"] for arm in arms] == ["complete"] * 6
    assert not (folder / "out" / "storage.sqlite").exists()
