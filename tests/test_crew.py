"""Tasks over processes: in order, several iterations at a time, errors and deaths told at once and nobody left."""

import os
import signal
import sys
import threading
import time

import pytest
from trees import children

from jaxlip.data.crew import CHUNK, Died, OrderedMap
from jaxlip.errors import UserError


def doubled(task: int) -> int:
    if task < 0:
        raise UserError(f"{task} is negative")
    if task == 10**6:
        os._exit(7)
    # The later ones are done first.
    time.sleep(0.002 * (task % 5))
    return 2 * task


@pytest.fixture
def pool():
    with OrderedMap(doubled, 2) as pool:
        yield pool


@pytest.mark.parametrize("size", [0, 1, CHUNK, 5 * CHUNK + 3])
def test_results_come_in_order(pool, size):
    assert list(pool(range(size), ahead=16)) == [2 * task for task in range(size)]


def test_iterations_may_take_turns(pool):
    """As the splits of a corpus do, whose first clips are all asked for before the second ones."""
    some = [pool(range(start, start + 60), ahead=CHUNK) for start in (0, 100, 200)]
    firsts = [next(each) for each in some]
    assert firsts == [0, 200, 400]
    assert [list(each) for each in some] == [[2 * t for t in range(s + 1, s + 60)] for s in (0, 100, 200)]
    empty, full = pool([], ahead=8), pool(range(9), ahead=8)
    assert next(full) == 0 and list(empty) == [] and len(list(full)) == 8


def test_no_more_is_worked_on_than_was_said(pool):
    taken = []
    reading = pool((taken.append(task) or task for task in range(1000)), ahead=16)
    next(reading)
    assert len(taken) <= 2 * 16 + CHUNK
    assert len(list(reading)) == 999


def test_what_the_function_raises_is_raised_here(pool):
    with pytest.raises(UserError, match="-3 is negative"):
        list(pool([1, 2, -3], ahead=8))


def test_an_error_is_of_the_iteration_that_asked_and_comes_in_its_place(pool):
    failing, fine = pool([*range(CHUNK), -3], ahead=16), pool(range(30), ahead=16)
    assert next(failing) == 0 and list(fine) == [2 * task for task in range(30)]
    assert [next(failing) for _ in range(CHUNK - 1)] == [2 * task for task in range(1, CHUNK)]
    with pytest.raises(UserError, match="-3 is negative"):
        next(failing)


def test_any_thread_may_map():
    found = []

    def work():
        with OrderedMap(doubled, 2) as pool:
            found.extend(pool(range(20), ahead=8))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [2 * task for task in range(20)]


def test_a_process_that_ends_says_how():
    with OrderedMap(doubled, 2) as pool, pytest.raises(Died, match="^ended with exit code 7$"):
        list(pool([10**6], ahead=8))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
@pytest.mark.parametrize("after", [0.0, 0.01, 0.1, 2.0])
def test_one_that_is_killed_is_told_whenever_it_happens(after):
    """While the processes start, too: a pool of concurrent.futures then waits for ever."""

    def kill():
        while not (found := children(b"spawn_main")):
            time.sleep(0.001)
        time.sleep(after)
        os.kill(min(found), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(Died, match="^was killed by SIGKILL$"), OrderedMap(doubled, 2) as pool:
        list(pool(iter(int, 1), ahead=8))
    killer.join()
    assert not children(b"spawn_main")
