"""Settings of `classic`."""

from __future__ import annotations

from dataclasses import dataclass

from medzoo.config import setting
from medzoo.toolkit.settings import ImageSettings


@dataclass(frozen=True, kw_only=True)
class ClassicConfig:
    """Settings of `classic`: probabilities, and the largest change in either direction; 0 turns a transform off."""

    image: ImageSettings = ImageSettings()
    horizontal_flip: float = setting(0.5, "probability of a horizontal flip", min=0.0, max=1.0)
    vertical_flip: float = setting(0.5, "probability of a vertical flip", min=0.0, max=1.0)
    brightness: float = setting(0.2, "largest relative change in brightness", min=0.0, max=1.0)
    rotation: float = setting(0.0, "largest rotation in degrees", min=0.0, max=180.0)
    translation: float = setting(0.0, "largest shift along each axis, as a fraction of the side", min=0.0, max=1.0)
    shear: float = setting(0.0, "largest horizontal shear in degrees", min=0.0, max=60.0)
    zoom: float = setting(0.0, "largest relative change in scale", min=0.0, max=0.9)
    noise: float = setting(0.0, "standard deviation of Gaussian noise, pixels in [0, 1]", min=0.0, max=1.0)
    erasing: float = setting(0.0, "probability of erasing a rectangle of 2 to 20% of the area", min=0.0, max=1.0)
