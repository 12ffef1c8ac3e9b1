"""Freezes: times in which a pool starts nothing and has no pods.

`windows` and `state` are pure: what windows say of a moment. `stored` reads them from the
database, `gate` is the one question whether a pool may start something now, `edges` carries a
pool into a freeze and out of it, `services` is what people do.
"""
