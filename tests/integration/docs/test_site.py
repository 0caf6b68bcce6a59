"""The documentation site in a real browser: on a desktop, on a phone and in the dark, without any other host."""

from __future__ import annotations

import itertools
import os
import subprocess
import threading
from collections.abc import AsyncGenerator, Generator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.integration.chromium import CONTRAST, Chromium, Page, find_chromium
from tests.paths import ROOT

SITE = ROOT / "build/docs/site"
BUILDER = ROOT / "build/docs-venv/bin/python"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no chromium on the path: apt-get install chromium"),
    pytest.mark.skipif(not BUILDER.exists() and not SITE.exists(), reason="no documentation site: make docs"),
]

PAGES = ("", "guides/run/", "reference/resource/")
WIDTHS = (390, 1280)
TABS = ["Home", "Getting started", "Guides", "Concepts", "Reference", "Benchmarks", "Decisions", "Contributing"]

# The two elements that are widest beyond the page, for the message of a failure.
OVERFLOWING = """[...document.querySelectorAll("article *")]
  .filter(e => e.getBoundingClientRect().right > innerWidth && !e.closest(".md-typeset__scrollwrap, pre"))
  .slice(0, 2).map(e => e.outerHTML.slice(0, 120)).join("\\n")"""

# The theme draws the search in a shadow root.
SEARCH = "[...document.querySelectorAll('*')].find(element => element.shadowRoot)?.shadowRoot"
RESULTS = f"[...{SEARCH}.querySelectorAll('[role=option]')].map(link => link.href)"


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def site() -> Generator[str]:
    """The URL of the site: a new build if the builder is installed, else the last one."""
    if BUILDER.exists():
        built = subprocess.run([BUILDER, "-m", "hack.site"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=os.fspath(SITE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
async def browser() -> AsyncGenerator[Chromium]:
    """A browser for which no name of a host resolves."""
    program = find_chromium()
    assert program is not None
    async with Chromium(program, arguments=["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]) as started:
        yield started


def elsewhere(page: Page, site: str) -> list[str]:
    return [url for url in page.requests if not url.startswith((site, "data:", f"blob:{site}"))]


@pytest.mark.parametrize("path", PAGES)
async def test_site_logs_nothing_and_loads_nothing_from_other_hosts(browser: Chromium, site: str, path: str):
    for width, dark in itertools.product(WIDTHS, (False, True)):
        page = await browser.open(site + path, width=width, dark=dark)
        assert await page.evaluate("document.querySelector('h1').innerText")
        assert elsewhere(page, site) == []
        assert page.complaints == []


@pytest.mark.parametrize("path", PAGES)
async def test_site_has_no_horizontal_scroll_when_on_a_phone(browser: Chromium, site: str, path: str):
    page = await browser.open(site + path, width=390)
    assert await page.evaluate("innerWidth") == 390
    scroll = await page.evaluate("document.documentElement.scrollWidth")
    assert scroll <= 390, await page.evaluate(OVERFLOWING)


@pytest.mark.parametrize("path", PAGES)
async def test_site_text_has_a_contrast_of_4_5_in_both_schemes(browser: Chromium, site: str, path: str):
    for width, dark in itertools.product(WIDTHS, (False, True)):
        page = await browser.open(site + path, width=width, dark=dark)
        contrast, text = await page.evaluate(CONTRAST)
        assert contrast >= 4.5, f"{'dark' if dark else 'light'}: {text}"


async def test_site_is_dark_when_the_system_is(browser: Chromium, site: str):
    brightness = """getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).slice(0, 3)
        .reduce((sum, channel) => sum + Number(channel), 0)"""
    assert await (await browser.open(site)).evaluate(brightness) == 3 * 255
    assert await (await browser.open(site, dark=True)).evaluate(brightness) < 150


async def test_site_has_every_section_in_its_tabs_when_on_a_desktop(browser: Chromium, site: str):
    page = await browser.open(site)
    tabs = await page.evaluate("[...document.querySelectorAll('.md-tabs__link')].map(link => link.innerText.trim())")
    assert tabs == TABS


async def test_site_opens_its_navigation_when_on_a_phone(browser: Chromium, site: str):
    page = await browser.open(site + "guides/run/", width=390)
    await page.evaluate("document.querySelector('.md-header label[for=__drawer]').click()")
    await page.wait_for("""[...document.querySelectorAll('.md-nav--primary a.md-nav__link')].some(link => {
        const box = link.getBoundingClientRect();
        return link.innerText.trim() == "Serving and canaries" && box.left >= 0 && box.right <= innerWidth;
    })""")


async def test_site_search_finds_a_field_when_offline(browser: Chromium, site: str):
    page = await browser.open(site)
    await page.wait_for(f"{SEARCH} != null")
    await page.evaluate("document.querySelector('.md-search__button').click()")
    await page.wait_for(f"{SEARCH}.activeElement != null")
    await page.write("learningRate")
    results: list[str] = await page.wait_for(f"{RESULTS}.length && {RESULTS}")
    assert any("/reference/resource/" in url for url in results)
    assert elsewhere(page, site) == []
