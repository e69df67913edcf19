"""What a config.json says, read with errors that name the field."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

ROPE = ("rope_parameters", "rope_scaling")  # newer and older versions of transformers


@dataclasses.dataclass(frozen=True)
class Fields:
    """Fields of a config.json at `where`."""

    where: pathlib.Path
    fields: Mapping[str, Any]

    def get(self, name: str, default: Any) -> Any:
        """Returns a field, or the default where it is not there."""
        return self.fields.get(name, default)

    def whole(self, name: str) -> int:
        """Returns a field that must be a whole number above 0."""
        value = self.fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{self.where}: {name} is {value!r}, and must be a whole number above 0")
        return value

    def number(self, name: str, default: float) -> float:
        """Returns a field that must be a number."""
        value = self.fields.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{self.where}: {name} is {value!r}, and must be a number")
        return float(value)

    def choose(self, name: str, choices: Mapping[str, str]) -> str:
        """Returns what a field comes to here. ValueError for a value that is not among the choices."""
        if (value := str(self.fields.get(name))) not in choices:
            raise ValueError(f"{self.where}: {name} is {value!r}; what can be read: {', '.join(choices)}")
        return choices[value]

    def expect(self, **values: Any) -> None:
        """Raises ValueError for a field that is there and has another value than the network can have."""
        for name, value in values.items():
            if (found := self.fields.get(name, value)) != value:
                raise ValueError(f"{self.where}: {name} is {found!r}, and only {value!r} can be read")

    def rotary(self, base: str) -> dict[str, Any]:
        """Returns the parameters of rotary positions. base: older name of their base. ValueError for scaled ones."""
        found: dict[str, Any] = {"rope_theta": self.get(base, self.get("rope_theta", 10_000.0))}
        for name in ROPE:
            own = self.get(name, None) or {}
            kind = own.get("rope_type", own.get("type", "default"))
            if kind != "default":
                raise ValueError(f"{self.where}: {name} is of type {kind!r}, and only 'default' can be read")
            found |= {key: value for key, value in own.items() if value is not None}
        return found
