"""Runs Terraform: engines, directories, manifests, providers, processes. No Django, no server.

`run_plan` (plan.py) makes a plan and what an apply of it needs; `prepare_apply` and
`execute_apply` (apply.py) apply exactly that; `adopt` (apply.py, plan.py through process.py)
finds a process that a former agent process started.
"""
