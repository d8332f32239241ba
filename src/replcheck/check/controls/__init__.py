"""The controls, a module each: what was found of one claim, from the policy and the facts."""
