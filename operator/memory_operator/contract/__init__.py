"""Provider spec and status models, warnings, known models, CRD generation. Imports none of ours."""
