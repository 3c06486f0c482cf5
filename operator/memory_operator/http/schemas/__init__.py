"""Bodies and answers as models, one file a resource."""
