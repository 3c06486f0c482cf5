"""Reconcile, reshape, fill, index, switch, remember, recall: uses store and embedders."""
