"""Where pods live. One small interface, one implementation a kind."""
