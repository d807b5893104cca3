"""The state of the process that code of a plugin may change: torch's settings, generators, warnings, the folder."""

from __future__ import annotations

import io
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from contextvars import ContextVar
from typing import Any, NoReturn

# What stands in for the command line while a plugin is imported: one who parses it is refused by it, and no option of
# `bench` is taken for one of the plugin's.
_NO_COMMAND_LINE = "--this-is-not-your-command-line"

_inside: ContextVar[bool] = ContextVar("inside", default=False)


@contextmanager
def preserved() -> Iterator[None]:
    """Restores, at the end, what code inside may change for the whole process.

    These are torch's default dtype and device, grad mode, numbers of threads, precisions of products, flushing of
    denormal numbers and choice of kernels; the random generators of torch, NumPy and Python; the filters of warnings;
    the working folder; and `sys.argv`. `os._exit` raises an error instead of ending the process in silence. Calls
    inside each other share the generators, so that what draws initial weights twice gets two draws.
    """
    states = [_torch, _warnings, _folder, _arguments, _exit, *([] if _inside.get() else [_generators])]
    with ExitStack() as restored:  # what fails or is interrupted while the states are read is undone, too
        restored.callback(_inside.reset, _inside.set(True))
        for kept in states:
            restored.callback(kept())
        yield


@contextmanager
def importing() -> Iterator[None]:
    """A plugin is imported inside: the command line is hidden, and a usage text is not shown if it ends the program."""
    shown = io.StringIO()
    before = sys.argv
    sys.argv = [*before[:1], _NO_COMMAND_LINE]
    try:
        with redirect_stderr(shown):
            yield
    except SystemExit as error:
        lines = shown.getvalue().strip().splitlines()
        if not lines:
            raise
        raise ImportError(
            f"it ends the program ({lines[-1].replace(_NO_COMMAND_LINE, 'bench')}), as a script does that reads the "
            'command line when it is imported: put that under `if __name__ == "__main__":`'
        ) from error
    except BaseException:
        sys.stderr.write(shown.getvalue())
        raise
    else:
        sys.stderr.write(shown.getvalue())
    finally:
        sys.argv = before


def _torch() -> Callable[[], None]:
    import torch

    settings = _settings()
    device = torch.get_default_device()
    flushed = _flushes_denormals()

    def restore() -> None:
        for read, write, before in settings:
            if read() != before:
                write(before)
        if torch.get_default_device() != device:
            torch.set_default_device(None)
            if torch.get_default_device() != device:
                torch.set_default_device(device)
        if _flushes_denormals() != flushed:
            torch.set_flush_denormal(flushed)

    return restore


def _settings() -> list[tuple[Callable[[], Any], Callable[[Any], Any], Any]]:
    """Each setting of torch: how it is read, how it is written, and its value."""
    import torch

    backends: Any = torch.backends

    def attribute(place: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        return lambda: getattr(place, name), lambda value: setattr(place, name, value)

    pairs: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.get_num_threads, torch.set_num_threads),
        # In this order: the one sets several of the others.
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        *(
            attribute(place, "fp32_precision")
            for place in (
                backends.cuda.matmul,
                backends.cudnn.conv,
                backends.cudnn.rnn,
                backends.mkldnn.matmul,
                backends.mkldnn.conv,
                backends.mkldnn.rnn,
            )
        ),
        *(attribute(backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")),
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    ]
    return [(read, write, read()) for read, write in pairs]


def _flushes_denormals() -> bool:
    return sys.float_info.min / 2 == 0  # torch has no question for it


def _generators() -> Callable[[], None]:
    import numpy as np
    import torch

    cpu, python, numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]

    def restore() -> None:
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        random.setstate(python)
        np.random.set_state(numpy)

    return restore


def _warnings() -> Callable[[], None]:
    filters, show = list(warnings.filters), warnings.showwarning

    def restore() -> None:
        warnings.filters[:] = filters  # type: ignore[index]
        warnings.showwarning = show

    return restore


def _folder() -> Callable[[], None]:
    folder: str | None = None
    with suppress(OSError):  # it may have been removed
        folder = os.getcwd()  # noqa: PTH109

    def restore() -> None:
        if folder is not None:
            with suppress(OSError):
                os.chdir(folder)

    return restore


def _exit() -> Callable[[], None]:
    """`os._exit` would end the command without a word, so it is an error; not in processes that code forks."""
    leave, process = os._exit, os.getpid()

    def refuse(status: int) -> NoReturn:
        if os.getpid() != process:
            leave(status)
        raise SystemExit(f"it called os._exit({status})")

    def restore() -> None:
        os._exit = leave

    os._exit = refuse
    return restore


def _arguments() -> Callable[[], None]:
    arguments, before = sys.argv, list(sys.argv)

    def restore() -> None:
        sys.argv = arguments
        sys.argv[:] = before

    return restore
