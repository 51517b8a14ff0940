"""What the page has of others is as they have published it."""

from __future__ import annotations

import base64
import hashlib

import pytest

from lambda_celery.dashboard.page import STATIC

FILES = {
    "uplot/LICENSE": "LBMwZlHtMnim4BBA9gOI4OOPUI5cNjaxzIZCJRYYEyIykienqB4X7/vxq0t1Ihgd",
    "uplot/uPlot.iife.min.js": "Gx3t0zdBAuQOuvvmaLZj7HKEiSgWTAs+VdtNY7wt19QDPTDQjFIwAuXDj0zeN00c",
    "uplot/uPlot.min.css": "IfV0B7MIOYuO95kO9G5ySKPz/85zqFNOAs8iy4tkK5zd9izhJAB8b7lHrwYqqmYE",
}


@pytest.mark.parametrize("name", FILES)
def test_a_vendored_file_is_unchanged(name):
    content = (STATIC / "lambda_celery/vendor" / name).read_bytes()
    assert base64.b64encode(hashlib.sha384(content).digest()).decode() == FILES[name]


def test_each_vendored_file_is_known():
    vendored = STATIC / "lambda_celery/vendor"
    found = {str(each.relative_to(vendored)) for each in vendored.rglob("*") if each.is_file()}
    assert found == {"README.md", *FILES}
