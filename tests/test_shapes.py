"""Shapes are declared on public functions, and every call that a test makes is checked against them (`shapes.py`)."""

import ast
import pathlib

import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from icl_jax.data.draws import permutation
from icl_jax.models.layers import LayerNorm, dense

PACKAGE = pathlib.Path(__file__).parents[1] / "icl_jax"


def test_a_shape_that_is_not_the_declared_one_is_refused():
    words, blocks = jnp.zeros(3, jnp.uint32), jnp.zeros(3, jnp.int32)
    assert permutation(words, blocks).shape == (3,)
    with pytest.raises(TypeCheckError, match="parameter 'blocks'"):
        permutation(words, blocks[:2])
    with pytest.raises(TypeCheckError, match="parameter 'words'"):  # nor another type
        permutation(blocks, blocks)
    with pytest.raises(TypeCheckError, match="parameter 'bias'"):
        dense(jnp.zeros((2, 3)), jnp.zeros((3, 4)), jnp.zeros(3))
    with pytest.raises(TypeCheckError, match="parameter 'x'"):  # a method
        LayerNorm(4)(jnp.zeros((2, 4), jnp.int32))


def bare(function: ast.FunctionDef) -> list[str]:
    """What of a function is an array of which nothing is said."""
    args = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    hints = {arg.arg: arg.annotation for arg in args} | {"the result": function.returns}
    return [name for name, hint in hints.items() if hint and ast.unparse(hint) in ("jax.Array", "np.ndarray", "Array")]


@pytest.mark.parametrize("room", ["data", "models", "evals", "training", "claims"])
def test_public_functions_say_the_shapes_of_their_arrays(room):
    silent = [
        f"{path.relative_to(PACKAGE)}: {node.name}: {name}"
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and (node.name == "__call__" or not node.name.startswith("_"))
        for name in bare(node)
    ]
    assert not silent, silent
