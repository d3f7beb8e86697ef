"""A TorchRL storage that gathers rows with `index_select`, several times faster than indexing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tensordict import TensorDict
from torch import Tensor
from torchrl.data import TensorStorage

__all__ = ["RowStorage"]


class RowStorage(TensorStorage):
    """Rows of plain tensors, gathered by number.

    Args:
        storage: TensorDict [N] of tensors, on `device`; written in place.
        device: of the rows.
    """

    _storage: TensorDict

    def __init__(self, storage: TensorDict, *, device: Any) -> None:
        super().__init__(storage, device=device)

    def get(self, index: int | Sequence[int] | slice | Tensor) -> Any:
        """Return the rows [B] at `index` [B] int64, on any device; other indices as TorchRL."""
        if not isinstance(index, Tensor) or index.ndim != 1 or index.dtype.is_floating_point:
            return super().get(index)  # pyright: ignore[reportArgumentType]
        return self.gather(index, list(self._storage.keys()))

    def gather(self, index: Tensor, names: Sequence[str]) -> TensorDict:
        """Return some entries of the rows at `index` [..] int64, as TensorDict [..]."""
        rows = index.flatten().to(self._storage.device)
        found = {}
        for name in names:
            entry = self._storage.get(name)
            found[name] = entry.index_select(0, rows).view(*index.shape, *entry.shape[1:])
        return TensorDict(found, batch_size=index.shape, device=self._storage.device)

    def between(self, begin: int, end: int) -> TensorDict:
        """Return a view of the rows from `begin` to before `end`."""
        return self._storage[begin:end]
