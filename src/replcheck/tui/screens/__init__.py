"""The screens: which widgets there are, and which keys do what."""
