"""pyarrow says little about its types, and makes the functions of compute when it is imported."""

from typing import Any

def __getattr__(name: str) -> Any: ...
