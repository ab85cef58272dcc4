"""Who guesses waits, longer each time; nobody else does."""

import pytest

from archive.auth import guessing
from archive.auth.guessing import Guard
from archive.errors import UnauthenticatedError


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    made = Clock()
    monkeypatch.setattr(guessing, "time", made)
    return made


def waits(guard, name="anna", remote="a") -> bool:
    try:
        guard.require_patience(name, remote)
    except UnauthenticatedError:
        return True
    return False


def test_who_guesses_waits_longer_each_time_and_others_do_not(clock):
    guard = Guard()
    for _ in range(4):
        guard.failed("anna", "a")
        assert not waits(guard)
    for seconds in (1, 2, 4, 8, 16, 32, 60, 60):
        guard.failed("anna", "a")
        clock.now += seconds - 0.1
        assert waits(guard)
        assert not waits(guard, "anna", "b")
        assert not waits(guard, "ben", "a")
        clock.now += 0.2
        assert not waits(guard)
    guard.succeeded("anna", "a")
    guard.failed("anna", "a")
    assert not waits(guard)


def test_an_address_that_tries_many_names_waits(clock):
    guard = Guard()
    for number in range(30):
        assert not waits(guard, f"user{number}")
        guard.failed(f"user{number}", "a")
    assert waits(guard)
    assert not waits(guard, "anna", "b")
    clock.now += 61
    assert not waits(guard)


def test_failures_that_come_seldom_are_no_guessing(clock):
    guard = Guard()
    for number in range(100):
        guard.failed(f"user{number}", "a")
        clock.now += 10
        assert not waits(guard)


def test_what_is_counted_has_an_end(clock, monkeypatch):
    monkeypatch.setattr(guessing, "_MOST", 10)
    guard = Guard()
    for number in range(100):
        guard.failed(f"user{number}", f"address{number}")
    assert len(guard._of_name) == len(guard._of_address) == 10
