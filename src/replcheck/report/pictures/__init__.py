"""Pictures of reports, as pure functions from facts to SVG: no clock, no file, nothing that could fetch or run.

Colours are classes that the page's style sheet fills in, for paper, light and dark; no picture says by colour alone
what its table or its words do not say too.
"""
