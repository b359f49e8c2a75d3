"""The pages of finding out one's own ID."""

from __future__ import annotations

from flask import Response
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import bp, finding_id, flow_pages
from blueprints.auth.forms import WhoForm
from models import Channel, FlowKind

PATHS = finding_id.PATHS


def _ways() -> list[Channel]:
    return flow_pages.list_ways(has_post=False)


@bp.get("/forgot-id")
def find_id() -> Response:
    return flow_pages.first_page("auth/find_id.html", WhoForm(formdata=None))


@bp.post("/forgot-id")
def find_id_post() -> Response | BaseResponse:
    return flow_pages.begin(
        FlowKind.FIND_ID, "auth/find_id.html", WhoForm(), finding_id.begin, PATHS
    )


@bp.get("/forgot-id/way")
def find_id_way() -> Response | BaseResponse:
    return flow_pages.way_page(PATHS, _ways())


@bp.post("/forgot-id/way")
def find_id_way_post() -> Response | BaseResponse:
    return flow_pages.send(PATHS, _ways(), finding_id.send)


@bp.get("/forgot-id/sent")
def find_id_sent() -> Response | BaseResponse:
    return flow_pages.sent_page(PATHS, "auth/find_id_sent.html")
