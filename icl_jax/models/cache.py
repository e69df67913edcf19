"""What a transformer keeps of tokens that it has read, so that others can follow without reading them again."""

import flax.struct
import jax

from icl_jax.inputs import Roles


@flax.struct.dataclass
class Cache:
    """Keys and values of S tokens in each layer, of B sequences, or of one that all sequences share.

    keys, values: (L, B or 1, S, Hkv, Dh), keys after rotation (the site k_rot or, without rotary positions, k); valid:
    bool (B or 1, S), which of them may be read; first: int32 (B or 1,), position of the token that comes next; roles:
    of these tokens, where a patch is to find them.
    """

    keys: jax.Array
    values: jax.Array
    valid: jax.Array
    first: jax.Array
    roles: Roles | None = None
