"""The shared nouns: plain frozen data without I/O, clock or driver.

Everything else imports from here; this package imports nothing of replcheck.
"""
