"""Structured pruning: fewer heads and narrower feed-forward nets, cut out of the matrices for good."""
