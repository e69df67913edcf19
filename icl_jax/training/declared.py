"""Training's components: objectives, optimisers and schedules. Imports no JAX."""

from icl_jax.registry import Component, OptimiserComponent, Reads, load, register, shared
from icl_jax.spec import RunSpec


def _check_places(spec: RunSpec) -> None:
    only_query = load("icl_jax.models.frontends.layout:only_query")
    if spec.task.loss != "query" and (why := only_query(spec.model)):
        raise ValueError(f"task.loss {spec.task.loss!r} needs predictions at items: {why}, or task.loss 'query'")


register(
    Component(
        role="objective",
        name="labels",
        doc="Cross-entropy of labels over those in use, at the places that the source gives weight.",
        build="icl_jax.training.objectives:labels",
        sections=("task.loss",),
        checks=(_check_places,),
    )
)

_CLIP = Reads(lambda spec: spec.train.clip, "train.clip True")
_ADAM = {"b1": "b1", "b2": "b2", "eps": "eps"}

# name -> (optax's own name, hyper -> argument beside the learning rate). The rest keep optax's defaults.
for _name, (_optax, _arguments) in {
    "adam": ("adam", _ADAM),
    "adamw": ("adam", _ADAM),  # adam with decoupled decay, which `optim.update` adds
    "nadam": ("nadam", _ADAM),
    "radam": ("radam", _ADAM),
    "amsgrad": ("amsgrad", _ADAM),
    "adabelief": ("adabelief", {}),
    "adafactor": ("adafactor", {}),
    "adagrad": ("adagrad", {}),
    "lamb": ("lamb", {}),
    "lion": ("lion", {}),
    "rmsprop": ("rmsprop", {}),
    "sgd": ("sgd", {}),
    "momentum": ("sgd", {"b1": "momentum"}),
    "yogi": ("yogi", {}),
}.items():
    register(
        OptimiserComponent(
            role="optimiser",
            name=_name,
            doc=f"optax.{_optax}",
            optax_name=_optax,
            arguments=_arguments,
            sections=("train",),
            hypers=shared("clip_norm", *_arguments),
            reads={"clip_norm": _CLIP},
        )
    )

for _name, _doc, _hypers in (
    ("constant", "The peak.", ()),
    ("rsqrt", "The peak times sqrt(warm-up / step) (Chan et al. 2022, appendix A).", ()),
    ("cosine", "Down to final_lr_fraction of the peak along half a cosine.", ("final_lr_fraction",)),
    ("linear", "Down to final_lr_fraction of the peak along a line.", ("final_lr_fraction",)),
):
    register(
        Component(
            role="schedule",
            name=_name,
            doc=_doc,
            build=f"icl_jax.training.optim:{_name}",
            sections=("train",),
            hypers=shared("learning_rate", "warmup_steps", *_hypers),
        )
    )
