"""Gray windows: which values of a radiological image are shown from black to white."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from medzoo.errors import ConfigError

FILE = "file"
"""The window that a file states, or percentiles where it states none."""
PERCENTILE = "percentile"
PERCENTILES = (0.5, 99.5)

# Center and width in Hounsfield units as radiologists use them (radiopaedia.org/articles/windowing-ct).
CT_WINDOWS: Mapping[str, tuple[float, float]] = {
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "soft-tissue": (50, 400),
    "abdomen": (50, 400),
    "liver": (30, 150),
    "bone": (400, 1800),
    "brain": (40, 80),
    "subdural": (75, 215),
    "stroke": (40, 40),
}


class Window(NamedTuple):
    """A center and a width in the values of an image, and the function of DICOM (PS3.3 C.11.2.1) between the two."""

    center: float
    width: float
    function: str = "LINEAR"

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return gray in 0..1, float32, of any `values`: 0 below the window and 1 above it."""
        values = values.astype(np.float32)
        center, width = self.center, self.width
        if self.function == "SIGMOID":
            # The exponent is bounded, as float32 overflows beyond.
            return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -80, 80))), np.float32)
        if self.function == "LINEAR":
            center, width = center - 0.5, width - 1
        if width <= 0:  # a threshold
            return (values > center).astype(np.float32)
        return np.clip((values - center) / width + 0.5, 0, 1)


def percentile_window(values: np.ndarray) -> Window:
    """Return the window between the `PERCENTILES` of the values, or their extremes where these are equal."""
    finite = values[np.isfinite(values)] if np.issubdtype(values.dtype, np.floating) else values
    if not finite.size:
        return Window(0, 1, "LINEAR_EXACT")
    low, high = (float(value) for value in np.percentile(finite, PERCENTILES))
    if low == high:
        low, high = float(finite.min()), float(finite.max())
    return Window((low + high) / 2, (high - low) or 1.0, "LINEAR_EXACT")


def parse_window(text: str) -> Window | str:
    """Return the window that `--window` or a model's image.window names, or `FILE` or `PERCENTILE`.

    >>> parse_window("lung")
    Window(center=-600, width=1500, function='LINEAR')

    Raises: ConfigError.
    """
    name = text.strip().casefold()
    if name in (FILE, PERCENTILE):
        return name
    if name in CT_WINDOWS:
        return Window(*CT_WINDOWS[name])
    try:
        center, width = (float(part) for part in name.split(","))
        if not (np.isfinite(center) and 0 < width < np.inf):
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"window cannot take '{text}'",
            f"--window takes CENTER,WIDTH (as in --window=-600,1500), {FILE}, {PERCENTILE}, or for CT "
            f"{', '.join(CT_WINDOWS)}",
        ) from None
    return Window(center, width)


def describe_window(text: str) -> str:
    """Return what a window given as text is: "lung (center -600, width 1500)"."""
    found = parse_window(text)
    if isinstance(found, str):
        return found
    values = f"center {found.center:g}, width {found.width:g}"
    return f"{text.strip().casefold()} ({values})" if text.strip().casefold() in CT_WINDOWS else values
