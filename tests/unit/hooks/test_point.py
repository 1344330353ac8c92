"""What BPF_PROG_QUERY answers (union bpf_attr, query)."""

from hooks.point import AttachPoint, Queried


def test_count_is_that_of_the_programs() -> None:
    assert (Queried().count, Queried((3, 1, 2)).count) == (0, 3)


def test_a_row_has_nothing_by_itself() -> None:
    row = AttachPoint()
    assert (row.link_create, row.prog_attach, row.prog_detach, row.prog_query) == (None, None, None, None)
