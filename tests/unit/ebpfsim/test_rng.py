"""Random streams: the same for the same seed and name, and apart from each other."""

from ebpfsim.rng import Rng


def test_streams_depend_on_seed_and_name_only() -> None:
    a, b = Rng(7), Rng(7)
    b.stream("another").random()  # a consumer more changes nothing for the rest
    draws = [a.stream("loss").randrange(1000) for _ in range(5)]
    assert draws == [b.stream("loss").randrange(1000) for _ in range(5)]
    assert draws != [Rng(8).stream("loss").randrange(1000) for _ in range(5)]
    assert draws != [Rng(7).stream("delay").randrange(1000) for _ in range(5)]


def test_a_stream_goes_on_where_it_was() -> None:
    rng = Rng(1)
    assert rng.stream("x") is rng.stream("x")


def test_numbers_are_the_stream_in_its_order() -> None:
    numbers, stream = Rng(3).numbers("x"), Rng(3).stream("x")
    assert [numbers.take() for _ in range(600)] == [stream.getrandbits(32) for _ in range(600)]
    rng = Rng(3)
    assert rng.numbers("x") is rng.numbers("x")
