"""What no training run can know of its model, as a person writes it down for the model card."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from medzoo.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class About:
    """What no run can know: written by hand in a TOML file, one key a field. `notice` opens the card."""

    id: str
    title: str
    summary: str
    modality: str
    dataset: str
    dataset_text: str
    license: str
    intended_use: str
    limits: str
    train_command: str
    notice: str = ""
    embedded: str = ""
    default: bool = False
    repo: str = ""

    @classmethod
    def read(cls, path: Path) -> About:
        """The facts in a TOML file.

        Raises:
            ConfigError: it cannot be read, or a key is missing, unknown or of the wrong type.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error
        known = {field.name: bool if field.name == "default" else str for field in fields(cls)}
        missing = set(known) - set(values) - {"notice", "embedded", "default", "repo"}
        wrong = [key for key, value in values.items() if not isinstance(value, known.get(key, ()))]
        if missing or wrong:
            problem = f"lacks {', '.join(sorted(missing))}" if missing else f"has wrong or unknown {', '.join(wrong)}"
            raise ConfigError(f"{path} {problem}", f"its keys are {', '.join(known)}")
        return cls(**values)
