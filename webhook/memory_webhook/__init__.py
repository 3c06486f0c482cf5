"""The advisory admission webhook: warns, never refuses."""
