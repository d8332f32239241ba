"""What would keep an audit from a proof, and what it would cost: facts in, checks out.

Nothing here connects, reads a clock or decides by guessing: what a role may not see is unknown, never good or bad.
"""
