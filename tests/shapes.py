"""Checks the shapes that functions declare, by beartype, in every call that a test makes.

jaxtyping's import hook hands each function and method of the package to `checked`.
"""

from beartype import beartype


def checked(function):
    """Returns the function with its declared shapes checked; its other hints are the type checker's business."""
    hints = {name: hint for name, hint in function.__annotations__.items() if "jaxtyping" in repr(hint)}
    if not hints:
        return function
    function.__annotations__ = hints
    return beartype(function)
