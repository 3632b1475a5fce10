"""Epochs advance by themselves, by name, and from a state."""

from lakehouse.loader.cursor import Cursor


def run(cursor, num_batches, until=None):
    """Iterate as the loader does; give the epoch and the batches seen."""
    epoch, first = cursor.begin(num_batches)
    last = num_batches if until is None else min(until, num_batches)
    for received in range(first + 1, last + 1):
        cursor.receive(received, num_batches)
    if until is None:
        cursor.finish(num_batches)
    return epoch, list(range(first, last))


def test_each_iteration_is_the_next_epoch():
    cursor = Cursor()
    assert [run(cursor, 3)[0] for _ in range(4)] == [0, 1, 2, 3]


def test_an_iteration_left_early_starts_its_epoch_again():
    cursor = Cursor()
    run(cursor, 5)
    assert run(cursor, 5, until=2) == (1, [0, 1])
    assert run(cursor, 5) == (1, [0, 1, 2, 3, 4])


def test_an_epoch_is_over_with_its_last_batch_whether_or_not_the_end_was_asked_for():
    cursor = Cursor()
    assert [run(cursor, 5, until=5)[0] for _ in range(3)] == [0, 1, 2]
    assert cursor.received == 5


def test_a_loaded_position_goes_on_once():
    cursor = Cursor()
    cursor.load(epoch=7, received=3)
    assert (cursor.epoch, cursor.received) == (7, 3)
    assert run(cursor, 5) == (7, [3, 4])
    assert run(cursor, 5) == (8, [0, 1, 2, 3, 4])


def test_naming_the_epoch_just_loaded_keeps_its_position():
    cursor = Cursor()
    cursor.load(epoch=7, received=3)
    cursor.set_epoch(7)
    assert run(cursor, 5) == (7, [3, 4])


def test_naming_another_epoch_starts_it():
    cursor = Cursor()
    cursor.load(epoch=7, received=3)
    cursor.set_epoch(8)
    assert run(cursor, 5) == (8, [0, 1, 2, 3, 4])


def test_a_state_saved_after_the_last_batch_is_followed_by_the_next_epoch():
    cursor = Cursor()
    cursor.load(epoch=3, received=5)
    assert run(cursor, 5) == (4, [0, 1, 2, 3, 4])


def test_a_finished_epoch_that_was_loaded_and_named_has_nothing_left():
    cursor = Cursor()
    cursor.load(epoch=3, received=5)
    cursor.set_epoch(3)
    assert run(cursor, 5) == (3, [])
    assert run(cursor, 5) == (4, [0, 1, 2, 3, 4])


def test_an_epoch_named_twice_runs_twice():
    cursor = Cursor()
    cursor.set_epoch(2)
    first = run(cursor, 5)
    cursor.set_epoch(2)
    assert run(cursor, 5) == first == (2, [0, 1, 2, 3, 4])


def test_a_loader_without_batches_counts_epochs_too():
    cursor = Cursor()
    assert [run(cursor, 0) for _ in range(3)] == [(0, []), (1, []), (2, [])]
