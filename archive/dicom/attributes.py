"""Attributes by name, and the level of the information model each belongs to.

Levels follow the modules of the patient, study and series information entities (PS3.3 §A.1.2,
§C.7.1 to §C.7.5); everything else is said of the instance.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from pydicom import datadict
from pydicom._dicom_dict import DicomDictionary

from archive.dicom.dictionary import public_vr


class Level(StrEnum):
    """The level at which an attribute is the same for everything below."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute that a search names.

    Parameters
    ----------
    tag
        Eight upper-case hexadecimal digits.
    keyword
        As in PS3.6; empty for private and unknown ones.
    vr
        Its value representation; "UN" when the dictionary does not say.
    """

    tag: str
    keyword: str
    vr: str


# Patient, Clinical Trial Subject (PS3.3 §C.7.1.1, §C.7.1.3)
_PATIENT: Final = """
PatientName PatientID IssuerOfPatientID TypeOfPatientID IssuerOfPatientIDQualifiersSequence
PatientBirthDate PatientBirthTime PatientBirthDateInAlternativeCalendar
PatientDeathDateInAlternativeCalendar PatientAlternativeCalendar PatientSex
QualityControlSubject OtherPatientIDs OtherPatientIDsSequence OtherPatientNames
PatientBirthName PatientMotherBirthName EthnicGroup EthnicGroupCodeSequence
PatientComments PatientSpeciesDescription PatientSpeciesCodeSequence PatientBreedDescription
PatientBreedCodeSequence BreedRegistrationSequence StrainDescription StrainNomenclature
StrainCodeSequence ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization
ReferencedPatientSequence ReferencedPatientPhotoSequence PatientIdentityRemoved
DeidentificationMethod DeidentificationMethodCodeSequence
SourcePatientGroupIdentificationSequence GroupOfPatientsIdentificationSequence
ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName ClinicalTrialSiteID
ClinicalTrialSiteName ClinicalTrialSubjectID ClinicalTrialSubjectReadingID
ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolEthicsCommitteeApprovalNumber
IssuerOfClinicalTrialProtocolID IssuerOfClinicalTrialSiteID IssuerOfClinicalTrialSubjectID
IssuerOfClinicalTrialSubjectReadingID OtherClinicalTrialProtocolIDsSequence
"""

# General Study, Patient Study, Clinical Trial Study (PS3.3 §C.7.2)
_STUDY: Final = """
StudyInstanceUID StudyDate StudyTime StudyID AccessionNumber IssuerOfAccessionNumberSequence
ReferringPhysicianName ReferringPhysicianIdentificationSequence ConsultingPhysicianName
ConsultingPhysicianIdentificationSequence StudyDescription ProcedureCodeSequence
PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence NameOfPhysiciansReadingStudy
PhysiciansReadingStudyIdentificationSequence RequestingServiceCodeSequence RequestingService
ReferencedStudySequence ReasonForPerformedProcedureCodeSequence StudyIDIssuer
TimezoneOffsetFromUTC
AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence PatientAge PatientSize
PatientWeight PatientBodyMassIndex MeasuredAPDimension MeasuredLateralDimension
PatientSizeCodeSequence MedicalAlerts Allergies SmokingStatus PregnancyStatus LastMenstrualDate
PatientState Occupation AdditionalPatientHistory AdmissionID IssuerOfAdmissionIDSequence
ServiceEpisodeID IssuerOfServiceEpisodeIDSequence ServiceEpisodeDescription PatientSexNeutered
ReasonForVisit ReasonForVisitCodeSequence
ClinicalTrialTimePointID ClinicalTrialTimePointDescription
ClinicalTrialTimePointTypeCodeSequence
LongitudinalTemporalOffsetFromEvent LongitudinalTemporalEventType
ConsentForClinicalTrialUseSequence IssuerOfClinicalTrialTimePointID
"""

# General Series, Clinical Trial Series, General Equipment, Frame of Reference, and the modules
# of series of particular modalities (PS3.3 §C.7.3 to §C.7.5)
_SERIES: Final = """
SeriesInstanceUID Modality SeriesNumber Laterality SeriesDate SeriesTime
PerformingPhysicianName PerformingPhysicianIdentificationSequence ProtocolName
SeriesDescription SeriesDescriptionCodeSequence OperatorsName OperatorIdentificationSequence
ReferencedPerformedProcedureStepSequence RelatedSeriesSequence BodyPartExamined PatientPosition
SmallestPixelValueInSeries LargestPixelValueInSeries RequestAttributesSequence
PerformedProcedureStepID PerformedProcedureStepStartDate PerformedProcedureStepStartTime
PerformedProcedureStepEndDate PerformedProcedureStepEndTime PerformedProcedureStepDescription
PerformedProtocolCodeSequence CommentsOnThePerformedProcedureStep AnatomicalOrientationType
TreatmentSessionUID
ClinicalTrialCoordinatingCenterName ClinicalTrialSeriesID ClinicalTrialSeriesDescription
IssuerOfClinicalTrialSeriesID
Manufacturer InstitutionName InstitutionAddress StationName InstitutionalDepartmentName
InstitutionalDepartmentTypeCodeSequence ManufacturerModelName ManufacturerDeviceClassUID
DeviceSerialNumber SoftwareVersions GantryID UDISequence DeviceUID SpatialResolution
DateOfManufacture DateOfInstallation DateOfLastCalibration TimeOfLastCalibration
PixelPaddingValue
FrameOfReferenceUID PositionReferenceIndicator SynchronizationFrameOfReferenceUID
SynchronizationTrigger
SeriesType Units CountsSource ReprojectionMethod CorrectedImage
PresentationIntentType
"""

_KEYWORD_TAGS: Final[dict[str, str]] = {
    keyword: f"{tag:08X}" for tag, (_, _, _, _, keyword) in DicomDictionary.items() if keyword
}


def _tags(keywords: str) -> list[str]:
    return [tag for name in keywords.split() if (tag := _KEYWORD_TAGS.get(name)) is not None]


LEVEL_OF: Final[dict[str, Level]] = {
    tag: level
    for level, keywords in (
        (Level.PATIENT, _PATIENT),
        (Level.STUDY, _STUDY),
        (Level.SERIES, _SERIES),
    )
    for tag in _tags(keywords)
}

# PS3.18 Tables 10.6.3-3, -4 and -5: what a search returns unasked.
DEFAULT_STUDY: Final = tuple(
    _tags("""
    SpecificCharacterSet StudyDate StudyTime AccessionNumber InstanceAvailability
    ModalitiesInStudy ReferringPhysicianName TimezoneOffsetFromUTC RetrieveURL PatientName
    PatientID PatientBirthDate PatientSex StudyInstanceUID StudyID
    NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances StudyDescription
    """)
)
DEFAULT_SERIES: Final = tuple(
    _tags("""
    SpecificCharacterSet Modality TimezoneOffsetFromUTC SeriesDescription RetrieveURL
    SeriesInstanceUID SeriesNumber NumberOfSeriesRelatedInstances
    PerformedProcedureStepStartDate PerformedProcedureStepStartTime RequestAttributesSequence
    SeriesDate SeriesTime
    """)
)
# Of those, what is required: returned empty where no instance has it (PS3.4 §C.2.2.1.2).
# Modalities in Study is never empty: viewers then take the study for missing.
REQUIRED_STUDY: Final = tuple(
    _tags("""
    StudyDate StudyTime AccessionNumber ReferringPhysicianName PatientName PatientID
    PatientBirthDate PatientSex StudyID
    """)
)
REQUIRED_SERIES: Final = tuple(_tags("Modality SeriesNumber"))
DEFAULT_INSTANCE: Final = tuple(
    _tags("""
    SpecificCharacterSet SOPClassUID SOPInstanceUID InstanceAvailability TimezoneOffsetFromUTC
    RetrieveURL InstanceNumber Rows Columns BitsAllocated NumberOfFrames
    AvailableTransferSyntaxUID
    """)
)

_HEX_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")


@lru_cache(maxsize=4096)
def resolve_attribute(name: str) -> Attribute | None:
    """Return the attribute a keyword or a tag of eight digits names; None if none does."""
    tag = _KEYWORD_TAGS.get(name)
    if tag is None:
        if _HEX_TAG.fullmatch(name) is None:
            return None
        tag = name.upper()
    number = int(tag, 16)
    vr = public_vr(number)
    if not vr and not number >> 16 & 1 and not datadict.dictionary_has_tag(number):
        return None
    return Attribute(tag, keyword_of(tag), vr[:2] if vr else "UN")


@lru_cache(maxsize=4096)
def keyword_of(tag: str) -> str:
    """Return the keyword of a tag of eight digits; "" where it has none."""
    number = int(tag, 16)
    return "" if number >> 16 & 1 else str(datadict.keyword_for_tag(number))


def resolve_path(name: str) -> tuple[Attribute, ...] | None:
    """Return the attributes of a dotted path, sequences first (PS3.18 §8.3.4.1)."""
    path = tuple(resolve_attribute(part) for part in name.split("."))
    known = tuple(attribute for attribute in path if attribute is not None)
    return known if len(known) == len(path) else None
