"""The report's page in a real browser: read on a phone, in the dark, on paper, by keyboard and by screen reader."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from distillery.report.page import render_page
from tests.integration.chromium import CONTRAST, Chromium, Page, find_chromium
from tests.unit.reports import report

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason="no chromium on the path, and $CHROMIUM names none: apt-get install chromium"
)

# Names that don't break, markup, and entities, wherever models and environments may write.
HOSTILE = f"{'x' * 200} </td></table><script>window.evil = 1</script><img src=//evil.test onerror='evil = 1'> &amp; $x$"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(render_page(report(wrote=HOSTILE, hints=40)), encoding="utf-8")
    return path


@pytest.fixture
async def browser() -> AsyncGenerator[Chromium]:
    program = find_chromium()
    assert program is not None
    async with Chromium(program) as started:
        yield started


async def tree(page: Page) -> list[tuple[str, str]]:
    """Return the roles and names that a screen reader gets."""
    nodes = (await page.ask("Accessibility.getFullAXTree"))["nodes"]
    return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")]


async def test_page_fits_and_makes_no_request_and_logs_no_error(browser: Chromium, file: Path):
    for width in (360, 390, 768, 1280):
        page = await browser.open(file, width=width)
        await page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert await page.evaluate("document.documentElement.scrollWidth") == width
        assert page.requests == [file.as_uri()]
        assert page.complaints == []


async def test_page_shows_verdict_numbers_and_plot_on_the_first_screen(browser: Chromium, file: Path):
    page = await browser.open(file, width=1280)
    tops: list[float] = await page.evaluate("""["#verdict", ".facts", "svg.wide", "#next"]
        .map(selector => document.querySelector(selector).getBoundingClientRect().top)""")
    assert tops == sorted(tops)
    assert await page.evaluate("document.querySelector('svg.wide').getBoundingClientRect().bottom") <= 800


async def test_page_shows_markup_of_models_as_text(browser: Chromium, file: Path):
    page = await browser.open(file)
    assert await page.evaluate("document.querySelectorAll('script, img, iframe, object, form').length") == 0
    assert await page.evaluate("typeof window.evil") == "undefined"
    assert await page.evaluate(
        "document.querySelector('#hints-table').closest('table').rows[1].cells[0].innerText"
    ) == (f"{HOSTILE}\nfor {HOSTILE[:59]}… · round 1 · llm · from 9 failures")


async def test_page_has_each_landmark_once_for_screen_readers(browser: Chromium, file: Path):
    roles = [role for role, _ in await tree(await browser.open(file))]
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert roles.count(landmark) == 1


async def test_plots_have_names_for_screen_readers(browser: Chromium, file: Path):
    nodes = await tree(await browser.open(file))
    plots = [name for role, name in nodes if role == "image" and name]
    assert [name.split(":")[0] for name in plots] == [
        "Success of each arm with its 95 % interval",
        "Success over rounds with 95 % intervals",
        "When each stage ran, in order of start",
    ]


async def test_headings_skip_no_level(browser: Chromium, file: Path):
    page = await browser.open(file)
    levels: list[int] = await page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))


async def test_tables_have_captions_and_scopes_for_screen_readers(browser: Chromium, file: Path):
    page = await browser.open(file)
    tables: list[Any] = await page.evaluate("""[...document.querySelectorAll("table")].map(table => [
        table.caption.innerText.length > 5,
        [...table.tHead.querySelectorAll("th")].every(cell => cell.scope == "col"),
        [...table.tBodies[0].rows].every(row => row.cells[0].scope == "row"),
        table.parentElement.getAttribute("aria-labelledby") == table.caption.querySelector("span").id,
    ])""")
    assert len(tables) == 8
    assert all(all(table) for table in tables)


async def test_keyboard_reaches_every_control_of_the_page(browser: Chromium, file: Path):
    page = await browser.open(file, width=360)
    await page.press("Tab")
    assert await page.evaluate("document.activeElement.hash") == "#verdict"
    seen: list[str] = []
    for _ in range(200):
        await page.press("Tab")
        name = await page.evaluate("document.activeElement.tagName + ' ' + document.activeElement.className")
        if name.startswith("BODY"):
            break
        seen.append(name.strip())
    assert seen.count("SUMMARY") == 2
    assert seen.count("DIV scroll") == 8
    assert seen.count("A") == 9
    await page.evaluate("document.querySelectorAll('summary')[1].focus()")
    assert not await page.evaluate("document.querySelectorAll('details')[1].open")
    await page.press("Enter")
    assert await page.evaluate("document.querySelectorAll('details')[1].open")


async def test_text_has_a_contrast_of_4_5_at_any_width_and_scheme(browser: Chromium, file: Path):
    for width, dark in itertools.product((360, 1280), (False, True)):
        page = await browser.open(file, width=width, dark=dark)
        await page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        contrast, text = await page.evaluate(CONTRAST)
        assert contrast >= 4.5, text


async def test_page_and_plots_are_dark_when_the_scheme_is_dark(browser: Chromium, file: Path):
    script = (
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color, "
        "getComputedStyle(document.querySelector('svg.wide text')).fill]"
    )
    light = await (await browser.open(file)).evaluate(script)
    dark = await (await browser.open(file, dark=True)).evaluate(script)
    assert light == ["rgb(255, 255, 255)", "rgb(28, 36, 48)", "rgb(28, 36, 48)"]
    assert dark == ["rgb(18, 23, 30)", "rgb(230, 235, 242)", "rgb(230, 235, 242)"]


async def test_page_is_light_and_unfolded_when_printed(browser: Chromium, file: Path):
    page = await browser.open(file, dark=True)
    assert (await page.pdf()).startswith(b"%PDF")
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    await page.ask("Emulation.setEmulatedMedia", media="print", features=[dark])
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert await page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    heights: list[float] = await page.evaluate(
        "[...document.querySelectorAll('.play')].map(play => play.getBoundingClientRect().height)"
    )
    assert len(heights) == 4
    assert min(heights) > 100
