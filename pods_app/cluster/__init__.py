"""Pods in a Kubernetes cluster: built, judged and decided around a thin client."""
