"""The only place that imports kopf or kubernetes."""
