"""Which requirement of which standard a control bears on, and what the requirement asks that no control measures.

References and short titles only: ISO/IEC 27001:2022 Annex A, the AICPA's Trust Services Criteria of 2017 (points of
focus of 2022) for availability, and the Code of Federal Regulations, title 45, part 164. What a requirement asks for is
told in our own words. A report supports an assessment; none of this says that a requirement is fulfilled.
"""

from dataclasses import dataclass

from replcheck.model.control import ControlName

ISO_TITLE = "ISO/IEC 27001:2022"
SOC_TITLE = "SOC 2 (availability)"
HIPAA_TITLE = "HIPAA Security Rule, 45 CFR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One requirement, and the controls that bear on it."""

    framework: str
    reference: str
    title: str
    asks: str
    """What it asks for, in our own words."""
    controls: tuple[ControlName, ...]
    beyond: str
    """What it asks for besides, which replcheck does not measure."""


REQUIREMENTS = (
    Requirement(
        framework=ISO_TITLE,
        reference="A.8.13",
        title="Information backup",
        asks="copies of information are kept, and tested regularly, as a policy on backups says",
        controls=(
            ControlName.RESTORE,
            ControlName.RECOVERY_POINT,
            ControlName.INTEGRITY,
            ControlName.EVIDENCE,
        ),
        beyond="that the policy exists and covers every system; how long copies are kept; that they are kept apart from"
        " the original, and protected",
    ),
    Requirement(
        framework=ISO_TITLE,
        reference="A.8.14",
        title="Redundancy of information processing facilities",
        asks="there is enough redundancy to be as available as was promised",
        controls=(
            ControlName.COPIES,
            ControlName.CONSISTENCY,
            ControlName.FAILOVER,
            ControlName.REPLACEMENT,
            ControlName.PLACEMENT,
        ),
        beyond="redundancy of power, network, sites and applications; that what is left can carry the whole load",
    ),
    Requirement(
        framework=ISO_TITLE,
        reference="A.5.30",
        title="ICT readiness for business continuity",
        asks="readiness is planned, kept up and tested by the objectives of continuity",
        controls=(
            ControlName.FAILOVER,
            ControlName.REPLACEMENT,
            ControlName.RECOVERY_POINT,
            ControlName.RESTORE,
            ControlName.PLACEMENT,
        ),
        beyond="that the objectives follow from an analysis of the business; plans, responsibilities and training",
    ),
    Requirement(
        framework=SOC_TITLE,
        reference="A1.2",
        title="Backup processes and recovery infrastructure",
        asks="backup processes and recovery infrastructure are run, maintained and monitored to meet the objectives",
        controls=(
            ControlName.COPIES,
            ControlName.CONSISTENCY,
            ControlName.RECOVERY_POINT,
            ControlName.RESTORE,
            ControlName.PLACEMENT,
            ControlName.INTEGRITY,
        ),
        beyond="protections of the environment (power, fire, water, climate); who authorized and approved what",
    ),
    Requirement(
        framework=SOC_TITLE,
        reference="A1.3",
        title="Tests of recovery",
        asks="the procedures of the recovery plan are tested",
        controls=(
            ControlName.RESTORE,
            ControlName.FAILOVER,
            ControlName.REPLACEMENT,
            ControlName.EVIDENCE,
        ),
        beyond="the plan itself, the part that people have in it, and what was changed after a test",
    ),
    Requirement(
        framework=HIPAA_TITLE,
        reference="164.308(a)(7)(ii)(A)",
        title="Data backup plan (required)",
        asks="retrievable exact copies of electronic protected health information are made and kept",
        controls=(
            ControlName.CONSISTENCY,
            ControlName.RESTORE,
            ControlName.RECOVERY_POINT,
            ControlName.INTEGRITY,
        ),
        beyond="the written procedures; health information that lies outside of this cluster",
    ),
    Requirement(
        framework=HIPAA_TITLE,
        reference="164.308(a)(7)(ii)(B)",
        title="Disaster recovery plan (required)",
        asks="there are procedures to restore any loss of data",
        controls=(
            ControlName.RESTORE,
            ControlName.RECOVERY_POINT,
            ControlName.FAILOVER,
            ControlName.REPLACEMENT,
        ),
        beyond="the written procedures, and that people can follow them",
    ),
    Requirement(
        framework=HIPAA_TITLE,
        reference="164.308(a)(7)(ii)(D)",
        title="Testing and revision procedures (addressable)",
        asks="contingency plans are tested periodically, and revised",
        controls=(
            ControlName.RESTORE,
            ControlName.FAILOVER,
            ControlName.REPLACEMENT,
            ControlName.EVIDENCE,
        ),
        beyond="the revision of the plan; that documentation is kept for six years (164.316(b)(2)(i)), which is up to"
        " whoever keeps the history",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OldReference:
    """Where a control of an edition that was replaced stands today."""

    old: str
    now: str


EDITIONS = (
    "Promises still cite ISO/IEC 27001:2005. That edition was replaced by ISO/IEC 27001:2013, and that one by"
    " ISO/IEC 27001:2022, which this report follows. Nothing can be certified by the older ones any more."
)
CITES_OLD = "This promise cites a replaced edition of ISO/IEC 27001. The one in force is ISO/IEC 27001:2022."
OLD_REFERENCES = (
    OldReference(old="2005 A.10.5.1, 2013 A.12.3.1 (information back-up)", now="2022 A.8.13"),
    OldReference(old="2013 A.17.2.1 (availability of information processing facilities)", now="2022 A.8.14"),
    OldReference(
        old="2005 A.14.1, 2013 A.17.1 (information security in business continuity)",
        now="2022 A.5.29; A.5.30 is new in 2022",
    ),
)
REPLACED_EDITIONS = ("27001:2005", "27001:2013")


def requirements_of(control: ControlName) -> tuple[Requirement, ...]:
    """Return the requirements that a control bears on."""
    return tuple(requirement for requirement in REQUIREMENTS if control in requirement.controls)


def cites_replaced_edition(claim: str) -> bool:
    """Return whether a promise names an edition of the standard that was replaced.

    >>> cites_replaced_edition("as ISO 27001:2005 asks"), cites_replaced_edition("ISO/IEC 27001:2022")
    (True, False)
    """
    return any(edition in claim.replace(" ", "") for edition in REPLACED_EDITIONS)


UNPROVABLE = (
    "That the copies stand in separate racks or rooms: SQL cannot see a rack; hosts are observed, zones are declared.",
    "That the copies survive the outage of a provider, its region, network or power: only such an outage shows it.",
    "That a switch-over or a new copy came about without a human hand: it is seen that, when and how fast it did.",
    "That the primary holds what the application meant to write: copies of a mistake are consistent.",
    "What happened between two samples, and while nothing was watching.",
    "That nobody changed the server programs, which compute the digests themselves.",
)
