"""The `memory` command line; talks HTTP only."""
