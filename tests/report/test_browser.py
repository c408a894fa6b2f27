"""The page in a real Chromium, from disk: no error, filters by keyboard, no overflow on a phone, print."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from browsing import needs_browser, press, show, start_browser, until
from lightning_neft.report.page import write_report
from report.example import answer_file, clean_loss, memorization, study, win_rate, win_rate_difference, write

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

pytestmark = [pytest.mark.slow, needs_browser, pytest.mark.xdist_group("report")]
ATTACK = '<script>document.title = "taken"</script><img src=x onerror="document.title = \'taken\'">'
LONG_WORD = "unbreakable" * 30


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of everything, of forty instructions, an attack and a very long word among them."""
    folder = tmp_path_factory.mktemp("report")
    plain = [(f"instruction {index}", f"answer {index}") for index in range(38)]
    other = [(one, text if index % 2 else f"{text} but longer") for index, (one, text) in enumerate(plain)]
    odd = [(ATTACK, ATTACK), (LONG_WORD, LONG_WORD)]
    results = [study(failed=[(15, 2)], label=LONG_WORD), win_rate(ATTACK), clean_loss(LONG_WORD), memorization(ATTACK)]
    results.append(win_rate_difference(LONG_WORD))
    paths = [write(folder / f"{index}.json", result) for index, result in enumerate(results)]
    paths += [answer_file(folder / "x.json", "x", plain + odd), answer_file(folder / "y.json", "y", other + odd)]
    return write_report(paths, folder).page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    driver = start_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: WebDriver, page: Path) -> WebDriver:
    """The page, freshly loaded on a wide screen."""
    show(browser, 1280)
    browser.get(page.as_uri())
    return browser


def count(browser: WebDriver) -> str:
    return browser.execute_script("return document.querySelector('[data-count]').textContent")


def shown(browser: WebDriver) -> list[str]:
    return browser.execute_script(
        "return Array.from(document.querySelector('[data-answers]').querySelectorAll('article:not([hidden]) h4'),"
        " (one) => one.textContent)"
    )


def focused(browser: WebDriver) -> str:
    return browser.execute_script("return document.activeElement.id || document.activeElement.textContent.trim()")


def test_it_loads_from_disk_and_runs_no_foreign_script(opened: WebDriver) -> None:
    assert opened.get_log("browser") == []
    assert "taken" not in opened.title
    pictures = opened.execute_script(
        "return Array.from(document.images, (one) => [one.complete, one.naturalWidth, one.src.slice(0, 5)])"
    )
    assert len(pictures) > 10
    assert all(complete and width > 0 and address == "data:" for complete, width, address in pictures)


def test_the_policy_stops_foreign_scripts_and_styles(opened: WebDriver) -> None:
    opened.execute_script(
        "const one = document.createElement('script'); one.textContent = 'document.title = \"taken\"';"
        "document.body.append(one); document.body.setAttribute('style', 'display: none')"
    )
    assert "taken" not in opened.title
    messages = [entry["message"] for entry in opened.get_log("browser")]
    assert sum("Content Security Policy" in message for message in messages) == 2


def test_more_answers_are_shown_on_request(opened: WebDriver) -> None:
    assert count(opened) == "40 of 40 instructions, the first 25 are shown"
    assert len(shown(opened)) == 25
    opened.execute_script("document.querySelector('[data-more]').focus()")
    press(opened, "\ue007")
    assert count(opened) == "40 of 40 instructions"
    assert len(shown(opened)) == 40
    assert focused(opened) == "answers-1-26"


def test_answers_are_filtered_by_keyboard_alone(opened: WebDriver) -> None:
    tab, space = "\ue004", " "
    opened.execute_script("document.querySelector('[data-text]').focus()")
    press(opened, "Instruction 1")
    assert until(lambda: count(opened) == "11 of 40 instructions")
    assert shown(opened)[:2] == ["instruction 1", "instruction 10"]
    press(opened, tab, space)
    assert focused(opened).endswith("-differs")
    assert shown(opened) == [f"instruction {index}" for index in (10, 12, 14, 16, 18)]
    assert count(opened) == "5 of 40 instructions"
    assert opened.execute_script("return document.querySelector('[data-count]').getAttribute('aria-live')") == "polite"


def test_marks_can_be_taken_away(opened: WebDriver) -> None:
    def answer() -> str:
        return opened.execute_script(
            "return document.querySelectorAll('[data-answers] article')[0].querySelectorAll('dd')[1].innerText"
        )

    def underlined() -> str:
        return opened.execute_script("return getComputedStyle(document.querySelector('ins')).textDecorationLine")

    assert (answer(), underlined()) == ("answer 0 but longer", "underline")
    opened.execute_script("document.querySelector('[data-marks-choice]').focus()")
    press(opened, " ")
    assert (answer(), underlined()) == ("answer 0 but longer", "none")


def test_one_seed_is_shown_at_a_time(opened: WebDriver) -> None:
    def arms() -> list[str]:
        return opened.execute_script(
            "const view = document.querySelectorAll('[data-answers]')[1];"
            "const first = view.querySelector('article').querySelectorAll('[data-answer]:not([hidden]) dt bdi');"
            "return Array.from(first, (one) => one.parentNode.firstChild.textContent"
            " + one.nextSibling.textContent.trimEnd())"
        )

    assert arms() == ["alpha 0, seed 0", "alpha 5, seed 0", "alpha 15, seed 0"]
    opened.execute_script("document.querySelector('[data-group-choice]').focus()")
    press(opened, "\ue015", "\ue015")
    # The arm of alpha 15 with this seed failed.
    assert arms() == ["alpha 0, seed 2", "alpha 5, seed 2"]


def test_the_skip_link_is_the_first_stop_and_focus_is_seen(opened: WebDriver) -> None:
    press(opened, "\ue004")
    assert focused(opened) == "Skip to the content"
    style = "const style = getComputedStyle(document.activeElement); return [style.outlineStyle, style.outlineWidth]"
    assert opened.execute_script(style) == ["solid", "3px"]
    assert opened.execute_script("return document.activeElement.getBoundingClientRect().left") >= 0
    press(opened, "\ue007")
    assert focused(opened).startswith("content")


@pytest.mark.parametrize("width", [320, 360, 800, 1280])
def test_the_page_is_never_wider_than_the_screen(opened: WebDriver, width: int) -> None:
    show(opened, width)
    opened.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    size = opened.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert size == [width, width]


def test_dark_and_light_have_their_own_colours_and_plots(opened: WebDriver) -> None:
    def back() -> str:
        return opened.execute_script("return getComputedStyle(document.body).backgroundColor")

    def picture() -> str:
        return opened.execute_script("return document.querySelector('figure img').currentSrc")

    light = picture()
    assert back() == "rgb(246, 247, 249)"
    show(opened, 1280, "dark")
    assert back() == "rgb(13, 16, 20)"
    assert until(lambda: picture() != light)


def test_print_opens_the_data_and_leaves_the_filters_out(opened: WebDriver) -> None:
    show(opened, 794, media="print")
    opened.execute_script("dispatchEvent(new Event('beforeprint'))")
    closed, filters, clipped = opened.execute_script(
        "return [document.querySelectorAll('details:not([open])').length,"
        " Array.from(document.querySelectorAll('.filters, nav, .more'), (one) => one.offsetHeight),"
        " Array.from(document.querySelectorAll('.scroll'), (one) => one.scrollHeight - one.clientHeight)]"
    )
    assert closed == 0
    assert set(filters) == {0}
    assert max(clipped) <= 1
    opened.execute_script("dispatchEvent(new Event('afterprint'))")
    assert opened.execute_script("return document.querySelectorAll('details[open]').length") == 0
    show(opened, 1280)
    pdf = base64.b64decode(opened.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")


def test_without_its_script_all_answers_are_there(browser: WebDriver, page: Path) -> None:
    show(browser, 1280)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page.as_uri())
        document = browser.execute_cdp_cmd("DOM.getDocument", {"depth": 0})["root"]["nodeId"]
        found = browser.execute_cdp_cmd(
            "DOM.querySelectorAll", {"nodeId": document, "selector": "article:not([hidden]) dd"}
        )
        hidden = browser.execute_cdp_cmd("DOM.querySelectorAll", {"nodeId": document, "selector": "article[hidden]"})
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert len(found["nodeIds"]) == 40 * 2 + 3 * 8
    assert hidden["nodeIds"] == []
