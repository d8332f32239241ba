"""Thin widgets: they hold what is drawn now and where the cursor is, and work nothing out."""
