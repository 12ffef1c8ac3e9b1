"""Runs Terraform: engines, directories, manifests, providers, processes. No Django, no server.

`run_plan` (plan.py) makes a plan and what an apply of it needs; `run_apply` (apply.py) applies
exactly that, once; `resume` (adopt.py) says what became of either after the agent restarted.
"""
