"""The proof that replicas are copies: alignment, chunks, digests, explanation and verdicts.

The deciding modules are pure; `lanes` and `auditor` alone talk to servers, through `replcheck.postgres`.
"""
