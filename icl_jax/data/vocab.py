"""The label vocabulary: class labels, group labels, symbols, task tokens, in this order."""

from dataclasses import dataclass

from icl_jax.spec import TaskSpec


@dataclass(frozen=True)
class Vocab:
    """Sizes of the four parts of the label vocabulary.

    `shared_labels`: there are fewer class labels than the training classes need, so that class
    i has label i modulo `num_class_labels` (Reddy 2023: K classes, L labels).
    """

    num_class_labels: int
    num_group_labels: int = 0
    num_symbols: int = 0
    num_tasks: int = 0
    shared_labels: bool = False

    @property
    def groups(self) -> int:
        """First group label."""
        return self.num_class_labels

    @property
    def symbols(self) -> int:
        """First symbol."""
        return self.groups + self.num_group_labels

    @property
    def tasks(self) -> int:
        """First task token (0: class, 1: group)."""
        return self.symbols + self.num_symbols

    @property
    def size(self) -> int:
        return self.tasks + self.num_tasks


def max_train_classes(task: TaskSpec, num_classes: int) -> int:
    """Returns the upper bound of the number of training classes of a bank of `num_classes`."""
    return task.max_classes or num_classes - task.num_holdout


def needed_labels(task: TaskSpec, num_classes: int) -> int:
    """Returns how many labels training classes need when none is shared."""
    num_rare = max_train_classes(task, num_classes) - task.num_common
    return num_rare * task.max_multiplicity + task.num_common


def make_vocab(task: TaskSpec, num_classes: int, num_groups: int = 1) -> Vocab:
    """Returns the vocabulary of a task on a bank of `num_classes` classes in `num_groups` groups.

    With `num_labels` 0 the table has the size of the 2022 release: a label per class, those held out
    included (no example ever has them), or with multiplicity X: X per rare class, 1 per common class.
    """
    needed = needed_labels(task, num_classes)
    unused = 0 if task.max_multiplicity > 1 else task.num_holdout
    return Vocab(
        num_class_labels=task.num_labels or needed + unused,
        num_group_labels=num_groups if task.task_token else 0,
        num_symbols=task.num_symbols,
        num_tasks=2 if task.task_token else 0,
        shared_labels=0 < task.num_labels < needed,
    )
