"""How many pods a pool should have.

`desired` decides from numbers alone, `demand` reads them for all pools at once, `decisions`
keeps what changed and why.
"""
