"""The built site in a real Chromium, from disk: for screen readers, by keyboard, on a phone, in the dark, searched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import axe_core_python
import pytest

from browsing import needs_browser, press, show, start_browser, until
from lightning_neft import __version__
from lightning_neft.cli.main import main
from pages import extension

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

pytestmark = [pytest.mark.slow, needs_browser, pytest.mark.xdist_group("site")]
PHONE, DESK = 390, 1280
TAB, ENTER = "\ue004", "\ue007"
# Pages that together show all that the theme draws: code of each language, tables, figures, help texts, search.
KINDS = ("index", "recipes", "recipes/quickstart", "tutorials/callback", "reference/cli", "evidence", "search")
AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
RUN_AXE = """
const [options, done] = arguments;
axe.run(document, {...options, resultTypes: ["violations"]}).then((found) => done(found.violations.map(
  (one) => [one.id, one.nodes.slice(0, 3).map((node) => node.html.slice(0, 200))])));
"""
# What is wrong with a page, beyond the rules of axe or cheaper than they are.
LOOK = """
const article = document.querySelector("article"), all = (what) => Array.from(article.querySelectorAll(what));
const levels = all("h1, h2, h3, h4, h5, h6").map((one) => Number(one.tagName[1]));
const outside = (one) => /^(https?:)?\\/\\//.test(one.getAttribute("src") ?? one.getAttribute("href") ?? "");
return {
  "no language": document.documentElement.lang !== "en",
  "not one title": levels.filter((one) => one === 1).length !== 1 || levels[0] !== 1,
  "a level is skipped": levels.some((one, index) => index > 0 && one > levels[index - 1] + 1),
  "a picture without text": all("img").some((one) => one.alt.length < 20),
  "a picture that did not load": all("img").some((one) => one.naturalWidth === 0),
  "a link without text": all("a[href]").some((one) => !one.textContent.trim()),
  "a table without heads": all("table:not(.genindextable)").some((one) => !one.querySelector("th")),
  // The theme cuts off what is too wide, so that the page itself never is.
  "wider than the screen": all("*").some((one) => one.getBoundingClientRect().right > arguments[0] + 1
    && !one.closest(".table-wrapper, pre, .sig")),
  "something from the network": Array.from(document.querySelectorAll("script[src], link[rel=stylesheet], img, iframe"))
    .some(outside),
};
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    driver = start_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


def pages(site: Path) -> list[str]:
    return sorted(path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html"))


def open_page(browser: WebDriver, site: Path, name: str) -> None:
    browser.get((site / f"{name}.html").as_uri())


def violations(browser: WebDriver, **options: Any) -> list[Any]:
    browser.execute_script(AXE)
    return browser.execute_async_script(RUN_AXE, options)


def look(browser: WebDriver) -> list[str]:
    return [problem for problem, is_there in browser.execute_script(LOOK, PHONE).items() if is_there]


@pytest.fixture(scope="module")
def findings(browser: WebDriver, site: Path) -> dict[str, list[Any]]:
    """What is wrong with each page. Axe sees one of the recipes: they are of one template; colours come below."""
    show(browser, PHONE)
    found: dict[str, list[Any]] = {}
    for name in pages(site):
        open_page(browser, site, name)
        found[name] = [*look(browser), *browser.get_log("browser")]
        if not name.startswith("recipes/") or name in KINDS:
            found[name] += violations(browser, rules={"color-contrast": {"enabled": False}})
    return found


def test_every_page_is_in_order_for_all_readers(findings: dict[str, list[Any]]) -> None:
    assert not {name: problems for name, problems in findings.items() if problems}
    assert len(findings) > 65


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(browser: WebDriver, site: Path, scheme: str) -> None:
    show(browser, DESK, scheme)
    found = {}
    for name in KINDS:
        open_page(browser, site, name)
        back = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert back == {"light": "rgb(255, 255, 255)", "dark": "rgb(19, 20, 22)"}[scheme]
        found[name] = violations(browser, runOnly=["color-contrast"])
    assert not {name: problems for name, problems in found.items() if problems}


def test_figures_are_inverted_in_the_dark_only(browser: WebDriver, site: Path) -> None:
    style = "return getComputedStyle(document.querySelector('article img')).filter"
    show(browser, DESK)
    open_page(browser, site, "evidence")
    assert browser.execute_script(style) == "none"
    show(browser, DESK, "dark")
    assert browser.execute_script(style) == "invert(1) hue-rotate(180deg)"


def test_axe_and_the_look_find_what_is_wrong(browser: WebDriver, site: Path) -> None:
    show(browser, PHONE)
    open_page(browser, site, "index")
    browser.execute_script(
        "const one = document.querySelector('article'); one.innerHTML += '<h1>x</h1><h4>y</h4><img src=z><a href=w></a>"
        '<table><tr><td><p style="width: 900px">v</p></td></tr></table><p style="color: #aaa">pale</p>'
        "<img src=https://localhost/x>';"
        "document.documentElement.lang = ''"
    )
    assert {rule for rule, _ in violations(browser)} >= {"color-contrast", "html-has-lang", "image-alt", "link-name"}
    assert look(browser) == list(browser.execute_script(LOOK, PHONE))


def test_the_first_stop_of_the_keyboard_skips_to_the_content(browser: WebDriver, site: Path) -> None:
    show(browser, DESK)
    open_page(browser, site, "training")
    press(browser, TAB)
    assert browser.execute_script("return document.activeElement.textContent.trim()") == "Skip to content"
    press(browser, ENTER, TAB)
    assert browser.execute_script("return document.activeElement.closest('article') !== null")


def test_every_stop_of_the_keyboard_is_seen(browser: WebDriver, site: Path) -> None:
    show(browser, DESK)
    open_page(browser, site, "index")
    seen = []
    for _ in range(12):
        press(browser, TAB)
        name, is_seen = browser.execute_script(
            "const one = document.activeElement, style = getComputedStyle(one);"
            "return [one.className || one.tagName, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0]"
        )
        assert is_seen, name
        seen.append(name)
    assert "sidebar-search" in seen


def test_on_a_phone_the_list_of_pages_opens_by_keyboard(browser: WebDriver, site: Path) -> None:
    show(browser, PHONE)
    open_page(browser, site, "index")
    browser.execute_script("document.querySelector('.nav-overlay-icon .icon').focus()")
    press(browser, ENTER)
    assert browser.execute_script("return document.getElementById('__navigation').checked")


def test_what_is_scrolled_is_reached_by_keyboard(browser: WebDriver, site: Path) -> None:
    show(browser, PHONE)
    open_page(browser, site, "recipes")
    stops = "return document.querySelectorAll('.table-wrapper[tabindex]').length"
    assert browser.execute_script(stops) >= 1
    show(browser, DESK)
    browser.execute_script(
        "for (const one of document.querySelectorAll('td, th')) one.textContent = '';dispatchEvent(new Event('resize'))"
    )
    assert browser.execute_script(stops) == 0


def search(browser: WebDriver, site: Path, words: str) -> None:
    show(browser, DESK)
    open_page(browser, site, "index")
    browser.execute_script("document.querySelector('.sidebar-search').focus()")
    press(browser, words, ENTER)


def test_all_sections_of_the_list_of_pages_are_seen_at_once(browser: WebDriver, site: Path) -> None:
    show(browser, DESK)
    sections = """
        return Array.from(document.querySelectorAll(".sidebar-tree summary"),
          (one) => [one.innerText, one.parentElement.open, one.getBoundingClientRect().bottom]);
    """
    for name, section in (("index", "START"), ("evaluate", "THE PROGRAM"), ("reference/errors", "REFERENCE")):
        open_page(browser, site, name)
        found = browser.execute_script(sections)
        assert [caption for caption, is_open, _ in found if is_open] == [section]
        assert found[-1][0] == "REFERENCE"
        assert found[-1][2] < 800
    browser.execute_script("document.querySelector('.sidebar-tree summary').focus()")
    press(browser, ENTER)
    assert browser.execute_script(sections)[0][1]


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("doctor", "doctor.html"),
        ("quickstart-lora", "recipes/quickstart-lora.html"),
        ("NoNoiseError", "reference/errors.html#lightning_neft.errors.NoNoiseError"),
    ],
)
def test_the_search_works_from_disk(browser: WebDriver, site: Path, words: str, page: str) -> None:
    search(browser, site, words)
    first = "return document.querySelector('.search li a')?.getAttribute('href').split('?')[0]"
    assert until(lambda: browser.execute_script(first)) == page


@pytest.mark.parametrize(
    "args",
    [
        ["recipes", "show", "no-such-recipe"],
        ["preview", "--data.source", "no-such-file.json"],
        ["fit", "--config", "quickstart", "--neftune.alpha=-1"],
        ["fit", "--config", "quickstart", "--ckpt_path", "last"],
    ],
    ids=["recipe", "data", "alpha", "checkpoint"],
)
def test_a_printed_message_finds_its_entry(
    browser: WebDriver,
    site: Path,
    args: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    printed = capsys.readouterr().err.splitlines()[-1]
    search(browser, site, printed)
    link = "return document.querySelector('#found-messages a')?.href"
    browser.get(until(lambda: browser.execute_script(link)))
    target = browser.execute_script("return document.querySelector(':target')?.textContent")
    assert target in {
        text for parts in extension("error_messages").messages().values() for one in parts.values() for text in one
    }
    assert re.fullmatch(re.escape(target).replace("…", ".*"), printed.removeprefix("lightning_neft: "))


def test_a_part_of_a_message_and_a_wrapped_one_find_it_too(browser: WebDriver, site: Path) -> None:
    found = "return Array.from(document.querySelectorAll('#found-messages a'), (one) => one.textContent)"
    for words in (
        "use a finite number >= 0; the paper uses 5",
        "alpha=-1.0: use a finite number >= 0; the paperuses 5, 10 and 15, and 0 is off.",
    ):
        search(browser, site, words)
        assert "the paper uses 5, 10 and 15" in until(lambda: browser.execute_script(found))[0]
    search(browser, site, "gradient checkpointing")
    until(lambda: browser.execute_script("return document.querySelector('.search li a')"))
    assert browser.execute_script(found) == []


def test_messages_stand_as_they_are_printed(browser: WebDriver, site: Path) -> None:
    open_page(browser, site, "reference/errors")
    texts = browser.execute_script(
        "return Array.from(document.querySelectorAll('.error-messages li'), (one) => one.textContent)"
    )
    assert len(texts) > 300
    assert sum("--" in text for text in texts) > 20
    assert not [text for text in texts if re.search(r"[\u2013\u2014\u2018\u2019\u201c\u201d]", text)]


ROWS = """
const table = document.querySelector('.table-filter').nextElementSibling;
return Array.from(table.querySelectorAll('tbody tr')).filter((row) => row.checkVisibility())
  .map((row) => row.cells[0].textContent);
"""


def test_the_table_of_architectures_is_filtered_by_keyboard(browser: WebDriver, site: Path) -> None:
    show(browser, DESK)
    open_page(browser, site, "architectures")
    everything = browser.execute_script(ROWS)
    assert len(everything) > 90
    browser.execute_script("document.querySelector('.table-filter input').focus()")
    press(browser, "gemma TEXT")
    assert browser.execute_script(ROWS) == [name for name in everything if "Gemma" in name and "text" in name]
    assert browser.execute_script(ROWS)
    count = "return document.querySelector('.table-filter output').textContent"
    assert browser.execute_script(count) == f"{len(browser.execute_script(ROWS))} of {len(everything)}"
    assert violations(browser) == []
    press(browser, *["\ue003"] * len("gemma TEXT"))
    assert browser.execute_script(ROWS) == everything


def test_without_javascript_all_rows_show(browser: WebDriver, site: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        open_page(browser, site, "architectures")
        rows = browser.find_elements("css selector", "table tbody tr")
        assert len(rows) > 180
        assert all(row.is_displayed() for row in rows[:20])
        assert not browser.find_elements("css selector", ".table-filter")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_each_page_ends_with_version_and_citation(browser: WebDriver, site: Path) -> None:
    for name in ("index", "reference/options", "recipes/quickstart", "search"):
        open_page(browser, site, name)
        footer = browser.find_element("css selector", ".site-footer")
        assert __version__ in footer.text
        browser.get(footer.find_element("css selector", "a").get_attribute("href"))
        assert browser.find_element("css selector", "h1").text.startswith("Citation")


# Everyday words of a question, and the page that answers it.
QUERIES = {
    "which alpha": "choosing-alpha",
    "tune alpha": "choosing-alpha",
    "loss higher": "faq",
    "same loss": "faq",
    "noise on": "faq",
    "cost": "faq",
    "speed": "benchmarks",
    "own model": "how-to/custom-embedding",
    "custom embedding": "how-to/custom-embedding",
    "hf trainer": "how-to/hf-trainer",
    "sfttrainer": "how-to/hf-trainer",
    "trl": "tutorials/from-trl",
    "fabric": "how-to/hf-trainer",
    "hydra": "how-to/hydra",
    "multi-node": "tutorials/several-gpus",
    "slurm": "tutorials/several-gpus",
    "several machines": "tutorials/several-gpus",
    "how to cite": "faq",
    "bibtex": "faq",
    "vram": "faq",
    "out of memory": "training",
    "early stopping": "how-to/trainer",
    "checkpoint every n steps": "how-to/trainer",
    "wandb": "how-to/trainer",
    "logger": "how-to/trainer",
    "learning rate finder": "how-to/trainer",
    "colab": "how-to/notebook",
    "jupyter": "how-to/notebook",
    "serving": "how-to/serving",
    "vllm": "how-to/serving",
    "does it help": "tutorials/does-it-help",
    "resume": "explanation/randomness",
    "longer answers": "faq",
    "own data": "tutorials/own-data",
}


def test_everyday_words_find_the_page_that_answers(browser: WebDriver, site: Path) -> None:
    show(browser, DESK)
    found = {}
    links = "return Array.from(document.querySelectorAll('.search li a')).map((one) => one.getAttribute('href'))"
    done = "return /^Search finished|did not match/.test(document.querySelector('.search-summary')?.textContent ?? '')"
    for words in QUERIES:
        browser.get(f"{(site / 'search.html').as_uri()}?q={quote(words)}")
        until(lambda: browser.execute_script(done))
        found[words] = [link.partition("?")[0].partition(".html")[0] for link in browser.execute_script(links)]
    assert not {
        words: list(dict.fromkeys(found[words]))[:6]
        for words, page in QUERIES.items()
        if page not in list(dict.fromkeys(found[words]))[:3]
    }
