"""Figures that Slipway promises, as commands: `python -m benchmarks` lists them."""
