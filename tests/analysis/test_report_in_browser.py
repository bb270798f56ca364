"""The report as people see it: opened in headless Chromium, on a desktop and on a phone."""

import os
from contextlib import ExitStack

import pytest

from analysis import write_report
from tests.analysis.browser import browser, chromium

SIZES = {
    "desktop": {"width": 1280, "height": 900, "mobile": False},
    "phone": {"width": 390, "height": 844, "mobile": True},
}

PICTURES = """[...document.querySelectorAll('figure img')].map(image => {
  const box = image.getBoundingClientRect();
  return {name: image.closest('figure').id, loaded: image.complete && image.naturalWidth > 0,
          width: box.width, height: box.height, hidden: getComputedStyle(image).visibility !== 'visible'};
})"""
"""Every figure of the page as the browser laid it out."""

WIDER_THAN_THE_PAGE = """[...document.querySelectorAll('table, img, pre')].filter(element => {
  const holder = element.closest('.scroll') ?? element.closest('pre') ?? document.body;
  return holder.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
}).length"""
"""How many things reach beyond the right edge and are not in a box that scrolls."""


@pytest.fixture(scope="module")
def opened(full_run, tmp_path_factory):
    """A function that opens the report in a window of one of `SIZES` and gives the browser."""
    program = chromium()
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("CI must open the report in a browser, but there is none; .ci/run installs Debian's chromium.")
        pytest.skip("chromium is not installed; `apt-get install chromium` lets this test open the report")
    page = write_report(full_run.path, tmp_path_factory.mktemp("report") / "index.html")
    with ExitStack() as stack:
        window = stack.enter_context(browser(program, tmp_path_factory.mktemp("profile")))

        def open_page(size):
            window.open(page, **SIZES[size])
            return window

        yield open_page


@pytest.mark.parametrize("size", SIZES)
def test_the_report_opens_without_a_complaint_or_a_request_to_a_network(opened, size):
    window = opened(size)
    said = window.of_kind("Runtime.consoleAPICalled") + window.of_kind("Log.entryAdded")
    assert said + window.of_kind("Runtime.exceptionThrown") == []
    asked = [request["request"]["url"] for request in window.of_kind("Network.requestWillBeSent")]
    assert sum(url.startswith("file:") for url in asked) == 1
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("size", SIZES)
def test_every_figure_is_seen_and_nothing_reaches_beyond_the_page(opened, size):
    window = opened(size)
    pictures = window.value(PICTURES)
    assert {"arm_violins", "accuracy_by_width", "activation_curves"} <= {picture["name"] for picture in pictures}
    for picture in pictures:
        assert picture["loaded"], picture
        assert not picture["hidden"], picture
        assert picture["width"] >= 200, picture
        assert picture["height"] >= 100, picture
    assert window.value("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    assert window.value(WIDER_THAN_THE_PAGE) == 0


def test_text_has_the_same_size_on_a_phone(opened):
    window = opened("phone")
    assert window.value("visualViewport.scale") == 1
    assert window.value("parseFloat(getComputedStyle(document.querySelector('.verdict li')).fontSize)") >= 16


def test_the_browser_would_tell_of_an_error_and_of_a_request(opened, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<script>undefined_function()</script><img src='http://127.0.0.1:9/x.png' alt=''>")
    window = opened("desktop")
    with pytest.raises(RuntimeError, match="decode"):
        window.open(page, **SIZES["desktop"])
    assert len(window.of_kind("Runtime.exceptionThrown")) == 1
    asked = [request["request"]["url"] for request in window.of_kind("Network.requestWillBeSent")]
    assert "http://127.0.0.1:9/x.png" in asked
