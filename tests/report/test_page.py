"""The page: whole, in order, without anything of strangers in its markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.colors import to_rgb

from lightning_neft.errors import ConfigError
from lightning_neft.evaluation.result import make_result, provenance
from lightning_neft.report.figure import DARK, LIGHT
from lightning_neft.report.page import write_report
from report.contrast import contrast
from report.example import (
    answer_file,
    clean_loss,
    leave_out_drawing,
    memorization,
    study,
    text_statistics,
    win_rate,
    win_rate_difference,
    write,
)
from report.page_tree import Node, parse

ATTACKS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x=\'',
    "' autofocus onfocus='alert(1)",
    '<a href="javascript:alert(1)">x</a>',
    "--><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; & &amp;",
    "a\u202eb\x00c\x1bd",
)
FACTS = {"model": "HuggingFaceTB/SmolLM2-135M", "data": "dolly_3k", "steps": 300}
ALL = ["summary", "arms", "losses", "overfitting", "noise", "texts", "memorization", "win-rates", "answers"]


def page_of(tmp_path: Path, *paths: Path, title: str | None = None) -> Node:
    return parse(write_report(paths, tmp_path / "out", title, overwrite=True).page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A page of all there is, with its plots drawn."""
    tmp_path = tmp_path_factory.mktemp("everything")
    results = [study(failed=[(15, 2)]), win_rate(), clean_loss("a"), clean_loss("b"), text_statistics(), memorization()]
    paths = [write(tmp_path / f"{index}.json", result) for index, result in enumerate(results)]
    paths.append(answer_file(tmp_path / "x.json", "x", [("q", "a b"), ("r", "c")]))
    paths.append(answer_file(tmp_path / "y.json", "y", [("q", "a b"), ("r", "d"), ("s", "e")]))
    return page_of(tmp_path, *paths)


@pytest.fixture(autouse=True)
def undrawn(everything: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages that tests make themselves are about words; `everything` was drawn before."""
    leave_out_drawing(monkeypatch)


def test_the_page_has_a_section_for_all_that_there_are_data_for(everything: Node) -> None:
    assert [node.attributes["id"] for node in everything.all("section")] == [*ALL, "provenance"]


def test_a_section_without_data_is_omitted(tmp_path: Path) -> None:
    page = page_of(tmp_path, write(tmp_path / "a.json", text_statistics()))
    assert [node.attributes["id"] for node in page.all("section")] == ["texts", "provenance"]


def test_other_kinds_have_their_tables(tmp_path: Path) -> None:
    source = provenance([], {}, None)
    tasks = {
        "arc_easy": {"acc": 0.5, "acc_stderr": 0.01, "alias": "arc_easy"},
        "gsm8k": {"exact_match,strict": 0.25, "exact_match_stderr,strict": 0.125, "perplexity": None},
    }
    variants = [
        {"name": "plain", "sentence": "", "min_new_tokens": 0, "mean_words": 10.0, "mean_tokens": None, "n_short": 0},
        {"name": "long", "sentence": "Write <more>", "min_new_tokens": 0, "mean_words": 20.0, "mean_tokens": None},
        {"name": "late", "sentence": "", "min_new_tokens": 250, "mean_words": 30.0, "mean_tokens": None},
    ]
    paths = [
        write(tmp_path / "c.json", make_result("capability", "m", {"tasks": tasks}, provenance([], {"limit": 5}, 0))),
        write(tmp_path / "l.json", make_result("length_ablation", "m", {"variants": variants}, source)),
    ]
    page = page_of(tmp_path, *paths)
    cells = [[cell.text for cell in row.all("th", "td")] for row in page.all("tr")]
    # A value with its error in one cell, no column where nothing was measured.
    assert ["arc_easy", "acc", "0.5 ± 0.01"] in cells
    assert ["gsm8k", "exact_match,strict", "0.25 ± 0.12"] in cells
    assert ["long", "20.0"] in cells
    assert not any("stderr" in cell for row in cells for cell in row)
    assert "only the first 5 documents of each task" in page.text
    assert 'long: "Write <more>"; late: at least 250 tokens.' in page.text


def test_a_study_shows_how_the_losses_of_its_samples_are_spread(tmp_path: Path) -> None:
    result = study(alphas=(0, 5), seeds=(0, 1), failed=[(5, 1)])
    for arm in result["arms"]:
        # Of an arm that failed nothing is shown.
        arm["held_out_per_sample"] = [1.0 + arm["alpha"] + arm["seed"], 3.0]
        arm["train_per_sample"] = [0.5] if arm["alpha"] else []
    page = page_of(tmp_path, write(tmp_path / "a.json", result))
    (section,) = [node for node in page.all("section") if node.attributes["id"] == "overfitting"]
    alts = [image.attributes["alt"] for image in section.all("img")]
    assert alts == [
        "Histograms of loss of a sample: alpha 5 median 0.5 of 1.",
        "Histograms of loss of a sample: alpha 0 median 2.5 of 4; alpha 5 median 4.5 of 2.",
    ]


def test_win_rate_differences_are_raw_and_at_equal_length(tmp_path: Path) -> None:
    """A page of such a result alone: the judge's liking for length must not pass for a better model."""
    page = page_of(tmp_path, write(tmp_path / "d.json", win_rate_difference("a")))
    assert [node.attributes["id"] for node in page.all("section")] == ["summary", "win-rates", "provenance"]
    found = [item.text for item in page.all("li") if item.all("bdi")]
    assert found == [
        "different a against other-model, difference of their raw win rates: higher by 35.2 (95 % interval 31.5 to "
        "38.9)",
        "no evidence a against other-model, difference of their equal-length win rates: "
        "no evidence of a difference (1.6, 95 % interval -2.1 to 5.3)",
    ]
    cells = [[cell.text for cell in row.all("th", "td")] for row in page.all("tr")]
    assert ["a", "other-model", "35.20 (31.50 to 38.90)", "1.60 (-2.10 to 5.30)", "805", "1,067", "396"] in cells
    assert len(page.all("figure")) == 1
    # Once, where it is said that this is another figure.
    assert (
        page.text.count("length-controlled")
        == page.text.count("not the length-controlled win rate of AlpacaEval 2")
        == 1
    )


def test_a_difference_without_one_at_equal_length_says_why(tmp_path: Path) -> None:
    page = page_of(tmp_path, write(tmp_path / "d.json", win_rate_difference("a", controlled=False)))
    assert "a against other-model: no equal-length difference, because there is no loss" in page.text
    assert len([item for item in page.all("li") if item.all("bdi")]) == 1


def test_mixing_first_word_statistics_is_a_warning(tmp_path: Path) -> None:
    whole, first = text_statistics("whole"), text_statistics("first")
    first |= {"first_k_tokens": 50, "n_short": 7}
    paths = [write(tmp_path / f"{one['label']}.json", one) for one in (whole, first)]
    page = page_of(tmp_path, *paths)
    rows = [[cell.text for cell in row.all("th", "td")] for row in page.all("tr")]
    head = next(row for row in rows if row[0] == "answers of")
    assert head[-2:] == ["of the first words", "shorter, omitted"]
    assert [row[-2:] for row in rows if row[0] in ("whole", "first") and len(row) == len(head)] == [
        ["—", "—"],
        ["50", "7"],
    ]
    assert "do not compare such rows" in page.text
    assert "do not compare" not in page_of(tmp_path, paths[1]).text


def test_the_answer_of_a_study_is_the_first_text(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{label}.json", study(label=label, settings=FACTS)) for label in ("one", "<two>")]
    body = page_of(tmp_path, paths[0], title="Does noise help?").all("body")[0]
    answer, title = body.all("p", "h1")[:2]
    assert answer.text == (
        "Alpha 5 lowers held-out loss by 2.6 % (95 %: 0.7 to 4.5); 3 seeds, SmolLM2-135M on dolly_3k, 300 steps, 60 "
        "held-out samples, intervals corrected for 2 alphas."
    )
    assert body.text.removeprefix("\nSkip to the content").lstrip().startswith(answer.text)
    assert title.text == "Does noise help?"
    (header,) = page_of(tmp_path, *paths).all("header")
    assert [one.text.partition(": ")[0] for one in header.all("p")[:2]] == ["one", "<two>"]
    (header,) = page_of(tmp_path, write(tmp_path / "a.json", text_statistics())).all("header")
    assert len(header.all("p")) == 1


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_nothing_is_better_or_green_without_three_seeds(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    result = study(seeds=seeds, alphas=(0, 1, 5, 15, 45), intervals=[(-0.2, -0.3, -0.1)] * 4)
    page = page_of(tmp_path, write(tmp_path / "a.json", result), write(tmp_path / "b.json", win_rate(rate=80.0)))
    body = page.all("body")[0]
    shown = [part.text for part in body.all("header", "main")] + [one.attributes["alt"] for one in body.all("img")]
    assert not any(re.search(r"\bbetter\b", text) for text in shown)
    for theme in (LIGHT, DARK):
        assert not [colour for colour in theme.colours(5) if is_green(colour)]
    styles = page.all("style")[0].text
    for scheme in ("light", "dark"):
        used = colours(styles, scheme)
        assert [name for name in used if is_green(used[name])] == ["good", "good-back"]


def is_green(colour: str) -> bool:
    red, green, blue = to_rgb(colour)
    return green > 1.05 * max(red, blue)


def test_a_page_of_three_seeds_has_its_green_badge(tmp_path: Path) -> None:
    page = page_of(tmp_path, write(tmp_path / "a.json", study()))
    assert [node.text for node in page.all("span") if "better" in node.attributes.get("class", "").split()] == [
        "better"
    ]


def test_a_curve_of_one_point_is_omitted(tmp_path: Path) -> None:
    result = study(alphas=(0, 5))
    for arm in result["arms"]:
        arm["curves"]["val/loss"] = arm["curves"]["val/loss"][-1:]
        del arm["curves"]["train/loss"]
    page = page_of(tmp_path, write(tmp_path / "a.json", result))
    (section,) = [node for node in page.all("section") if node.attributes["id"] == "losses"]
    assert [node.text for node in section.all("figcaption")] == ["Training loss, noise off"]


def test_curves_and_table_say_what_their_means_are_over(everything: Node) -> None:
    (losses,) = [node for node in everything.all("section") if node.attributes["id"] == "losses"]
    assert [image.attributes["alt"].partition(" over the steps")[0] for image in losses.all("img")] == [
        "training loss, mean over tokens",
        "clean loss, mean over tokens",
        "val/loss, mean over tokens",
    ]
    (arms,) = [node for node in everything.all("section") if node.attributes["id"] == "arms"]
    assert "means over samples, each with the same weight, as are the differences in the summary" in arms.text


def test_headings_are_in_order_and_landmarks_are_there(everything: Node) -> None:
    levels = [int(node.tag[1]) for node in everything.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert {"header", "nav", "main", "footer"} <= {node.tag for node in everything.all()}
    assert everything.all("html")[0].attributes["lang"] == "en"


def test_ids_are_unique_and_what_refers_to_one_finds_it(everything: Node) -> None:
    nodes = everything.all()
    ids = [node.attributes["id"] for node in nodes if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    for node in nodes:
        for name in ("for", "aria-labelledby"):
            assert node.attributes.get(name, ids[0]) in ids
        if node.tag == "a":
            assert node.attributes["href"].removeprefix("#") in ids


def test_controls_have_labels_and_tables_scroll_by_keyboard(everything: Node) -> None:
    labelled = {node.attributes["for"] for node in everything.all("label")}
    controls = everything.all("input", "select")
    assert controls
    assert all(node.attributes["id"] in labelled for node in controls)
    regions = [node for node in everything.all("div") if node.attributes.get("role") == "region"]
    assert all(node.attributes["tabindex"] == "0" for node in regions)
    assert len(regions) == len(everything.all("table"))
    assert all(header.attributes["scope"] in ("row", "col") for header in everything.all("th"))


def test_every_plot_has_words_data_and_a_dark_form(everything: Node) -> None:
    figures = everything.all("figure")
    assert len(figures) == 13
    for figure in figures:
        (picture,) = figure.all("img")
        assert len(picture.attributes["alt"]) > 20
        assert picture.attributes["src"].startswith("data:image/svg+xml;base64,")
        assert "dark" in figure.all("source")[0].attributes["media"]
        assert figure.all("details")[0].all("table")[0].all("td")


def test_the_policy_allows_only_this_script_and_style(everything: Node) -> None:
    policy = next(node for node in everything.all("meta") if "http-equiv" in node.attributes).attributes["content"]

    def sha(node: Node) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(node.text.encode()).digest()).decode()}'"

    (style,), (script,) = everything.all("style"), everything.all("script")
    assert policy == (
        f"default-src 'none'; style-src {sha(style)}; script-src {sha(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    # Under that policy these would not work anyway.
    assert not [node for node in everything.all() if "style" in node.attributes]
    addresses = [
        node.attributes[name] for node in everything.all() for name in ("src", "srcset") if name in node.attributes
    ]
    addresses += [node.attributes["href"] for node in everything.all() if "href" in node.attributes]
    assert all(re.match(r"data:|#", address) for address in addresses)


def markup(page: Node) -> list[tuple[str, tuple[str, ...]]]:
    return [(node.tag, tuple(node.attributes)) for node in page.all()]


def test_nothing_of_strangers_becomes_markup(tmp_path: Path) -> None:
    """The same report with harmless texts and with attacks everywhere has the same elements and attributes."""

    def page(texts: tuple[str, ...], folder: str) -> Node:
        where = tmp_path / folder
        where.mkdir()
        first = texts[0]
        result = study(alphas=(0, 5), seeds=(0,), label=first, settings={text: text for text in texts})
        result["recipe"] = texts[1]
        for arm in result["arms"]:
            arm["answers"] = [{"instruction": text, "output": text, "reference": text} for text in texts]
            arm["state"], arm["error"], arm["folder"] = "failed", texts[2], texts[3]
        statistics = text_statistics(texts[4])
        statistics["provenance"]["inputs"] = [{"name": text, "role": text, "sha256": text} for text in texts]
        judged = win_rate(texts[5])
        judged["judge"], judged["baseline_label"] = texts[6], texts[7]
        for generator, end in ((texts[0], ""), (texts[1], texts[2])):
            # Enough words in common for the others to be marked.
            outputs = [f"{text} these are the words that both files have {end}" for text in texts]
            answers = [
                {"instruction": text, "input": text, "output": output, "generator": f"{generator}{end}"}
                for text, output in zip(texts, outputs, strict=True)
            ]
            (where / f"answers{bool(end)}.json").write_text(json.dumps(answers), encoding="utf-8")
        paths = [
            write(where / f"{i}.json", one) for i, one in enumerate((result, statistics, judged, clean_loss(first)))
        ]
        return page_of(where, *paths, where / "answersFalse.json", where / "answersTrue.json", title=texts[3])

    harmless = tuple(f"text number {index}" for index in range(len(ATTACKS)))
    attacked = page(ATTACKS, "attacked")
    assert markup(attacked) == markup(page(harmless, "harmless"))
    assert any(ATTACKS[2].split()[0] in mark.text for mark in attacked.all("ins"))
    shown = attacked.text
    for attack in ATTACKS[:-1]:
        assert attack in shown
    assert "a[U+202E]b[U+0000]c[U+001B]d" in shown
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", shown)


def test_no_template_marks_a_text_as_safe() -> None:
    templates = list(files("lightning_neft.report").joinpath("template").iterdir())
    assert len(templates) == 4
    assert not [one.name for one in templates if re.search(r"\|\s*safe|autoescape|Markup", one.read_text("utf-8"))]


def test_half_a_surrogate_pair_does_not_stop_the_report(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"instruction": "q", "output": "\\ud800 x", "generator": "g"}]', encoding="utf-8")
    assert "[U+D800] x" in page_of(tmp_path, path).text


def test_secrets_of_settings_errors_and_addresses_are_masked(tmp_path: Path) -> None:
    settings = {
        "judge": {"api_key": "hunter2"},
        "storage": "postgresql://me:hunter2@db/x",
        "data": "postgresql://me:hunter2@db/y",
        "args": ["--token", "hunter2"],
    }
    result = study(failed=[(5, 0)], settings=settings)
    result["arms"][3]["error"] = "refused: Authorization: Bearer hunter2-hunter2"
    text = page_of(tmp_path, write(tmp_path / "a.json", result)).text
    assert "hunter2" not in text
    assert "postgresql://me:***@db/x" in text
    assert "refused" in text


def test_files_are_named_with_their_hash(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", study())
    text = page_of(tmp_path, path).text
    assert hashlib.sha256(path.read_bytes()).hexdigest() in text
    assert str(tmp_path) not in text


def test_answers_stand_beside_those_of_the_first_file(tmp_path: Path) -> None:
    first = answer_file(tmp_path / "x.json", "x", [("q", "red fox runs"), ("r", "same"), ("only x", "here")])
    second = answer_file(tmp_path / "y.json", "y", [("r", "same"), ("q", "red dog runs")])
    page = page_of(tmp_path, first, second)
    articles = page.all("article")
    assert [article.all("h4")[0].text for article in articles] == ["q", "r", "only x"]
    answers = [[answer.text for answer in article.all("dd")] for article in articles]
    assert answers[0] == ["red fox runs", "red fox dog runs"]
    assert [mark.text for mark in articles[0].all("del", "ins")] == [" fox", "dog"]
    assert answers[1:] == [["same", "same"], ["here", "no answer to this instruction"]]
    differing = ["data-differs" in node.attributes for node in page.all("div") if "data-answer" in node.attributes]
    assert differing == [False, True, False, False, False, False]


def test_arms_are_compared_with_the_baseline_of_their_own_seed(tmp_path: Path) -> None:
    result = study(alphas=(0, 5), seeds=(0, 1))
    for arm in result["arms"]:
        word = "one" if arm["seed"] == 0 else "two"
        arm["answers"] = [{"instruction": "q", "output": f"this is seed {word}", "reference": None}]
    page = page_of(tmp_path, write(tmp_path / "a.json", result))
    assert [node.text for node in page.all("option")] == ["seed 0", "seed 1", "all seeds"]
    assert not page.all("article")[0].all("ins", "del")


def test_the_same_instruction_twice_in_a_study_stays_two(tmp_path: Path) -> None:
    result = study(alphas=(0,), seeds=(0,), intervals=())
    result["arms"][0]["answers"] = [{"instruction": "q", "output": output} for output in ("first", "second")]
    page = page_of(tmp_path, write(tmp_path / "a.json", result))
    assert [node.text for node in page.all("dd")] == ["first", "second"]


def test_each_study_has_its_own_pictures_next_to_the_page(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{label}.json", study(label=label)) for label in ("one", "two")]
    written = write_report(paths, tmp_path / "both.html")
    assert written.page == tmp_path / "both.html"
    assert len(set(written.plots)) == len(written.plots)
    assert {path.name for path in written.plots} > {"both-val-loss.png", "both-val-loss-2.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written.plots)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="the report cannot be written to"):
        write_report([write(tmp_path / "a.json", study())], tmp_path / "file")


def test_the_page_is_the_same_for_the_same_results(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", study())

    def page(name: str) -> str:
        text = write_report([path], tmp_path / name).page.read_text(encoding="utf-8")
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", text)

    assert page("one") == page("two")


def colours(style: str, scheme: str) -> dict[str, str]:
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[0]))
    return found if scheme == "light" else found | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[1]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_have_enough_contrast(everything: Node, scheme: str) -> None:
    found = colours(everything.all("style")[0].text, scheme)
    pairs = [(text, back) for text in ("text", "quiet", "accent") for back in ("page", "card")]
    pairs += [(name, f"{name}-back") for name in ("good", "bad", "neutral", "other")]
    pairs += [("text", "ins"), ("del", "card")]
    assert [pair for pair in pairs if contrast(found[pair[0]], found[pair[1]]) < 4.5] == []
