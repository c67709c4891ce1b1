"""Processes that share a list of tasks, and leave nothing behind."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed


def pooled(function: Callable, tasks: list[tuple], workers: int) -> Iterator:
    """``function(*task)`` of every task, in whatever order they are finished.

    What is not begun is dropped when one fails or the iteration is given up; processes end with the one that started
    them, even if that is killed.

    Raises:
        BrokenProcessPool: a process died.
    """
    if not tasks:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=_end_with_parent) as pool:
        try:
            for future in as_completed([pool.submit(function, *task) for task in tasks]):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=wait, daemon=True).start()
