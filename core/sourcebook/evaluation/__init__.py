"""Measures how good retrieval is: gold sets, measures, runs over pipelines, and their reports."""
