"""Providers, spaces, their vectors and indexes, consent."""
