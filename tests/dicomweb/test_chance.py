"""Names that nobody can guess are never given twice, nor by two processes."""

import os
from concurrent.futures import ThreadPoolExecutor

from dicomweb.chance import random_name


def test_no_name_is_given_twice():
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: random_name(), range(5000)))
    assert len(set(names)) == len(names)
    assert {len(name) for name in names} == {32}


def test_a_process_made_of_this_one_draws_its_own():
    random_name()  # some are in stock
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, random_name().encode())
        os._exit(0)
    os.waitpid(child, 0)
    of_child = os.read(reading, 32).decode()
    assert of_child not in [random_name() for _ in range(200)]
