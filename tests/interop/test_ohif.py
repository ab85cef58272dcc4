"""OHIF in a real browser: what its users do, and the pixel values it holds afterwards.

The viewer is the published one, as `fileroom viewer install` leaves it. Every test ends with
the account of its page: a request that failed or went to another host, an error in a script or
on the console fails it. Pictures are left in $SCREENSHOTS.
"""

import base64
import io
import re
import time

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_color_lut, apply_modality_lut, convert_color_space

from archive.cli.demo_data import synthetic_instances
from tests.conftest import Served
from tests.interop.browser import WAIT_MS, Watched, profile
from tests.interop.studies import (
    GATHERED,
    document,
    gathered,
    segmentation,
    small_pdf,
)

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("browser")]

# Images of the first display set of a series, in the order in which it is scrolled.
_IMAGES = """
series => services.displaySetService.getActiveDisplaySets()
  .filter(set => set.SeriesInstanceUID === series)
  .flatMap(set => set.imageIds || (set.images || []).map(image => image.imageId))
"""
# The values the viewer holds of one image, after its own loader, decoder and scaling.
_VALUES = """
async id => {
  const image = await cornerstone.imageLoader.loadAndCacheImage(id);
  const values = image.getPixelData();
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let text = '';
  for (let at = 0; at < bytes.length; at += 32768)
    text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return { type: values.constructor.name, rows: image.rows, columns: image.columns,
           components: image.numberOfComponents, invert: image.invert, bytes: btoa(text) };
}
"""
# The first viewport; other rendering engines of the viewer draw thumbnails.
_ENGINE = "window.cornerstone?.getRenderingEngine('OHIFCornerstoneRenderingEngine')"
_VIEWPORT = f"{_ENGINE}?.getViewports()[0]"
# Grey value on the screen at a pixel of the image that is shown: what is really drawn.
_DRAWN = f"""
([column, row]) => {{
  const viewport = {_VIEWPORT};
  const world = cornerstone.utilities.imageToWorldCoords(
    viewport.getCurrentImageId(), [column + 0.5, row + 0.5]);
  const canvas = viewport.getCanvas();
  const [x, y] = viewport.worldToCanvas(world);
  const scale = canvas.width / canvas.clientWidth;
  return [...canvas.getContext('2d').getImageData(x * scale, y * scale, 1, 1).data];
}}
"""
_TYPES = {
    "Uint8Array": np.uint8,
    "Uint8ClampedArray": np.uint8,
    "Int8Array": np.int8,
    "Uint16Array": np.uint16,
    "Int16Array": np.int16,
    "Float32Array": np.float32,
}


def lesion() -> np.ndarray:
    """Where the lesion of the made CT is: the same arithmetic."""
    z, y, x = np.mgrid[0:40, 0:256, 0:256].astype(np.float32)
    u, v, w = (x - 128) / 96, (y - 128) / 112, (z - 20) / 22
    return ((u - 0.4) ** 2 + (v - 0.3) ** 2 + w**2) < 0.03


class Studies:
    """A running archive with studies to look at, and what they hold."""

    def __init__(self, folder, viewer_folder) -> None:
        files = folder / "files"
        files.mkdir()
        made = [pydicom.dcmread(io.BytesIO(body)) for body in synthetic_instances()]
        self.ct = [image for image in made if image.Modality == "CT"]
        (self.dx,) = [image for image in made if image.Modality == "DX"]
        (self.us,) = [image for image in made if image.Modality == "US"]
        self.masks = lesion()
        self.seg = segmentation(self.ct, self.masks)
        # So large that metadata refer to it instead of holding it.
        self.pdf = small_pdf("Nothing suspicious.") + b"% filler\n" * 20_000
        self.report = document(self.ct[0], self.pdf)
        self.gathered = gathered(files)
        for image in (*made, self.seg, self.report):
            image.save_as(files / image.SOPInstanceUID, enforce_file_format=True)
        self.server = Served(folder / "data", FILEROOM_VIEWER__FOLDER=str(viewer_folder))
        self.server.start()
        self.server.command("import", str(files))
        self.root = self.server.url


@pytest.fixture(scope="session")
def studies(tmp_path_factory, viewer_folder):
    made = Studies(tmp_path_factory.mktemp("studies"), viewer_folder)
    yield made
    assert made.server.stop() == 0


@pytest.fixture(scope="session")
def context(chromium, studies):
    """One profile for all pages: scripts of the viewer are fetched once."""
    with profile(chromium) as opened:
        yield opened


@pytest.fixture
def watched(context, studies, request):
    """A page whose faults fail the test, and a picture of how it ended."""
    opened = Watched(context, studies.root)
    yield opened
    opened.picture(re.sub(r"\W+", "-", request.node.name))
    opened.close()
    assert opened.faults == []


def open_study(watched, *images) -> None:
    """Open the study of ``images`` and wait until the viewer takes what is asked of it.

    While it sets a viewport up it draws it empty, and goes back to the first image a moment
    after a change of its size: it is ready when an image has stayed for some time.
    """
    page = watched.page
    page.goto(f"{watched.root}/viewer/viewer?StudyInstanceUIDs={images[0].StudyInstanceUID}")
    wait_for_an_image(page, frames=30)


def wait_for_an_image(page, condition: str = "true", frames: int = 1, **more) -> None:
    """Wait until the first viewport shows an image, and of which ``condition`` is true.

    It does so in that many ``frames`` of the screen in a row.
    """
    page.evaluate("window.shown = { frames: 0 }")
    page.wait_for_function(
        f"""argument => {{
          const viewport = {_VIEWPORT};
          const image = viewport?.getCornerstoneImage?.();
          const now = image && viewport.viewportStatus === 'rendered'
            && image.imageId === viewport.getCurrentImageId() && ({condition});
          const before = shown.viewport === viewport ? shown.frames : 0;
          window.shown = {{ viewport, frames: now ? before + 1 : 0 }};
          return shown.frames >= {frames};
        }}""",
        **more,
    )


def image_ids(page, image) -> list[str]:
    """Names that the viewer gives the images of the series of ``image``."""
    series = image.SeriesInstanceUID
    page.wait_for_function(f"series => ({_IMAGES})(series).length", arg=series)
    return page.evaluate(_IMAGES, series)


def soon(page, check) -> None:
    """Let ``check`` fail until what the viewer draws, a moment after it is asked, is right."""
    end = time.monotonic() + WAIT_MS / 1000
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() > end:
                raise
        page.wait_for_timeout(50)


def values_of(page, image_id) -> tuple[np.ndarray, dict]:
    """What the viewer holds of an image: its values, and what it says of them."""
    held = page.evaluate(_VALUES, image_id)
    values = np.frombuffer(base64.b64decode(held.pop("bytes")), _TYPES[held["type"]])
    shape = (held["rows"], held["columns"])
    if held["components"] > 1:
        shape += (held["components"],)
    return values.reshape(shape), held


def expected_of(image) -> np.ndarray:
    """The same values by pydicom: modality values where they are grey, RGB where not."""
    pixels = image.pixel_array
    if image.PhotometricInterpretation == "PALETTE COLOR":
        return apply_color_lut(pixels, image) >> 8
    if image.SamplesPerPixel == 3:
        native = not image.file_meta.TransferSyntaxUID.is_compressed
        if native and image.PhotometricInterpretation == "YBR_FULL":
            return convert_color_space(pixels, "YBR_FULL", "RGB")
        return pixels
    return apply_modality_lut(pixels, image)


def uid_of(image_id: str) -> str:
    return re.search(r"/instances/([\d.]+)/", image_id)[1]


# -- the study list ----------------------------------------------------------------------------


def rows(page) -> list[str]:
    return page.locator("tbody tr:not([data-filter-row])").all_inner_texts()


def wait_for_studies(page, *names: str) -> None:
    """Wait until the studies of patients of these ``names`` are listed, and no others."""

    def are_listed() -> None:
        assert sorted(row.split("\t")[0].strip() for row in rows(page)) == sorted(names)

    soon(page, are_listed)


def test_the_study_list_shows_what_the_archive_holds(watched):
    page = watched.page
    page.goto(f"{watched.root}/viewer/")
    wait_for_studies(page, "Demo, Volume", "Demo, Wedge", "Demo, Cine", "Gathered, Files")
    listed = {row.split("\t")[0].strip(): row for row in rows(page)}
    assert "CT head phantom" in listed["Demo, Volume"]
    assert "A0001" in listed["Demo, Volume"]
    assert "42" in listed["Demo, Volume"]  # 40 slices, a segmentation, a report
    assert "02-Jan-2026" in listed["Demo, Wedge"]
    assert page.evaluate("crossOriginIsolated")


def test_the_list_is_filtered_by_a_part_of_the_name(watched):
    page = watched.page
    page.goto(f"{watched.root}/viewer/")
    page.get_by_text("Demo, Volume").wait_for()
    page.locator("tr[data-filter-row] input").first.fill("wedg")
    wait_for_studies(page, "Demo, Wedge")


def test_the_list_is_filtered_by_modality(watched):
    page = watched.page
    page.goto(f"{watched.root}/viewer/")
    page.get_by_text("Demo, Volume").wait_for()
    page.locator("[aria-label='Filter Modalities']").click()
    page.get_by_role("option", name="US", exact=True).click()
    wait_for_studies(page, "Demo, Cine", "Gathered, Files")


def test_the_settings_filters_of_a_link_reach_the_search(watched):
    page = watched.page
    page.goto(f"{watched.root}/viewer/?patientName=cine")
    wait_for_studies(page, "Demo, Cine")
    assert any("PatientName=*cine*" in asked.replace("%2A", "*") for asked in watched.requests)


def test_a_study_is_opened_from_the_list(watched, studies):
    page = watched.page
    page.goto(f"{watched.root}/viewer/")
    page.get_by_text("Demo, Wedge").dblclick()
    page.wait_for_url(f"**StudyInstanceUIDs={studies.dx.StudyInstanceUID}*")
    wait_for_an_image(page)


def test_a_study_that_is_not_there_is_told(watched):
    page = watched.page
    page.goto(f"{watched.root}/viewer/viewer?StudyInstanceUIDs=1.2.3.4.5.6.7")
    page.locator("[data-cy=study-not-found-message]").wait_for()


# -- images ------------------------------------------------------------------------------------


def test_a_ct_series_is_scrolled_and_every_value_is_right(watched, studies):
    page = watched.page
    open_study(watched, *studies.ct)
    ids = image_ids(page, studies.ct[0])
    assert len(ids) == 40
    by_uid = {image.SOPInstanceUID: image for image in studies.ct}
    # From head to foot, as the viewer sorts a stack by position.
    assert [by_uid[uid_of(image_id)].InstanceNumber for image_id in ids] == list(
        range(40, 0, -1)
    )
    for image_id in ids:
        values, _ = values_of(page, image_id)
        assert np.array_equal(values, expected_of(by_uid[uid_of(image_id)]))
    pane = page.locator("[data-cy=viewport-pane]").first
    pane.hover()
    for turn in range(1, 11):
        page.mouse.wheel(0, 100)
        wait_for_an_image(page, f"viewport.getCurrentImageIdIndex() === {turn}")
    pane.get_by_text("(11/40)").wait_for()


def test_a_window_of_the_ct_is_what_is_drawn(watched, studies):
    page = watched.page
    open_study(watched, *studies.ct)
    page.evaluate(f"{_VIEWPORT}.setImageIdIndex(19)")
    wait_for_an_image(page, "viewport.getCurrentImageIdIndex() === 19")

    # First window of the instance: centre 40, width 80. Brain is 40 HU, skull 800, air -1000.
    def is_drawn() -> None:
        brain, skull, air = (page.evaluate(_DRAWN, at) for at in ([60, 128], [128, 21], [4, 4]))
        assert brain[:3] == pytest.approx([127, 127, 127], abs=3)
        assert skull[:3] == [255, 255, 255]
        assert air[:3] == [0, 0, 0]

    soon(page, is_drawn)


def test_a_dx_with_monochrome1_is_inverted_and_its_values_are_right(watched, studies):
    page = watched.page
    open_study(watched, studies.dx)
    (image_id,) = image_ids(page, studies.dx)
    values, held = values_of(page, image_id)
    assert np.array_equal(values, studies.dx.pixel_array)
    assert held["invert"] is True
    assert studies.dx.pixel_array[325, 500] < studies.dx.pixel_array[20, 960]

    # The ring had the least exposure, the last step the most: bright and dark.
    def is_drawn() -> None:
        ring, step = page.evaluate(_DRAWN, [500, 600 - 275]), page.evaluate(_DRAWN, [960, 20])
        assert ring[0] > 230
        assert step[0] < 60

    soon(page, is_drawn)


def test_every_frame_of_an_ultrasound_is_its_own(watched, studies):
    page = watched.page
    open_study(watched, studies.us)
    ids = image_ids(page, studies.us)
    assert [image_id.rpartition("/frames/")[2] for image_id in ids] == [
        str(number) for number in range(1, 25)
    ]
    wanted = studies.us.pixel_array
    for index, image_id in enumerate(ids):
        values, _ = values_of(page, image_id)
        away = np.abs(values.astype(int) - wanted).mean(axis=(1, 2, 3))
        # Two decoders of JPEG differ a little where colours change. The circle shrinks as it
        # grew: a frame is like one other at most.
        assert away[index] < 0.1
        assert (away < 0.5).sum() <= 2
    page.locator("[data-cy=viewport-pane]").first.hover()
    page.mouse.wheel(0, 100)
    wait_for_an_image(page, "viewport.getCurrentImageIdIndex() === 1")


@pytest.fixture(scope="session")
def held(context, studies):
    """What the viewer holds of each gathered file, all opened as one study."""
    watched = Watched(context, studies.root)
    page = watched.page
    open_study(watched, *studies.gathered.values())
    found = {}
    for name, image in studies.gathered.items():
        (image_id,) = image_ids(page, image)
        found[name] = values_of(page, image_id)
    page.locator("[data-cy=study-browser-thumbnail]").nth(len(GATHERED) - 1).wait_for()
    watched.picture("real-files")
    watched.close()
    assert watched.faults == []
    return found


# Decoders differ by this much where a file was compressed with loss.
_LOSS = {"693_J2KI.dcm": 1, "SC_rgb_jpeg_dcmtk.dcm": 1, "SC_rgb_dcmtk_+eb+cr.dcm": 1}


@pytest.mark.parametrize("name", GATHERED)
def test_real_files_of_each_transfer_syntax_have_the_right_values(name, held, studies):
    values, _ = held[name]
    expected = expected_of(studies.gathered[name])
    assert values.shape == expected.shape
    difference = np.abs(values.astype(np.int64) - expected.astype(np.int64)).max()
    assert difference <= _LOSS.get(name, 0)


@pytest.mark.parametrize("name", ["MR_small_jpeg_ls_lossless.dcm", "SC_rgb_gdcm_KY.dcm"])
def test_a_compressed_series_is_opened_from_its_thumbnail(name, watched, studies):
    page, image = watched.page, studies.gathered[name]
    open_study(watched, image)
    page.locator(f"[data-cy=study-browser-thumbnail]:has-text('{name[:12]}')").last.dblclick()
    uid = image.SOPInstanceUID
    wait_for_an_image(page, "viewport.getCurrentImageId()?.includes(argument)", arg=uid)


# -- what belongs to images --------------------------------------------------------------------


def test_a_segmentation_lies_over_its_ct_voxel_by_voxel(watched, studies):
    page = watched.page
    open_study(watched, *studies.ct)
    page.locator("[data-cy=study-browser-thumbnail-no-image]:has-text('SEG')").dblclick()
    page.locator("[data-cy=yes-hydrate-btn]").click()
    page.wait_for_function("services.segmentationService.getSegmentations().length === 1")
    page.locator("[data-cy=yes-hydrate-btn]").wait_for(state="detached")
    labels = page.evaluate("""
      () => {
        const [{ representationData }] = services.segmentationService.getSegmentations();
        return representationData.Labelmap.imageIds.map(id => {
          const image = cornerstone.cache.getImage(id);
          const inside = [];
          image.voxelManager.getScalarData().forEach((label, at) => label && inside.push(at));
          return [image.referencedImageId, inside];
        });
      }""")
    found = {uid_of(image_id): inside for image_id, inside in labels}
    assert len(found) == 40
    for image, mask in zip(studies.ct, studies.masks, strict=True):
        assert found[image.SOPInstanceUID] == np.flatnonzero(mask).tolist()
    assert sum(map(len, found.values())) == studies.masks.sum() > 1000


def test_a_report_in_pdf_is_shown_byte_by_byte(watched, studies):
    page = watched.page
    open_study(watched, *studies.ct)
    page.locator("[data-cy=study-browser-thumbnail-no-image]:has-text('DOC')").dblclick()
    shown = page.locator("object[type='application/pdf']")
    shown.wait_for()
    page.wait_for_function("document.querySelector('object[type=\"application/pdf\"]').data")
    text = page.evaluate("""
      async () => {
        const { data } = document.querySelector('object[type="application/pdf"]');
        const bytes = new Uint8Array(await (await fetch(data)).arrayBuffer());
        let text = '';
        for (let at = 0; at < bytes.length; at += 32768)
          text += String.fromCharCode(...bytes.subarray(at, at + 32768));
        return btoa(text);
      }""")
    assert base64.b64decode(text).rstrip(b"\0") == studies.pdf
    assert any("/bulkdata/" in asked for asked in watched.requests)
    page.wait_for_timeout(1500)  # the browser's reader of PDF paints when it likes


def test_planes_through_the_volume_are_made_in_shared_memory(watched, studies):
    page = watched.page
    open_study(watched, *studies.ct)
    assert page.evaluate("crossOriginIsolated && typeof SharedArrayBuffer === 'function'")
    page.evaluate("commandsManager.runCommand('setHangingProtocol', { protocolId: 'mpr' })")
    page.wait_for_function("cornerstone.cache.getVolumes()[0]?.loadStatus?.loaded")
    dimensions = page.evaluate("cornerstone.cache.getVolumes()[0].dimensions")
    assert dimensions == [256, 256, 40]
    stored = np.stack([expected_of(image) for image in studies.ct])
    corners = [(0, 0, 0), (128, 20, 20), (128, 128, 5), (165, 160, 20), (60, 128, 33)]
    across = page.evaluate("cornerstone.cache.getVolumes()[0].direction")[8]
    for column, row, plane in corners:
        at = [column, row, plane if across > 0 else 39 - plane]
        value = page.evaluate(
            "at => cornerstone.cache.getVolumes()[0].voxelManager.getAtIJK(...at)", at
        )
        assert value == stored[plane, row, column]
    drawn = f"{_ENGINE}.getViewports().filter(plane => plane.viewportStatus === 'rendered')"
    page.wait_for_function(f"{drawn}.length === 3")
