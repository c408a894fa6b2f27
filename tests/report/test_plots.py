"""Plots: colours that are seen, means over the right arms, texts of strangers, files that do not vary."""

from __future__ import annotations

import base64
import math
import re
from xml.etree import ElementTree

import pytest

from lightning_neft.report.figure import DARK, LIGHT, Theme, png, svg_address
from lightning_neft.report.lines import CurveGroup, Lines, mean_curve, thinned
from lightning_neft.report.values import Dot, Dots, Histogram
from report.contrast import contrast

STRANGE = (
    "$\\frac{1}$",
    "$^$",
    "$x",
    "_hidden",
    "a\nb",
    "<script>",
    "漢字",
    "\u202eabc",
    "",
    "\\undefined{",
    "x" * 300,
)
LINES = Lines("loss", [CurveGroup("alpha 0", [((1, 2.0), (2, 1.0)), ((1, 4.0), (2, 3.0))]), CurveGroup("alpha 5", [])])


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("n_groups", [1, 2, 6, 7, 30])
def test_every_colour_stands_out_from_the_background(theme: Theme, n_groups: int) -> None:
    colours = theme.colours(n_groups)
    assert len(set(colours)) == n_groups
    assert min(contrast(colour, theme.background) for colour in colours) >= 3
    assert contrast(theme.text, theme.background) >= 4.5


def test_the_mean_is_over_the_arms_that_came_to_their_end() -> None:
    assert mean_curve([((1, 1.0), (2, 5.0)), ((1, 3.0), (3, 9.0))]) == ((1, 2.0),)
    group = CurveGroup("alpha 0", [((1, 1.0),)], stopped=[((1, 100.0),)])
    assert group.mean == ((1, 1.0),)
    assert LINES.table("Loss").rows == [["1", "3"], ["2", "2"]]
    assert LINES.table("Loss").columns == ["step", "alpha 0 (2)"]


def test_a_long_curve_keeps_its_mean_when_it_is_thinned() -> None:
    curve = tuple((step, float(step)) for step in range(1, 1001))
    short = thinned(curve, most=200)
    assert len(short) == 200
    assert math.isclose(sum(value for _, value in short) / 200, 500.5)
    assert short[-1] == (1000, 998.0)


def test_the_table_of_a_long_curve_says_that_it_omits_steps() -> None:
    table = Lines("loss", [CurveGroup("a", [tuple((step, 1.0) for step in range(150))])]).table("Loss")
    assert len(table.rows) == 40
    assert (table.rows[0][0], table.rows[-1][0]) == ("0", "149")
    assert "40 of its steps" in table.caption


def test_values_that_are_not_finite_are_told() -> None:
    plot = Lines("loss", [CurveGroup("a", [((1, 1.0), (2, math.nan))])])
    assert plot.table("Loss").rows[1][1] == "not finite"
    assert png(plot, LIGHT)


def test_a_histogram_counts_the_samples_of_each_group() -> None:
    plot = Histogram("x", [("a", [0.1] * 3 + [0.9]), ("b", [0.9] * 10)], (0.0, 1.0))
    table = plot.table("X")
    assert table.caption == "X: number of samples"
    assert [row for row in table.rows if row[1:] != ["0", "0"]] == [
        ["0.1 to 0.15", "3", "0"],
        ["0.9 to 0.95", "1", "10"],
    ]
    figure = plot.draw(LIGHT)
    assert figure.get_supylabel() == "number of samples"
    assert figure.axes[1].get_ylim()[1] == pytest.approx(10, rel=0.1)


def test_values_that_hardly_differ_do_not_fill_an_axis() -> None:
    curves = Lines("loss", [CurveGroup("a", [((1, 2.0), (2, 2.001))])])
    low, high = curves.draw(LIGHT).axes[0].get_ylim()
    assert high - low == pytest.approx(0.2, rel=0.01)
    # Without a reference an axis has its 0, and with one the reference in its middle.
    assert Dots("words", [Dot("a", 30.0), Dot("b", 30.1)]).draw(LIGHT).axes[0].get_xlim() == pytest.approx((0, 33.11))
    assert Dots("share", [Dot("a", 0.0)]).draw(LIGHT).axes[0].get_xlim() == (0, 1)
    points = Dots("difference", [Dot("a", -0.001)], (0.0, "none"), least=0.05).draw(LIGHT).axes[0]
    assert points.get_xlim() == (-0.05, 0.05)
    wide = Dots("difference", [Dot("a", -1.0, -2.0, 0.0)], (0.0, "none"), least=0.05).draw(LIGHT).axes[0]
    assert wide.get_xlim() == pytest.approx((-2.2, 2.2))
    edges = [row[0] for row in Histogram("x", [("a", [2.0, 2.001])]).table("X").rows]
    assert (edges[0], edges[-1]) == ("1.9 to 1.91", "2.091 to 2.101")


def test_intervals_have_caps_and_sides_have_names() -> None:
    plot = Dots("difference", [Dot("a", -1.0, -2.0, 0.5)], (0.0, "none"), ("better", "worse"))
    (axes,) = plot.draw(LIGHT).axes
    (bar,) = [line for line in axes.lines if list(line.get_xdata()) == [-2.0, 0.5]]
    assert bar.get_marker() == "|"
    assert bar.get_markersize() > 6  # beyond the diamond of the mean
    assert [text.get_text() for text in axes.texts] == ["← better", "worse →"]
    assert plot.sentence().endswith("Left of the dashed line: better; right: worse.")
    assert not Dots("x", [Dot("a", 1.0)]).draw(LIGHT).axes[0].texts
    # A diamond at the end of the axis is whole.
    assert not any(line.get_clip_on() for line in axes.lines if line.get_marker() == "D")


def test_a_long_name_of_an_axis_has_two_lines() -> None:
    name = "difference in ROUGE-L of answers to training prompts"
    figure = Dots(name, [Dot("a", 1.0)], (0.0, "no difference")).draw(LIGHT)
    assert figure.get_supxlabel() == f"{name}\n(dashed: no difference)"
    (axes,) = Lines("loss, mean over tokens", LINES.groups).draw(LIGHT).axes
    assert axes.get_ylabel() == "loss\nmean over tokens"


def test_texts_of_strangers_are_drawn_and_nothing_more() -> None:
    plots = (
        Lines("loss", [CurveGroup(text, [((1, 1.0), (2, 2.0))]) for text in STRANGE]),
        Dots("x", [Dot(text, 1.0, 0.5, 1.5, [0.9, 1.1]) for text in STRANGE]),
        Histogram("x", [(text, [0.1, 0.2]) for text in STRANGE]),
    )
    for plot in plots:
        assert png(plot, LIGHT).startswith(b"\x89PNG")
        picture = base64.b64decode(svg_address(plot, DARK).partition(",")[2]).decode("utf-8")
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(picture).iter()}
        assert "script" not in tags
        assert not re.search(r"\son\w+=|href=\"(?!#|http://www\.w3\.org|https?://)", picture)


def test_the_same_data_give_the_same_bytes() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    assert svg_address(LINES, LIGHT) == svg_address(LINES, LIGHT)
    assert png(LINES, DARK) == png(LINES, DARK)
    assert dict(matplotlib.rcParams) == before
    assert svg_address(LINES, LIGHT) != svg_address(LINES, DARK)


def test_an_alpha_has_the_same_colour_in_all_plots() -> None:
    """Arms without noise log no noise-to-signal; the others keep their colours there."""
    curve = ((1, 1.0), (2, 2.0))
    empty_first = Lines("ratio", [CurveGroup("alpha 0", []), CurveGroup("alpha 5", [curve])])
    (axes,) = empty_first.draw(LIGHT).axes
    assert [line.get_color() for line in axes.lines] == [LIGHT.palette[0]]
