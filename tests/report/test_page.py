"""The report as a person sees it, in a real browser."""

import browser
import made_record
import pytest

from enginebench.report import build

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no chromium here")

FACTORS = {"slow/plain": (2, 2.2, 1.9), "quick/plain": (1, 1.05, 1.1)}


@pytest.fixture(scope="module")
def page():
    with browser.opened() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    directory = made_record.write(tmp_path_factory.mktemp("results") / "made", FACTORS)
    build.build(directory)
    return directory / "derived" / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_fits_its_window_asks_for_nothing_and_complains_of_nothing(
    page, file, width, scheme
):
    page.look(file, width, scheme)
    assert page.ask("document.documentElement.scrollWidth") <= width
    assert page.requests() == [file.as_uri()]
    assert page.complaints() == []
    paper = page.ask("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[scheme]


def test_pointing_near_a_value_shows_it_exactly(page, file):
    page.look(file, 1280, "light")
    place = """(() => {
      const mark = document.querySelector("figure .mark");
      mark.scrollIntoView({block: "center"});
      const box = mark.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    })()"""
    x, y = page.ask(place)
    assert page.ask('document.getElementById("tip").hidden')
    page.point(x + 3, y + 3)
    assert not page.ask('document.getElementById("tip").hidden')
    shown = page.ask('document.getElementById("tip").textContent')
    # Fifteen tokens in 0.48 f s, for f of 2, 2.2 and 1.9
    mean = sum(15 / (0.48 * factor) for factor in FACTORS["slow/plain"]) / 3
    assert shown.startswith(f"slow/plain, 1 requests in flight: {mean:,.4g} [")
    page.point(5, 5)
    assert page.ask('document.getElementById("tip").hidden')
