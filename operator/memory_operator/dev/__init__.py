"""Embedded PostgreSQL and a folder of manifests: what stands in for a cluster on one machine."""
