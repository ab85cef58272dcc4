"""When what failed is tried again, and when it is given up."""

from archive.forward.retrying import Retrying

DAY_US = 86_400_000_000


def test_pauses_double_up_to_an_hour_and_are_never_the_same():
    retrying = Retrying(first_s=10, attempts=0, days=0)
    for failures in range(1, 400):
        expected = min(10 * 2 ** (failures - 1), 3600) * 1_000_000
        assert 0.75 * expected <= retrying.pause_us(failures) <= 1.25 * expected
    assert len({retrying.pause_us(3) for _ in range(20)}) > 1
    assert retrying.pause_us(50, longest_s=60) <= 75_000_000


def test_it_is_over_after_so_many_tries_or_so_many_days_or_never():
    often = Retrying(first_s=10, attempts=5, days=0)
    assert not often.is_over(4, since_us=0, now_us=1000 * DAY_US)
    assert often.is_over(5, since_us=0, now_us=1)
    long = Retrying(first_s=10, attempts=0, days=1.5)
    assert not long.is_over(10_000, since_us=0, now_us=DAY_US)
    assert long.is_over(1, since_us=0, now_us=2 * DAY_US)
    assert not Retrying(10, 0, 0).is_over(10_000, since_us=0, now_us=1000 * DAY_US)
