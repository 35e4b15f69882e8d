"""The page of edgepose serve, in a headless Chromium."""

import hashlib
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import edgepose

SERVE = Path(edgepose.__file__).parent / "serve"
SOURCES = ["package.json", "index.html", "main.js", "messages.js", "scene.js", "panel.js"]  # as in build.mjs
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WITHOUT_GPU = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
ENOUGH_S = 60


def test_the_page_that_ships_was_built_from_its_sources():
    built = (SERVE / "page.html").read_text()
    digest = hashlib.sha256("".join((SERVE / "page" / name).read_text() for name in SOURCES).encode()).hexdigest()
    assert f"sources {digest}" in built, "build it again: npm install && npm run build, in edgepose/serve/page"
    assert "Permission is hereby granted" in built  # three.js's licence
    assert not re.search(r"""(src|href)=["']?http""", built)


@pytest.fixture(scope="module")
def address():
    pytest.importorskip("websockets", reason="needs websockets, of the extra `serve`")
    process = subprocess.Popen([sys.executable, "-m", "edgepose", "serve", "--port", "0", "--engine", "martinez-s",
                                "--clip", "balance_cam1", "balance_cam2", "balance_cam3"], stdout=subprocess.PIPE,
                               text=True)
    yield process.stdout.readline().split()[2]
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)


@pytest.fixture(scope="module")
def page(address):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra `test`")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium: apt-get install chromium")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=WITHOUT_GPU)
        page = browser.new_page(viewport={"width": 640, "height": 400})
        page.requests, page.faults = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
        page.goto(address, timeout=1e3 * ENOUGH_S)
        until(page, "edgepose.figures().length === 3")
        yield page
        browser.close()


def until(page, expression):
    """Waits; not by wait_for_function, whose eval the page's policy forbids."""
    end_s = time.monotonic() + ENOUGH_S
    while not page.evaluate(expression):
        assert time.monotonic() < end_s, f"{expression} did not come true; {page.faults}"
        time.sleep(0.05)


def heads(page):
    return np.array(page.evaluate("edgepose.figures().map(f => f.joints[f.names.indexOf('head')].toArray())"))


def test_people_stand_beside_each_other_upright_and_move(page):
    first = heads(page)
    pelvises = np.array(page.evaluate("edgepose.figures().map(f => f.joints[0].toArray())"))
    assert (first[:, 1] > pelvises[:, 1]).all() and (np.diff(pelvises[:, 0]) > 0.5).all()
    until(page, f"edgepose.figures()[0].joints[10].x !== {first[0][0]}")
    assert page.evaluate("edgepose.figures().map(f => f.id)") == [0, 1, 2]


def test_the_panel_says_rate_latency_and_drops(page):
    until(page, "edgepose.feeds()[0].rate_hz > 0")
    feed, = page.evaluate("edgepose.feeds()")
    assert feed["people"] == 3 and feed["median_ms"] > 0 and feed["p99_ms"] >= feed["median_ms"]
    until(page, "document.querySelector('#feeds td') !== null")
    text = page.inner_text("#panel")
    assert "balance_cam1" in text and "dropped" in text and "drawn at" in text
    assert [label.inner_text() for label in page.query_selector_all("#labels div")] == ["0", "1", "2"]


def test_the_picture_shows_three_people(page, tmp_path):
    av_or_cv = pytest.importorskip("cv2", reason="needs OpenCV, of the extra `video`")
    page.screenshot(path=tmp_path / "page.png")
    picture = av_or_cv.imread(str(tmp_path / "page.png")).astype(int)
    colours = page.evaluate("edgepose.figures().map(f => f.colour.toArray())")
    strong = np.ptp(picture, axis=2) > 60  # neither the floor nor the panel
    hue = np.argmax(picture, axis=2)  # blue, green, red
    assert len(colours) == 3 and strong.mean() > 0.003
    assert all((strong & (hue == channel)).sum() > 100 for channel in (0, 1, 2))  # people 1, 2 and 0


def test_dragging_turns_the_camera(page):
    before = page.evaluate("edgepose.camera()")
    page.mouse.move(320, 350)
    page.mouse.down()
    page.mouse.move(420, 330, steps=4)
    page.mouse.up()
    until(page, f"Math.abs(edgepose.camera()[0] - {before[0]}) > 0.05")


def test_the_page_asks_nobody_else_and_has_no_faults(page, address):
    assert page.requests and all(url.startswith(address) for url in page.requests)
    assert page.faults == []
