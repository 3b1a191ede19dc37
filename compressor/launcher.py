"""What torchrun or accelerate tells a process that it has started, by the environment; and how it is hidden."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK",
             "ROLE_WORLD_SIZE")  # fmt: skip
_GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Processes:
    """A process among those of its run.

    Attributes:
        rank: Its number; 0 leads: it alone talks, decides and writes.
        count: Of all processes on all machines.
        local_rank: Its number on its machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether it leads."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Take this process's items: every ``count``-th, so that items sorted by size are divided evenly."""
        return items[self.rank :: self.count]


ALONE = Processes()


def told() -> Processes:
    """Read which process this is among those that were started; alone where there is no launcher."""
    rank, count, local = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if not (rank.isdigit() and count.isdigit()) or int(count) < 2:
        return ALONE
    return Processes(int(rank), int(count), int(local) if local.isdigit() else 0)


def one_gpu(me: Processes) -> dict[str, str]:
    """Choose the GPU that this process alone sees: the one of its local rank."""
    visible = os.environ.get(_GPUS)
    if visible is None:
        return {_GPUS: str(me.local_rank)}
    names = [name for name in visible.split(",") if name.strip()]
    return {_GPUS: names[me.local_rank] if me.local_rank < len(names) else ""}


@contextmanager
def hidden(changes: dict[str, str]) -> Iterator[None]:
    """Hide what the launcher has set, and set ``changes``, while the block runs."""
    names = [name for name in os.environ if name in _LAUNCHER or name.startswith("ACCELERATE_")]
    before = {name: os.environ.get(name) for name in (*names, *changes)}
    for name in names:
        del os.environ[name]
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
