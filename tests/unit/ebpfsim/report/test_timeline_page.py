"""The page into which a run's data goes: each place once, nothing from elsewhere, and ends for all that begins."""

import re

from ebpfsim.report.timeline_page import PAGE

PLACES = ("@TITLE@", "@HEAD@", "@TABLES@", "@DATA@")


def test_each_place_is_there_once() -> None:
    assert [PAGE.count(place) for place in PLACES] == [1, 1, 1, 1]


def test_nothing_is_fetched() -> None:
    assert not re.search(r"(src|href)\s*=|@import|url\(|fetch\(|XMLHttpRequest", PAGE)
    # the name space of SVG is a name, no address
    assert re.findall(r"https?://[^\s\"']+", PAGE) == ["http://www.w3.org/2000/svg"]


def test_what_begins_ends() -> None:
    for tag in ("html", "head", "body", "style", "script", "p", "svg", "div", "button", "span"):
        assert len(re.findall(rf"<{tag}[ >]", PAGE)) == PAGE.count(f"</{tag}>"), tag
    script = PAGE.rpartition("<script>")[2].partition("</script>")[0]
    assert [script.count(each) for each in "{(["] == [script.count(each) for each in "})]"]
