"""Watches what relations are made of: what is redefined under the audit, and what a replica defines otherwise.

A difference of definitions counts, like one of rows, only when a second, independent alignment shows it again.
"""

from collections.abc import Iterable, Mapping

from replcheck.audit.proof import RelationProof
from replcheck.postgres.catalog import Relation

_CONFIRMING_LOOKS = 2

Listing = Mapping[str, Mapping[int, Relation]]
"""By node, then by oid: the relations as aligned snapshots list them."""


class DefinitionWatch:
    """The relations of one database that must be looked at again under another alignment."""

    def __init__(self, primary: str) -> None:
        self._primary = primary
        self._suspected: dict[tuple[int, str], str] = {}
        self._extra_looks: dict[tuple[int, str], int] = {}
        self.extras: dict[str, dict[int, Relation]] = {}
        """Relations that only a replica has, seen twice, by replica and oid."""
        self._listed: set[str] = set()

    def suspect(self, proof: RelationProof) -> None:
        """Ask for a new look at a relation that seems to have been redefined."""
        for name in proof.active:
            self._suspected.setdefault((proof.relation.oid, name), "")

    def suspects(self, replicas: frozenset[str]) -> list[int]:
        """Return the relations (oids) to be looked at again with any of these replicas."""
        return sorted({oid for oid, name in self._suspected if name in replicas})

    def forget(self, proof: RelationProof) -> None:
        """Take a relation off the list."""
        for name in proof.tallies:
            self._suspected.pop((proof.relation.oid, name), None)

    def compare(self, proof: RelationProof, listing: Listing, exact: frozenset[str]) -> None:
        """Compare how the replicas in a listing define a relation with the primary's definition, the one planned.

        `exact` are the replicas whose snapshots see exactly what the primary's sees; with any other a transaction in
        flight may be all that differs, so a difference is only looked at again.
        """
        there = proof.relation
        for name, relations in listing.items():
            if name == self._primary or name not in proof.tallies:
                continue
            here = relations.get(there.oid)
            difference = definition_difference(there, here)
            evidence = _evidence(there, here)
            key = (there.oid, name)
            if not difference:
                self._suspected.pop(key, None)
            elif name not in exact:
                self._suspected.setdefault(key, "")
            elif self._suspected.get(key) == evidence:
                proof.tallies[name].different_definition = difference
                self._suspected.pop(key)
            else:
                self._suspected[key] = evidence

    def note_extras(self, listing: Listing, in_scope: frozenset[int], exact: frozenset[str]) -> None:
        """Note relations in scope that only a replica has, and forget those that the primary has by now."""
        there = listing[self._primary]
        self._listed |= listing.keys()
        for name, relations in listing.items():
            alone = (relations.keys() - there.keys()) & in_scope
            for oid in alone:
                looks = self._extra_looks.get((oid, name), 0) + int(name in exact)
                self._extra_looks[oid, name] = looks
                if looks >= _CONFIRMING_LOOKS:
                    self.extras.setdefault(name, {})[oid] = relations[oid]
            settled = [key for key, looks in self._extra_looks.items() if key[1] == name and key[0] not in alone]
            for key in settled:
                del self._extra_looks[key]

    def never_listed(self, replicas: Iterable[str]) -> frozenset[str]:
        """Return those of some replicas of which nobody has seen yet whether they have relations of their own."""
        return frozenset(replicas) - self._listed

    @property
    def unsettled_extras(self) -> frozenset[tuple[int, str]]:
        """Return what was seen on a replica alone, but not often enough to believe it: oids and replicas."""
        return frozenset(key for key, looks in self._extra_looks.items() if looks < _CONFIRMING_LOOKS)


def definition_difference(there: Relation, here: Relation | None) -> str:
    """Say how a replica's relation is made otherwise than the primary's; empty where it is not."""
    if here is None:
        return "the relation is missing"
    if (there.schema, there.name) != (here.schema, here.name):
        return "the relation has another name"
    if there.token != here.token:
        return "the columns are defined otherwise"
    return "the relation lies in another file" if there.filenode != here.filenode else ""


def _evidence(there: Relation, here: Relation | None) -> str:
    """Return what a difference rests on: two looks at two redefinitions are no proof of one."""
    known = [(node.token, node.filenode, node.schema, node.name) for node in (there, here) if node is not None]
    return repr(known)


def redefined(planned: Relation, now: Relation) -> bool:
    """Return whether a relation must be read anew: its definition or its file is another one."""
    return (planned.token, planned.filenode_now, planned.filenode) != (now.token, now.filenode_now, now.filenode)
