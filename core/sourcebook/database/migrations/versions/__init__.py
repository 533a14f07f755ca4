"""One module a revision, numbered in the order in which they run.

Each names `compatible_since`: the oldest schema whose code can go on, beside newer code, once this has run. A migration
that only adds (columns with a default, tables) keeps its predecessor's; one after which older code would read or write
what is wrong, or that takes something away, names itself. docs/upgrading.md says how a change is cut into the two.
"""
