"""The processes that torchrun or accelerate has started of one command: who leads, and what they tell each other.

The process group is this module's alone. What the launcher has set in the environment is taken out of it while a run
goes on, and each process sees one GPU: the Trainer, accelerate and the children of a process know of no others. So what
one process does alone needs no precautions, and what is shared is shared where a call of this module says so.

Imports torch only where there are several processes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from compressor import launcher
from compressor.errors import ProviderError, StageError
from compressor.launcher import ALONE, Processes

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

PATIENCE = timedelta(days=2)
"""How long a process waits for the others. Long, because the first one tunes alone; that a process has ended is noticed
at once."""

_BUCKET = 1 << 24
"""Values that are sent together."""

_FAILED = "compressor/failed"


_here = ALONE
_joined: Processes | None = None
_store: Any = None
_lost: int | None = None


def launched() -> Processes:
    """Read what a launcher says about this process, joined or not; alone where there is none."""
    return launcher.told() if _joined is None else _joined


def here() -> Processes:
    """This process among those that work together now: alone before they have joined, and where one works alone."""
    return _here


@contextmanager
def joined() -> Iterator[Processes]:
    """Bring the processes of a run together while the block runs.

    Raises:
        ProviderError: There are more processes on this machine than GPUs.
        StageError: The others do not come.
    """
    me = launched()
    if me.count == 1 or _joined is not None:
        with launcher.hidden({}):
            yield here()
        return
    with launcher.hidden(launcher.one_gpu(me)):
        _join(me)
        try:
            _check_devices()
            yield me
        except BaseException as error:
            # Before the connections close, by which the others learn of it: theirs is no failure of its own.
            _claim(me, 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1))
            raise
        finally:
            _part()


def part() -> None:
    """Let the others go: from here on the first process works alone, and they have nothing left to do."""
    if here().count > 1:
        wait_for_all()
        _part()


@contextmanager
def in_turn() -> Iterator[None]:
    """Let the first process run the block, and then the others: they find in the cache what it has made.

    Each is alone in it. What is wrong with the request is met by the first process, and told once.
    """
    me = here()
    if me.count == 1:
        yield
        return
    if not me.is_first:
        wait_for_all()
    with _working_alone():
        yield
    if me.is_first:
        wait_for_all()


def by_first(work: Callable[[], T]) -> T:
    """Let the first process, alone, find something out, and tell the others what it has found.

    Args:
        work: Its result must be one that pickles.
    """
    me = here()
    if me.count == 1:
        return work()
    found: list[Any] = [None]
    if me.is_first:
        with _working_alone():
            found[0] = work()
    with _together() as distributed:
        distributed.broadcast_object_list(found, src=0)
    result: T = found[0]
    return result


def gathered(own: T) -> list[T]:
    """Collect a value of each process, by rank, in all of them; it must be one that pickles."""
    if here().count == 1:
        return [own]
    found: list[Any] = [None] * here().count
    with _together() as distributed:
        distributed.all_gather_object(found, own)
    return found


def wait_for_all() -> None:
    """Wait until every process has come here."""
    gathered(None)


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, bit for bit the same in all; shapes are equal everywhere."""
    count = here().count
    if count > 1:
        _exchange(tensors, lambda distributed, flat: distributed.all_reduce(flat.div_(count)))


def spread(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by that of the first process."""
    if here().count > 1:
        _exchange(tensors, lambda distributed, flat: distributed.broadcast(flat, src=0))


def silenced(code: int) -> int | None:
    """Say whether a failure that ends this process is another one's to tell.

    Args:
        code: The exit code of this process's own failure.

    Returns:
        The exit code to end with in silence; ``None`` where this process has to tell it.
    """
    if _lost is not None:
        return _lost
    me = launched()
    # What fails before the processes have joined fails on every one of them: told once on each machine.
    return None if _store is not None or me.local_rank == 0 else code


def signature() -> str:
    """What a message begins with: which process it is from, unless that is the first."""
    me = launched()
    return "" if me.is_first else f"process {me.rank} of {me.count}, on {socket.gethostname()}: "


# --- the group ------------------------------------------------------------------------------


def _join(me: Processes) -> None:
    global _here, _joined, _store, _lost  # noqa: PLW0603 - a process belongs to one group
    import torch
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        # Kept beside the group: it answers until the launcher itself ends, and so tells who failed first.
        _store, _, _ = next(rendezvous("env://", me.rank, me.count, timeout=PATIENCE))
        distributed.init_process_group(
            backend,
            store=torch.distributed.distributed_c10d.PrefixStore("compressor", _store),
            rank=me.rank,
            world_size=me.count,
            timeout=PATIENCE,
        )
    except (RuntimeError, ValueError) as error:
        raise StageError(
            f"The {me.count} processes of this run cannot reach each other: {_line(error)}.",
            "Start them with torchrun or accelerate launch, which say where to meet.",
        ) from error
    _here = _joined = me
    _lost = None


def _part() -> None:
    global _here, _joined
    if _joined is None:
        return
    from torch import distributed

    _here, _joined = ALONE, None
    distributed.destroy_process_group()


def _check_devices() -> None:
    import torch

    with_gpu = gathered(torch.cuda.is_available())
    if here().is_first and any(with_gpu) and not all(with_gpu):
        count = len(with_gpu)
        raise ProviderError(
            f"{sum(with_gpu)} of {count} processes have a GPU.",
            "Start one for each GPU of a machine (--nproc-per-node), or hide all GPUs: CUDA_VISIBLE_DEVICES=''.",
        )


def _claim(me: Processes, code: int) -> None:
    """Be the one that tells a failure, or learn that another one is."""
    global _lost  # noqa: PLW0603
    try:
        told = _store.compare_set(_FAILED, "", f"{me.rank}:{code}").decode()
    except RuntimeError:  # whoever kept the store has ended
        told = f"0:{code}"
    rank, _, said = told.partition(":")
    _lost = None if int(rank) == me.rank else int(said)


@contextmanager
def _together() -> Iterator[Any]:
    """Offer ``torch.distributed``; say in our words that another process has gone."""
    from torch import distributed

    try:
        yield distributed
    except RuntimeError as error:
        raise StageError(
            f"Another process of this run has ended: {_line(error)}.",
            "What it said, or what the launcher says of its exit code, tells why. The same command continues.",
        ) from error


def _exchange(tensors: Iterable[Tensor], send: Callable[[Any, Tensor], Any]) -> None:
    import torch

    bucket: list[Tensor] = []
    held = 0

    def flush() -> None:
        with torch.no_grad(), _together() as distributed:
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in bucket])
            send(distributed, flat)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))
        bucket.clear()

    for tensor in tensors:
        bucket.append(tensor)
        held += tensor.numel()
        if held >= _BUCKET:
            flush()
            held = 0
    if bucket:
        flush()


@contextmanager
def _working_alone() -> Iterator[None]:
    global _here  # noqa: PLW0603
    before, _here = _here, ALONE
    try:
        yield
    finally:
        _here = before


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
