"""Contact sheets of what a model samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from medzoo.data.images import contact_sheet, to_uint8
from medzoo.models.labels import label_tensor
from medzoo.specs import ImageSpec


def class_sheet(
    image: ImageSpec,
    sample: Callable[[Sequence[int], Tensor], Tensor],
    *,
    seeds: Mapping[str, Sequence[int]],
    side: int,
) -> np.ndarray:
    """Draw a contact sheet, uint8 (3, H, W): one row per class, sampled by `sample` from the class's `seeds`.

    Images smaller than about `side` pixels are enlarged by a whole factor.
    """
    rows = [(name, to_uint8(sample(own, label_tensor(image, [name] * len(own))))) for name, own in seeds.items()]
    return contact_sheet(rows, columns=max(map(len, seeds.values())), scale=max(1, round(side / image.size)))
