"""Ways of dividing pictures whose part the source leaves open: by content (`data/split.py`), by group, by time."""
