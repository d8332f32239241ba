"""Papers as one HTML file each, which fetches nothing: for a browser in light and dark, for paper and for a reader.

Templates escape everything; what is no markup in a paper can't become any here.
"""
