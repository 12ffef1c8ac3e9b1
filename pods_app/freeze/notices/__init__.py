"""Operators are told of freezes ahead of time and when they happen, by e-mail and webhooks.

`ahead` says what is due before a freeze: pure. `facts` reads what there is to tell, from what is
recorded anyway: a pass that is missed loses nothing. `words` makes texts of it, `channels` are
the ways out, and `passes` tells each fact once and sends until it has arrived.
"""
