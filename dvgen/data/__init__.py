"""Data between a data set and the training loop: opening, splits, order, and the cache of extracted codes."""
