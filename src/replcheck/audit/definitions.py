"""Watches what relations are made of: what is redefined under the audit, and what a replica defines otherwise.

A difference of definitions counts, like one of rows, only when a second, independent alignment shows it again.
"""

from collections.abc import Mapping

from replcheck.audit.proof import RelationProof
from replcheck.postgres.catalog import Relation

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

    def suspect(self, proof: RelationProof) -> None:
        """Ask for a new look at a relation that seems to have been redefined."""
        for name in proof.active:
            self._suspected.setdefault((proof.relation.oid, name), "")

    def suspects(self, replicas: frozenset[str]) -> list[int]:
        """Return the relations (oids) to be looked at again with any of these replicas."""
        return sorted({oid for oid, name in self._suspected if name in replicas})

    def forget(self, oid: int) -> None:
        """Take a relation off the list."""
        self._suspected = {key: what for key, what in self._suspected.items() if key[0] != oid}

    def compare(self, proof: RelationProof, listing: Listing) -> None:
        """Compare how the replicas in a listing define a relation with the primary's definition, the one planned."""
        there = proof.relation
        for name, relations in listing.items():
            if name == self._primary or name not in proof.tallies:
                continue
            difference = definition_difference(there, relations.get(there.oid))
            key = (there.oid, name)
            if not difference:
                self._suspected.pop(key, None)
            elif self._suspected.get(key) == difference:
                proof.tallies[name].different_definition = difference
                self._suspected.pop(key)
            else:
                self._suspected[key] = difference

    def note_extras(self, listing: Listing, in_scope: frozenset[int]) -> None:
        """Note relations in scope that only a replica has."""
        there = listing[self._primary]
        for name, relations in listing.items():
            for oid in (relations.keys() - there.keys()) & in_scope:
                looks = self._extra_looks.get((oid, name), 0) + 1
                self._extra_looks[oid, name] = looks
                if looks > 1:
                    self.extras.setdefault(name, {})[oid] = relations[oid]

    @property
    def extra_replicas(self) -> frozenset[str]:
        """Return the replicas on which a relation was seen that the primary lacks."""
        return frozenset(name for _, name in self._extra_looks)

    @property
    def extra_oids(self) -> frozenset[int]:
        """Return the relations seen there."""
        return frozenset(oid for oid, _ in self._extra_looks)


def definition_difference(there: Relation, here: Relation | None) -> str:
    """Say how a replica's relation is made otherwise than the primary's; empty where it is not."""
    if here is None:
        return "the relation is missing"
    if (there.schema, there.name) != (here.schema, here.name):
        return "the relation has another name"
    if there.token != here.token:
        return "the columns are defined otherwise"
    return "the relation lies in another file" if there.filenode_now != here.filenode_now else ""


def redefined(planned: Relation, now: Relation) -> bool:
    """Return whether a relation must be read anew: its definition or its file is another one."""
    return (planned.token, planned.filenode_now, planned.filenode) != (now.token, now.filenode_now, now.filenode)
