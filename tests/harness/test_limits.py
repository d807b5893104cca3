"""`--timeout` in this process."""

from __future__ import annotations

import signal
import sys
import time

import pytest

from stressbench.errors import UserError, plugin_errors
from stressbench.execution.limits import limited, require_room


def never() -> None:
    """A plugin that goes on whatever happens."""
    with plugin_errors("the suite failed"), plugin_errors("the model failed"):
        try:
            time.sleep(60)
        except Exception:
            time.sleep(60)


def test_what_takes_too_long_is_an_error_also_inside_of_others() -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match=r"the model took more than 0.05 seconds"), limited(0.05, "the model"):
        never()
    assert time.monotonic() - started < 30


def test_what_is_in_time_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(KeyError), limited(60, "the model"):
        raise KeyError("of its own")
    with limited(60, "the model"):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_a_limit_of_addresses_under_which_libraries_hang_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    for limit in (resource.RLIM_INFINITY, 6 * 2**30):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        require_room()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**32, 2**32))
    with pytest.raises(UserError, match=r"4\.0 GB of addresses.*allow more"):
        require_room()
