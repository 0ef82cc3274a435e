"""Estimators of meta-gradients, one per file, and the parts that they, and yours, are made of."""

from ._batches import over_tasks as over_tasks
from ._devices import task_indices as task_indices, task_keys as task_keys, total as total
from ._episode import (
    Outcome as Outcome,
    Plan as Plan,
    Progress as Progress,
    advance as advance,
    begin as begin,
    plan as plan,
)
from ._partition import average as average, partition as partition
