"""The schema of the index, for SQLite and PostgreSQL alike.

Integer keys; UIDs unique within their parent; every row of the three levels carries its
collection, site and partition, and every instance its state, so that what a principal may see
is a condition on columns. Moments are integers, microseconds since 1970 in UTC: SQLite has no
type for them. Text that is matched without regard to case and accents has a ``_key`` column
that holds it normalised. Migrations make these tables; a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives row ids only to a column of exactly this type; PostgreSQL wants 64 bits said.
_Key = BigInteger().with_variant(Integer, "sqlite")


# In `Table.info`: no object can tell these rows again, so a rebuild carries them over.
KEPT = "kept"


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


def _place() -> tuple[Column[str], ...]:
    """Who may see a row: where it belongs and where it came from."""
    return (_text("collection"), _text("site"), _text("partition"))


# Named counters; `change` numbers the feed without gaps: its row is locked until commit.
counter = Table(
    "counter",
    metadata,
    Column("name", Text, primary_key=True),
    _count("value"),
)

source = Table(
    "source",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("source_key", Text, nullable=False, unique=True),
    _text("site"),
    _text("collection"),
    _text("protocol"),
    _text("principal"),
    _text("calling_ae_title"),
    _text("called_ae_title"),
    _text("remote"),
)

# A patient is one identifier of one issuer at one site: identifiers are never merged.
patient = Table(
    "patient",
    metadata,
    Column("id", _Key, primary_key=True),
    _text("site"),
    _text("issuer_of_patient_id"),
    _text("patient_id"),
    _text("patient_name"),
    _text("patient_name_key"),
    _text("patient_birth_date"),
    _text("patient_sex"),
    UniqueConstraint("site", "issuer_of_patient_id", "patient_id"),
    Index(None, "patient_id"),
    Index(None, "patient_name_key"),
)

study = Table(
    "study",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("patient_fk", _Key, ForeignKey("patient.id"), nullable=False),
    Column("study_instance_uid", Text, nullable=False, unique=True),
    _text("patient_id"),
    _text("issuer_of_patient_id"),
    _text("patient_name_key"),
    _text("patient_birth_date"),
    _text("patient_sex"),
    _text("study_date"),
    _text("study_time"),
    _text("accession_number"),
    _text("study_id"),
    _text("study_description_key"),
    _text("referring_physician_name_key"),
    # Backslash lists of what the visible instances have: for answers, not for matching.
    _text("modalities"),
    _text("sop_classes"),
    _count("number_of_series"),
    _count("number_of_instances"),
    _count("size_bytes"),
    *_place(),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    _count("change"),
    # DICOM JSON of the patient and study attributes of the study's first instance.
    Column("attributes", LargeBinary, nullable=False),
    Index(None, "patient_fk"),
    Index(None, "patient_id"),
    Index(None, "patient_name_key"),
    Index(None, "accession_number"),
    # The index in the order of answers is another on each database: see the migrations.
    Index(None, "study_description_key"),
    Index(None, "updated_at"),
)

# Narrow and ordered as a study list asks: modality, newest first.
study_modality = Table(
    "study_modality",
    metadata,
    Column("modality", Text, primary_key=True),
    Column("study_fk", _Key, ForeignKey("study.id"), primary_key=True),
    _text("study_date"),
    Index(
        "ix_study_modality_modality_study_date",
        "modality",
        text("study_date DESC"),
        text("study_fk DESC"),
    ),
    Index(None, "study_fk"),
)

series = Table(
    "series",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("study_fk", _Key, ForeignKey("study.id"), nullable=False),
    Column("series_instance_uid", Text, nullable=False),
    _text("modality"),
    Column("series_number", BigInteger),
    _text("series_description_key"),
    _text("series_date"),
    _text("series_time"),
    _text("body_part_examined"),
    _text("protocol_name_key"),
    _text("station_name"),
    _text("manufacturer_key"),
    _text("procedure_step_start_date"),
    _text("procedure_step_start_time"),
    _text("procedure_step_id"),
    _count("number_of_instances"),
    _count("size_bytes"),
    *_place(),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    _count("change"),
    # DICOM JSON of the series attributes of the series' first instance.
    Column("attributes", LargeBinary, nullable=False),
    # Its terms were never written: it was stored before there were any.
    Column("terms_missing", Boolean, nullable=False, server_default=text("false")),
    UniqueConstraint("study_fk", "series_instance_uid"),
    Index(None, "series_instance_uid"),
    Index(None, "modality"),
    Index(None, "series_description_key"),
    Index(
        "ix_series_terms_missing",
        "terms_missing",
        sqlite_where=text("terms_missing"),
        postgresql_where=text("terms_missing"),
    ),
)

# Every value of every attribute that has no column of its own, once: dotted path and the value
# as `archive.dicom.normalise.term_value` writes it.
term = Table(
    "term",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("path", Text, nullable=False),
    Column("value", Text, nullable=False),
    UniqueConstraint("path", "value"),
)

# The series in which some instance has that value: narrows what a search must look at.
series_term = Table(
    "series_term",
    metadata,
    Column("term_fk", _Key, ForeignKey("term.id"), primary_key=True),
    Column("series_fk", _Key, ForeignKey("series.id"), primary_key=True),
    Index(None, "series_fk"),
    sqlite_with_rowid=False,
)

instance = Table(
    "instance",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("series_fk", _Key, ForeignKey("series.id"), nullable=False),
    Column("study_fk", _Key, ForeignKey("study.id"), nullable=False),
    Column("sop_instance_uid", Text, nullable=False),
    _text("sop_class_uid"),
    _text("transfer_syntax_uid"),
    Column("instance_number", BigInteger),
    _text("content_date"),
    _text("content_time"),
    _text("acquisition_date"),
    Column("acquisition_number", BigInteger),
    Column("rows", Integer),
    Column("columns", Integer),
    Column("bits_allocated", Integer),
    Column("number_of_frames", Integer),
    # 1 for the first content stored under these UIDs, 2 for the next...
    Column("version", Integer, nullable=False, server_default="1"),
    # received, quarantined, released, withdrawn; held: a version kept aside; deleted: undoable.
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    *_place(),
    Column("source_fk", _Key, ForeignKey("source.id"), nullable=False),
    Column("object_key", Text, nullable=False, unique=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("dataset_offset", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("state_at", BigInteger, nullable=False),
    _count("change"),
    _count("duplicates"),
    _count("warnings"),
    Column("uid_elsewhere", Boolean, nullable=False, server_default=text("false")),
    UniqueConstraint("series_fk", "sop_instance_uid", "version"),
    # At most one version of an instance is visible.
    Index(
        "uq_instance_released",
        "series_fk",
        "sop_instance_uid",
        unique=True,
        sqlite_where=text("state = 'released'"),
        postgresql_where=text("state = 'released'"),
    ),
    Index(None, "sop_instance_uid"),
    Index(None, "series_fk", "instance_number"),
    Index(None, "study_fk"),
    # What an operator must look at is rare: a small index finds it.
    Index(
        "ix_instance_unusual",
        "state",
        "state_at",
        sqlite_where=text("state <> 'released'"),
        postgresql_where=text("state <> 'released'"),
    ),
)

# What only retrieval reads; kept out of `instance` so that its rows stay small.
instance_detail = Table(
    "instance_detail",
    metadata,
    Column(
        "instance_fk", _Key, ForeignKey("instance.id"), primary_key=True, autoincrement=False
    ),
    # DICOM JSON of the instance-level attributes alone is not kept: search reads `metadata`.
    Column("metadata", LargeBinary, nullable=False),
    Column("bulk", LargeBinary, nullable=False),
    Column("frames", LargeBinary, nullable=False),
)

change = Table(
    "change",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    # stored, duplicate, held, replaced, withdrawn, deleted, restored, released, purged
    Column("kind", Text, nullable=False),
    _text("study_instance_uid"),
    _text("series_instance_uid"),
    _text("sop_instance_uid"),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("digest", LargeBinary, nullable=False),
    _text("site"),
    _text("collection"),
    _text("partition"),
    _text("principal"),
    _text("reason"),
    Index(None, "study_instance_uid", "sequence"),
)

# Application entities that `fileroom peer add` made known; the definition is JSON.
peer = Table(
    "peer",
    metadata,
    Column("ae_title", Text, primary_key=True),
    Column("definition", Text, nullable=False),
    _text("principal"),
    Column("created_at", BigInteger, nullable=False),
    info={KEPT: True},
)

# Requests for storage commitment (PS3.4 Annex J): kept until they are answered, and a while
# after. Nothing but this table remembers them.
commitment = Table(
    "commitment",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("transaction_uid", Text, nullable=False),
    # Who asked, and is told.
    Column("ae_title", Text, nullable=False),
    _text("principal"),
    _text("site"),
    # What the asker may see: JSON, two lists or null.
    _text("collections"),
    _text("partitions"),
    # SHA-256 of what is asked for: tells a request that is repeated from a UID used again.
    Column("digest", LargeBinary, nullable=False),
    Column("duplicate", Boolean, nullable=False, server_default=text("false")),
    Column("requested", LargeBinary, nullable=False),
    Column("failed", LargeBinary, nullable=False),
    _count("number_of_instances"),
    _count("number_failed"),
    # accepted: to be checked; checked: to be reported; unaddressed: checked, but nobody knows
    # where to report to; reported; failed: given up.
    Column("state", Text, nullable=False),
    # What the peer answered to the report.
    Column("status", Integer),
    _text("reason"),
    _count("attempts"),
    Column("accepted_at", BigInteger, nullable=False),
    _count("checked_at"),
    Column("state_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    _text("lease_owner"),
    _count("lease_until"),
    UniqueConstraint("ae_title", "transaction_uid", "digest"),
    # One request of a peer holds a Transaction UID; what uses it again is told so.
    Index(
        "uq_commitment_transaction",
        "ae_title",
        "transaction_uid",
        unique=True,
        sqlite_where=text("NOT duplicate"),
        postgresql_where=text("NOT duplicate"),
    ),
    Index(
        "ix_commitment_due",
        "due_at",
        sqlite_where=text("state IN ('accepted', 'checked', 'unaddressed')"),
        postgresql_where=text("state IN ('accepted', 'checked', 'unaddressed')"),
    ),
    info={KEPT: True},
)

# Forwarding rules that `fileroom forward add` made: the definition is JSON; and the names of
# those in the settings, without one: from which change on they hold.
forward_rule = Table(
    "forward_rule",
    metadata,
    Column("name", Text, primary_key=True),
    Column("definition", Text, nullable=False),
    _count("since"),
    _text("principal"),
    Column("created_at", BigInteger, nullable=False),
    info={KEPT: True},
)

# What is to be sent to a peer, and what became of it: one row for each rule, destination and
# study (or a part of it that an operator named; then without a rule).
forward_job = Table(
    "forward_job",
    metadata,
    Column("id", _Key, primary_key=True),
    _text("rule"),
    Column("destination", Text, nullable=False),
    Column("study_instance_uid", Text, nullable=False),
    _text("series_instance_uid"),
    _text("sop_instance_uid"),
    # waiting, sending, done, dead, cancelled
    Column("state", Text, nullable=False),
    # The last change that it answers to: another one than it began with means go on.
    _count("change"),
    Column("due_at", BigInteger, nullable=False),
    # Since when it has been tried in vain, or waited.
    Column("since", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    _count("sent"),
    _count("refused"),
    _count("failed"),
    _text("reason"),
    # Who sends it, and until when nobody else may.
    _text("claim"),
    _count("lease_until"),
    _text("principal"),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint(
        "rule",
        "destination",
        "study_instance_uid",
        "series_instance_uid",
        "sop_instance_uid",
        name="uq_forward_job",
    ),
    Index(None, "state", "due_at", "destination"),
    Index(None, "study_instance_uid"),
    info={KEPT: True},
)

# What a destination has, or would not take: the reason why nothing is sent it twice.
forward_delivery = Table(
    "forward_delivery",
    metadata,
    Column(
        "instance_fk",
        _Key,
        ForeignKey("instance.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("destination", Text, primary_key=True),
    # sent, refused (for good), failed (to be tried again)
    Column("outcome", Text, nullable=False),
    Column("status", Integer),
    _text("reason"),
    Column("at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Accounts that `fileroom user add` made; the hash is Argon2's, with its parameters and salt.
account = Table(
    "account",
    metadata,
    Column("name", Text, primary_key=True),
    Column("password_hash", Text, nullable=False),
    _text("rights"),
    _text("site"),
    Column("created_at", BigInteger, nullable=False),
    info={KEPT: True},
)
