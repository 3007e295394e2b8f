"""Reading ahead: a thread answers the next request while the caller uses the present answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

from ppl_vae.errors import InputError, reason

Request = TypeVar("Request")
Answer = TypeVar("Answer")


def read_ahead(read: Callable[[Request, Event], Answer], requests: Iterable[Request]) -> Generator[Answer, None, None]:
    """Yield the answers to requests in their order; a thread reads the next one while the caller uses the present one.

    A request is taken from its iterator when the caller has finished with the answer before the last.

    Args:
        read: function of a request and of an event; it returns early once the event is set.
        requests: the requests.

    Raises:
        InputError: the thread raised an error; its message is one line.

    Example:
        >>> list(read_ahead(lambda number, stopped: number**2, [1, 2, 3]))
        [1, 4, 9]
    """
    stopped, waiting = Event(), deque[Future[Answer]]()
    pool = ThreadPoolExecutor(1, thread_name_prefix="ppl_vae-reader")
    try:
        for request in requests:
            waiting.append(pool.submit(read, request, stopped))
            if len(waiting) == 2:
                yield _answer(waiting.popleft())
        while waiting:
            yield _answer(waiting.popleft())
    finally:
        stopped.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _answer(future: Future[Answer]) -> Answer:
    try:
        return future.result()
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a file that is cut short or a disk that fails, in the words of its library
        raise InputError(f"the data cannot be read ({reason(error)}): restore the file, or copy it again") from error
