"""The page at the root: what is here, for whoever opens it in a browser."""

import html

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from dicomweb.context import archive_of, base_url, principal_of
from dicomweb.viewer import installed_viewer

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Fileroom</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; }}
code, pre {{ background: #8881; padding: .1rem .3rem; border-radius: .3rem; }}
pre {{ padding: .8rem; overflow-x: auto; }}
td {{ padding-right: 1.5rem; }}
</style>
</head>
<body>
<main>
<h1>Fileroom</h1>
<p>An imaging archive that speaks DICOM.</p>
<table>
<tr><td>Patients</td><td>{patients}</td></tr>
<tr><td>Studies</td><td>{studies}</td></tr>
<tr><td>Series</td><td>{series}</td></tr>
<tr><td>Instances</td><td>{instances}</td></tr>
</table>
<h2>Viewer</h2>
<p>{viewer}</p>
<h2>DICOMweb</h2>
<p>Point a viewer or a client at <code>{base}</code>. For example:</p>
<pre>curl '{base}/studies?limit=5'</pre>
<ul>
<li><a href="dicom-web/studies?limit=20">Studies</a></li>
<li><a href="health/ready">Readiness</a>, <a href="metrics">metrics</a></li>
</ul>
<h2>DICOM</h2>
<p>AE title <code>{ae_title}</code>, port {port}.</p>
</main>
</body>
</html>
"""
_VIEWER = '<a href="viewer/">OHIF</a> shows the studies in this browser.'
_NO_VIEWER = "None is installed yet: <code>fileroom viewer install</code> fetches OHIF."


def index_page(request: Request) -> Response:
    """Return the page."""
    archive = archive_of(request)
    totals = archive.changes.totals(principal_of(request))
    return HTMLResponse(
        _PAGE.format(
            patients=totals.patients,
            studies=totals.studies,
            series=totals.series,
            instances=totals.instances,
            viewer=_VIEWER if installed_viewer(request) else _NO_VIEWER,
            base=html.escape(base_url(request)),
            ae_title=html.escape(archive.config.dimse.ae_title),
            port=archive.config.dimse.port,
        )
    )
