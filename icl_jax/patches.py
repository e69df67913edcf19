"""Interventions as a config states them: what they are, and what cannot be, without JAX.

    config.patches.cut = {"site": "attn_scores", "tokens": "item -> label", "value": -math.inf, "layers": (0,)}

Site, mode and tokens are static (`spec.PatchSpec`); the numbers (`spec.PatchNumbers`) are traced, so that a sweep over
patches.cut.layers, heads, value, start, stop or on is one program. `models.taps` makes arrays of both.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from icl_jax.names import suggest
from icl_jax.registry import Axes, check_options, option_value
from icl_jax.spec import Option, PatchNumbers, PatchSpec, RunSpec, options_of

ALIASES = {"pattern": "attn_probs", "z": "head_out", "resid_post": "resid"}
ALL, EARLIER = "all", "earlier"  # sets of tokens that every model has; the second as the beginning of an edge only
STATIC, NUMBERS = options_of(PatchSpec), options_of(PatchNumbers)
FIELDS = {**STATIC, **NUMBERS}

_LARGEST = 3.4028234e38  # a float32
Sites = Mapping[str, Axes]


def canonical(site: str) -> str:
    """Returns the name of a site out of any of its names.

    >>> from icl_jax import patches
    >>> patches.canonical("pattern"), patches.canonical("resid")
    ('attn_probs', 'resid')
    """
    return ALIASES.get(site, site)


def parse(name: str, fields: Mapping[str, Any]) -> tuple[PatchSpec, PatchNumbers]:
    """Returns a patch out of its fields. ValueError for a name or a field that does not exist, or a value of another
    type or out of range.

    >>> from icl_jax import patches
    >>> spec, numbers = patches.parse("cut", {"site": "pattern", "mode": "multiply", "layers": 0})
    >>> spec.site, spec.mode, numbers.value, numbers.layers
    ('attn_probs', 'multiply', 0.0, (0,))
    >>> patches.parse("cut", {"site": "resid", "valu": 1})
    Traceback (most recent call last):
        ...
    ValueError: unknown field 'valu' in patches.cut; did you mean 'value'?
    """
    if not isinstance(fields, Mapping) and not hasattr(fields, "items"):
        raise ValueError(f"patches.{name} = {fields!r}: give its fields, such as {{'site': 'attn_probs'}}")
    if not name or not all(c.isalnum() or c in "_- " for c in name):
        raise ValueError(f"patches: the name {name!r} must be of letters, digits, '_', '-' and blanks")
    found = {}
    for field, value in fields.items():
        if field not in FIELDS:
            raise ValueError(f"unknown field {field!r} in patches.{name}{suggest(field, FIELDS)}")
        found[field] = _value(f"patches.{name}.{field}", value, FIELDS[field])
    static = {field: value for field, value in found.items() if field in STATIC}
    static["site"] = canonical(static.get("site", ""))
    if all(edge(static.get("tokens", ""))):  # however it is spaced
        static["tokens"] = " -> ".join(edge(static["tokens"]))
    return PatchSpec(**static), PatchNumbers(**{field: found[field] for field in found if field in NUMBERS})


def _value(where: str, value: Any, known: Option) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value  # of numpy
    if known.default == ():
        listed = value if isinstance(value, list | tuple | range) else (value,)
        return tuple(sorted({option_value(where, index, Option(0, "")) for index in listed}))
    if isinstance(known.default, float) and isinstance(value, float) and math.isinf(value):
        return float(value)  # judged with the site
    return option_value(where, value, known)


def check_patches(
    spec: RunSpec, numbers: Iterable[Mapping[str, PatchNumbers]], sites: Sites, sets: Iterable[str]
) -> None:
    """Raises ValueError for a patch that a run's model cannot have. numbers: of each member, by name of a patch;
    sites, sets: of the model, as for `check_static`.

    >>> import dataclasses
    >>> from icl_jax import patches
    >>> from icl_jax.runs.config import run_spec
    >>> spec, numbers = patches.parse("cut", {"site": "resid", "layers": 2})
    >>> changed = dataclasses.replace(run_spec(config), patches=(("cut", spec),))
    >>> patches.check_patches(changed, [{"cut": numbers}], run.model.sites, ["all"])
    Traceback (most recent call last):
        ...
    ValueError: patches.cut.layers = (2,): 2 is not among 0 to 1
    """
    numbers, sets = list(numbers), list(sets)
    for name, patch in spec.patches:
        check_options(f"patches.{name}", patch)
        check_static(f"patches.{name}", patch, sites, sets)
        for own in {of[name] for of in numbers}:
            _check_numbers(f"patches.{name}", patch, own, sites[patch.site], spec)


def check_static(where: str, patch: Any, sites: Sites, sets: Iterable[str]) -> None:
    """Raises ValueError for a site, a mode or tokens that a model lacks. patch: a PatchSpec, or anything with these of
    its fields; where: what the messages call it.

    >>> from icl_jax import patches
    >>> spec, _ = patches.parse("cut", {"site": "resid", "tokens": "labels"})
    >>> patches.check_static("patches.cut", spec, run.model.sites, ["all", "label"])
    Traceback (most recent call last):
        ...
    ValueError: patches.cut: no set of tokens 'labels' among all, label; did you mean 'label'?
    """
    if not patch.site:
        raise ValueError(f"{where} names no site; set its site to one of {', '.join(sites)}")
    if patch.site not in sites:
        close = suggest(patch.site, sites)
        hint = close if "did you mean" in close else ""
        raise ValueError(f"{where}: no site {patch.site!r} among this model's: {', '.join(sites)}{hint}")
    modes = STATIC["mode"].choices
    if patch.mode not in modes:
        raise ValueError(f"{where}: unknown mode {patch.mode!r} of a patch at {patch.site!r}; use {', '.join(modes)}")
    if patch.mode == "multiply" and patch.site == "attn_scores":
        raise ValueError(
            f"{where}: mode 'multiply' at attn_scores, where -inf times 0 is no number; multiply attn_probs, or add to "
            "the scores"
        )
    _check_tokens(where, patch, sites[patch.site], list(sets))


def _check_tokens(where: str, patch: Any, axes: Axes, sets: list[str]) -> None:
    is_attention = {"query", "key"} <= set(axes)
    begin, end = edge(patch.tokens)
    if "->" in patch.tokens and not (begin and end):
        raise ValueError(f"{where}: tokens {patch.tokens!r} is half an edge; write 'a -> b'")
    if patch.within != "any" and not begin:
        raise ValueError(f"{where}: within {patch.within!r} is about edges, and tokens {patch.tokens!r} names none")
    if not patch.tokens:
        return
    if bool(begin) != is_attention:
        wanted = (
            f"an edge, such as '{sets[min(1, len(sets) - 1)]} -> {sets[-1]}'"
            if is_attention
            else f"a set, such as {sets[-1]!r}"
        )
        raise ValueError(f"{where}: tokens {patch.tokens!r} at site {patch.site!r}, which takes {wanted}")
    if not is_attention and "token" not in axes:
        raise ValueError(f"{where}: site {patch.site!r} has no axis of tokens ({', '.join(axes)}); leave tokens out")
    for name, known in ((begin, [*sets, EARLIER]), (end, sets)):
        if name and name not in known:
            raise ValueError(f"{where}: no set of tokens {name!r} among {', '.join(known)}{_close(name, known)}")


def _close(name: str, known: Iterable[str]) -> str:
    close = suggest(name, known)
    return close if "did you mean" in close else ""


def edge(tokens: str) -> tuple[str, str]:
    """Returns (a, b) of "a -> b", or ("", a) of a set "a".

    >>> from icl_jax import patches
    >>> patches.edge("item -> label"), patches.edge("label")
    (('item', 'label'), ('', 'label'))
    """
    begin, arrow, end = tokens.partition("->")
    return (begin.strip(), end.strip()) if arrow else ("", tokens.strip())


def _check_numbers(where: str, patch: PatchSpec, numbers: PatchNumbers, axes: Axes, spec: RunSpec) -> None:
    sizes = {"layer": spec.model.num_layers, "head": spec.model.num_heads}
    for field, axis in (("layers", "layer"), ("heads", "head")):
        chosen = getattr(numbers, field)
        if chosen and axis not in axes:
            raise ValueError(f"{where}.{field} = {chosen}: site {patch.site!r} has no {field} ({', '.join(axes)})")
        if outside := [i for i in chosen if not 0 <= i < sizes[axis]]:
            raise ValueError(f"{where}.{field} = {chosen}: {outside[0]} is not among 0 to {sizes[axis] - 1}")
    if (largest := max(numbers.start, numbers.stop)) >= 2**31:
        raise ValueError(f"{where}: step {largest:,} is beyond the last that can be counted, {2**31 - 1:,}; lower it")
    if numbers.start < 0 or numbers.stop < 0 or 0 < numbers.stop <= numbers.start:
        raise ValueError(
            f"{where}: it acts from step {numbers.start} to before step {numbers.stop}, that is never; raise stop, or "
            "use on = False"
        )
    closes = patch.site == "attn_scores" and patch.mode in ("replace", "add") and numbers.value == -math.inf
    if not math.isfinite(numbers.value) and not closes:
        raise ValueError(f"{where}.value {numbers.value} must be finite; only attn_scores may be replaced by -inf")
    if math.isfinite(numbers.value) and abs(numbers.value) > _LARGEST:
        raise ValueError(f"{where}.value {numbers.value} is more than a float32 holds, {_LARGEST:g}; lower it")


def settings(numbers: Mapping[str, PatchNumbers]) -> dict[str, float | str]:
    """Returns the numbers of a member's patches by field, "patches.NAME.FIELD": numbers, or a text of layers and
    heads ("all").

    >>> from icl_jax import patches
    >>> _, numbers = patches.parse("cut", {"site": "resid", "layers": (0, 1)})
    >>> patches.settings({"cut": numbers})
    {'patches.cut.value': 0.0, 'patches.cut.layers': '0,1', 'patches.cut.heads': 'all', 'patches.cut.start': 0.0,
     'patches.cut.stop': 0.0, 'patches.cut.on': 1.0}
    """
    return {
        f"patches.{name}.{field}": _shown(value)
        for name, own in sorted(numbers.items())
        for field, value in dataclasses.asdict(own).items()
    }


def _shown(value: Any) -> float | str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "all"
    return float(value)
