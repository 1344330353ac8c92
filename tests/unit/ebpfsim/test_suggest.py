"""Did-you-mean."""

from ebpfsim.suggest import did_you_mean


def test_near_word_is_suggested_whatever_its_case() -> None:
    assert did_you_mean("ATACH", ["attach", "detach", "map"]) == "; did you mean 'attach'?"


def test_far_word_is_not() -> None:
    assert did_you_mean("zebra", ["attach", "map"]) == ""


def test_letters_that_changed_places_go_first() -> None:
    assert did_you_mean("dts", ["tos", "dst", "src"]) == "; did you mean 'dst'?"
