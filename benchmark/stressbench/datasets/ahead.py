"""Reading beside the computation."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from torch import Tensor


class ReadAhead:
    """Reads ranges of a source, and while one is worked on the next one of the same length, in a thread.

    >>> import torch
    >>> ahead = ReadAhead(lambda start, stop: torch.arange(start, stop), 5)
    >>> [ahead(0, 2).tolist(), ahead(2, 4).tolist(), ahead(4, 5).tolist()]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, read: Callable[[int, int], Tensor], end: int, again: bool = False) -> None:
        """`end` is how many there are; with `again`, the first ones are read after the last."""
        self._read, self._end, self._again = read, end, again
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._next: tuple[int, int] | None = None
        self._coming: Future[Tensor] | None = None
        self._size = 0

    def __call__(self, start: int, stop: int) -> Tensor:
        """What `read` gives, or raises, for start … stop − 1."""
        coming, self._coming = self._coming, None
        if coming is not None and self._next != (start, stop):
            wait([coming])  # a source need not bear two readers at a time
            coming = None
        found = self._read(start, stop) if coming is None else coming.result()
        self._size = max(self._size, stop - start)
        low = 0 if stop >= self._end and self._again else stop
        high = min(low + self._size, self._end)
        if low < high:
            self._next, self._coming = (low, high), self._pool.submit(self._read, low, high)
        return found

    def close(self) -> None:
        """Wait for what is being read."""
        self._pool.shutdown()
