"""Measuring answers: judged sets, measures, and what a difference between two ways of looking is worth."""
