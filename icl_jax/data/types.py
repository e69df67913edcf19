"""What flows from the generators to batches and evals: sequences as ids."""

import flax.struct
import jax

# Roles of a position.
QUERY, SUPPORT, DISTRACTOR, REMAINDER = 0, 1, 2, 3
ROLE_NAMES = ("query", "support", "distractor", "remainder")


@flax.struct.dataclass
class Sequence:
    """Ids of sequences of n = context_len pairs and a query; leading axes are free (vmap adds them).

    classes:   int32 (n+1,) position in the member's class order; for a fresh class -1 - way.
    exemplars: int32 (n+1,) exemplar id within the bank's class.
    labels:    int32 (n+1,) label id shown with each context item; the last one is the target.
    own_label: int32 () label the query's class has in training (-1: never trained, or ambiguous).
    own_count: int32 () how many labels from own_label on belong to that class (multiplicity).
    roles:     int8 (n+1,) SUPPORT: same class as the query, from the core; DISTRACTOR: another class
               of the core; REMAINDER: everything else in the context; QUERY: the last.
    task:      int32 () label id of the task token; -1 where the spec has none.
    key:       uint32 (2,) key data for rendering (noise, fresh classes).
    """

    classes: jax.Array
    exemplars: jax.Array
    labels: jax.Array
    own_label: jax.Array
    own_count: jax.Array
    roles: jax.Array
    task: jax.Array
    key: jax.Array
