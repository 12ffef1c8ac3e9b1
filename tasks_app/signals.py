"""News for upper apps. Sent inside the transaction; receivers only write rows."""

from django.dispatch import Signal

#: A task was created. Arguments: task.
task_created = Signal()
#: A task's status changed. Arguments: task, source, target.
task_transitioned = Signal()
#: A person asked to cancel a running task. Arguments: task.
cancel_requested = Signal()
#: A state lock was taken away by force. Arguments: lock.
state_unlocked_by_force = Signal()
#: A plan's warm-up shall be tried now. Arguments: task.
warmup_wanted = Signal()
#: What runs are given beside their plan changed, variables or credentials. No arguments.
given_changed = Signal()
