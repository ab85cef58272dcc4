"""The Store Instances Response Module (PS3.18 Annex I), and the status that goes with it."""

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from archive.dicom.instance import AttributeWarning
from archive.dicom.xml_writer import encode_xml
from archive.errors import ArchiveError, InvalidInstanceError
from archive.ingest.outcome import Disposition, Outcome, Remark
from archive.log import get_logger
from dicomweb.context import base_url, instance_url, warning
from dicomweb.errors import WARNING_REASONS, mapped
from dicomweb.responses import RETRY_AFTER_S, JsonResponse, problem

logger = get_logger(__name__)
_Item = dict[str, Any]
# Error Comment is an LO: longer texts stand whole in Text Value (PS3.5 §6.2).
_LONGEST_COMMENT: Final = 64
# Where every instance was turned away for the same outward reason, the status says it.
_OUTWARD: Final = (
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
)


@dataclass(slots=True)
class Results:
    """What became of each instance, by the order they came in."""

    study_instance_uid: str | None
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    failures: dict[int, Exception] = field(default_factory=dict)

    def note(self, position: int, became: Outcome | Exception) -> None:
        """Note what became of the instance at ``position``."""
        if isinstance(became, Outcome):
            self.outcomes[position] = became
            return
        self.failures[position] = became
        if isinstance(became, ArchiveError):
            logger.warning(
                "instance.refused", extra={"reason": str(became), "part": position + 1}
            )
        else:
            logger.error("instance.failed", extra={"part": position + 1}, exc_info=became)

    def status(self) -> HTTPStatus:
        """Return the status (PS3.18 Table 10.5.3-1)."""
        if not self.outcomes:
            return self._all_failed()
        warned = any(outcome.warning is not Remark.NONE for outcome in self.outcomes.values())
        return HTTPStatus.ACCEPTED if self.failures or warned else HTTPStatus.OK

    def _all_failed(self) -> HTTPStatus:
        statuses = {mapped(error).status for error in self.failures.values()}
        return next((s for s in _OUTWARD if statuses == {s}), HTTPStatus.CONFLICT)


def store_response(request: Request, results: Results, media_type: str) -> Response:
    """Answer a store transaction in DICOM JSON or the Native DICOM Model."""
    status = results.status()
    module = response_module(request, results)
    response: Response = (
        JsonResponse(module, status_code=status, media_type=media_type)
        if media_type.endswith("json")
        else Response(encode_xml(module), status_code=status, media_type=media_type)
    )
    outcomes = results.outcomes.values()
    known = sum(outcome.disposition is Disposition.DUPLICATE for outcome in outcomes)
    if known:
        text = f"{known} instances were stored already"
        response.headers["Warning"] = warning(request, text)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def malformed_response(request: Request, results: Results, error: ArchiveError) -> Response:
    """Answer a body that could not be read to its end, and what was stored before that."""
    module = response_module(request, results)
    return problem(mapped(error).status, str(error), storeInstancesResponse=module)


def response_module(request: Request, results: Results) -> _Item:
    """Return the Store Instances Response Module (PS3.18 Table I.1-1)."""
    ordered = [results.failures[at] for at in sorted(results.failures)]
    sequences = {
        "00081198": [_failed(error) for error in ordered if _instance_of(error)],
        "00081199": [
            _referenced(request, results.outcomes[at]) for at in sorted(results.outcomes)
        ],
        "0008119A": [_other_failure(error) for error in ordered if not _instance_of(error)],
    }
    module: _Item = {"00081190": _study_url(request, results)}
    module |= {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}
    return module


def _study_url(request: Request, results: Results) -> _Item:
    """Return Retrieve URL (0008,1190), which is type 2: without a value where there is none."""
    studies = {outcome.ref.study_instance_uid for outcome in results.outcomes.values()}
    if len(studies) != 1:
        return {"vr": "UR"}
    return {"vr": "UR", "Value": [f"{base_url(request)}/studies/{studies.pop()}"]}


def _instance_of(error: Exception) -> str:
    return error.sop_instance_uid if isinstance(error, ArchiveError) else ""


def _referenced(request: Request, outcome: Outcome) -> _Item:
    item = _reference(outcome.sop_class_uid, outcome.ref.sop_instance_uid)
    item["00081190"] = {"vr": "UR", "Value": [instance_url(request, outcome.ref)]}
    if outcome.warning is not Remark.NONE:
        item["00081196"] = {"vr": "US", "Value": [WARNING_REASONS[outcome.warning]]}
        whole = [AttributeWarning("", outcome.explanation)] if outcome.explanation else []
        item["00741048"] = _attributes_in_doubt([*whole, *outcome.attributes])
    return item


def _reference(sop_class_uid: str, sop_instance_uid: str) -> _Item:
    """Return the SOP Instance Reference Macro (PS3.3 Table 10-11)."""
    return {
        "00081150": {"vr": "UI", "Value": [sop_class_uid]} if sop_class_uid else {"vr": "UI"},
        "00081155": {"vr": "UI", "Value": [sop_instance_uid]},
    }


def _failed(error: Exception) -> _Item:
    sop_class_uid = error.sop_class_uid if isinstance(error, ArchiveError) else ""
    return _reference(sop_class_uid, _instance_of(error)) | _other_failure(error)


def _other_failure(error: Exception) -> _Item:
    text = str(error) if isinstance(error, ArchiveError) else "unexpected failure"
    tag = error.tag if isinstance(error, InvalidInstanceError) and error.tag else ""
    return {
        "00081197": {"vr": "US", "Value": [mapped(error).failure_reason]},
        "00741048": _attributes_in_doubt([AttributeWarning(tag, text)]),
    }


def _attributes_in_doubt(warnings: list[AttributeWarning]) -> _Item:
    """Return Failed Attributes Sequence (0074,1048): what is wrong with which, in words."""
    return {"vr": "SQ", "Value": [_in_doubt(warning) for warning in warnings]}


def _in_doubt(warning: AttributeWarning) -> _Item:
    text = warning.message.replace("\\", "/")
    short = text if len(text) <= _LONGEST_COMMENT else f"{text[: _LONGEST_COMMENT - 3]}..."
    item: _Item = {"00000902": {"vr": "LO", "Value": [short]}}
    if len(warning.tag) == 8:
        item["00720026"] = {"vr": "AT", "Value": [warning.tag]}
    if short != text:
        item["0040A160"] = {"vr": "UT", "Value": [text]}
    return item
