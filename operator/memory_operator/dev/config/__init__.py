"""Memory Layer's configuration file in place of a folder of manifests."""
