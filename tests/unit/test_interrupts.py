"""Steps that an interrupt must not leave half done."""

import pytest

from deltavcs.interrupts import to_the_end


def test_a_step_that_is_interrupted_is_run_again_and_the_interrupt_raised_after_it():
    runs = []

    def step():
        runs.append(len(runs))
        if len(runs) < 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to_the_end(step)
    assert runs == [0, 1, 2]


def test_a_step_without_interrupt_runs_once():
    runs = []
    to_the_end(lambda: runs.append(1))
    assert runs == [1]


def test_another_error_ends_it():
    def step():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        to_the_end(step)
