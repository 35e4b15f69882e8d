"""edgepose serve: feeds, clients that behave and clients that do not, tokens, metrics."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from people import DT, SIZE, FakeEngine, person_of

import edgepose
from edgepose.serve import cameras
from edgepose.serve import messages as m
from edgepose.serve.feeds import Feed, Limits, Refused
from edgepose.serve.messages import Frame, Opening
from edgepose.serve.service import Outbox, Service

pytest.importorskip("websockets", reason="needs websockets, of the extra `serve`")
pytest.importorskip("prometheus_client", reason="needs prometheus-client, of the extra `serve`")

from websockets.asyncio.client import connect  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402

from edgepose.serve.metrics import Metrics  # noqa: E402
from edgepose.serve.server import Pace, Server, is_loopback  # noqa: E402

OPENING = Opening("coco17", SIZE, "", "json", True, {})
OPEN = {"type": "open", "layout": "coco17", "image_size": SIZE}
CLIP = person_of("coco17")
ENOUGH_S = 60  # for an answer on a machine with much else to do


def feed_of(engine=None, **limits):
    return Feed(1, engine or FakeEngine(1), OPENING, Limits(**limits), "coco17")


def frame_text(i, people=None, **more):
    people = CLIP[i][None] if people is None else people
    return json.dumps({"type": "frame", "number": i, "timestamp_s": i * DT, "people": np.asarray(people).tolist(),
                       **more})


def asynchronous(test):
    """A test that is a coroutine."""
    def run(*arguments, **named):
        asyncio.run(asyncio.wait_for(test(*arguments, **named), 3 * ENOUGH_S))
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@asynccontextmanager
async def served(token=None, make_detector=None, **limits):
    """(address without a scheme, service) of a server on a FakeEngine."""
    metrics = Metrics()
    service = Service(FakeEngine(1), Limits(**limits), make_detector, metrics.answered)
    metrics.serve(service)
    async with Server(service, metrics, token).listening("127.0.0.1", 0) as port:
        yield f"127.0.0.1:{port}", service


@asynccontextmanager
async def client(address, **changes):
    """A connection whose feed is open, and the message that says so."""
    async with connect(f"ws://{address}/ws", compression=None) as connection:
        await connection.send(json.dumps({**OPEN, **changes}))
        yield connection, json.loads(await said(connection))


async def said(connection):
    return await asyncio.wait_for(connection.recv(), ENOUGH_S)


async def exchange(connection, frames=range(3)):
    """The answers to a few frames, which all come."""
    answers = []
    for i in frames:
        await connection.send(frame_text(i))
        answers.append(json.loads(await said(connection)))
        while answers[-1]["type"] == "notice":
            answers[-1] = json.loads(await said(connection))
        assert answers[-1]["type"] == "poses" and answers[-1]["number"] == i, answers[-1]
    return answers


def get(address, path="/", **headers):
    return urllib.request.urlopen(urllib.request.Request(f"http://{address}{path}", headers=headers), timeout=ENOUGH_S)


def test_too_many_frames_drop_the_oldest_which_are_counted():
    feed = feed_of(waiting=2)
    for i in range(5):
        feed.put(frame_text(i))
    numbers = [feed.lift(*feed.take()).number for _ in range(2)]
    assert numbers == [3, 4] and feed.counts.dropped == 3 and feed.counts.lifted == 2 and len(feed) == 0


def test_a_feed_has_the_poses_of_people():
    feed, people = feed_of(), edgepose.People(FakeEngine(1), "coco17", SIZE)
    for i in range(5):
        answer = feed.lift(Frame(i, i * DT, CLIP[i][None]), 0.0)
        (who, pose), = people.push(CLIP[i][None], i * DT)
        assert answer.people[0][0] == who
        np.testing.assert_array_equal(answer.people[0][1].joints_m, pose.joints_m)


@pytest.mark.parametrize("frame, said", [
    (Frame(1, 0.0, np.zeros((21, 17, 3))), "has 21 people; this server takes 20"),
    (Frame(1, 0.0, [[[1, 2]]]), "person 0"), (Frame(1, 0.0, [[["a", 2]]]), "wanted real numbers"),
    (Frame(1, 0.0, [[[10**400, 2]]]), "has dtype object"), (Frame(1, 0.0, [[1], [2, 3]]), "rows of different lengths"),
    (Frame(1, 0.0, CLIP[:1], [-1]), r"ids\[0\] is -1"), (Frame(1, 0.0, CLIP[:1], [2**80]), "whole numbers"),
    (Frame(1, 0.0, CLIP[:1], ["x"]), "whole numbers"), (Frame(1, float("nan"), CLIP[:1]), "timestamp_s is nan"),
])
def test_a_frame_that_does_not_fit_changes_nothing(frame, said):
    feed = feed_of()
    with pytest.raises(Refused, match=said) as refused:
        feed.lift(frame, 0.0)
    assert refused.value.number == 1 and feed.counts.refused == 1
    assert feed.lift(Frame(2, 0.0, CLIP[:1]), 0.0).people[0][0] == 0


def test_an_opening_with_an_impossible_option_is_refused():
    for option, value in (("delay_frames", -1), ("camera", [1]), ("gravity", "down"), ("lengths_m", [3])):
        with pytest.raises((ValueError, TypeError)):
            Feed(1, FakeEngine(1), Opening("coco17", SIZE, "", "json", True, {option: value}), Limits(), "coco17")


NUMBERS = st.floats() | st.integers() | st.none() | st.booleans() | st.text(max_size=3)
PEOPLE = st.recursive(NUMBERS, lambda inner: st.lists(inner, max_size=3), max_leaves=20)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.builds(lambda people, ids, time_s: json.dumps({"type": "frame", "timestamp_s": time_s,
                                                                  "people": people, "ids": ids}),
                          st.lists(PEOPLE, max_size=3), st.none() | st.lists(NUMBERS, max_size=3), NUMBERS)
                | st.binary(max_size=60), max_size=5))
def test_whatever_a_client_sends_its_feed_refuses_or_lifts(messages):
    feed = feed_of()
    for message in [*messages, frame_text(0, timestamp_s=1e6)]:
        feed.put(message)
        try:
            feed.lift(*feed.take())
        except Refused:
            pass
    assert feed.counts.lifted + feed.counts.refused == len(messages) + 1


@asynchronous
async def test_poses_come_in_both_forms():
    people, rounded = (edgepose.People(FakeEngine(1), "coco17", SIZE) for _ in range(2))
    async with served() as (address, _), client(address) as (one, opened), client(address, form="binary") as (other, _):
        assert opened["joints"] == list(FakeEngine().skeleton.joints) and opened["type"] == "opened"
        for i in range(3):
            (who, pose), = people.push(CLIP[i][None], i * DT)
            answer, = await exchange(one, [i])
            assert answer["people"][0]["id"] == who
            np.testing.assert_allclose(answer["people"][0]["joints_m"], pose.joints_m, atol=1e-6)
            await other.send(m.frame_bytes(Frame(i, i * DT, CLIP[i][None])))
            answer = await said(other)
            (_, pose), = rounded.push(CLIP[i][None].astype(np.float32), i * DT)
            np.testing.assert_array_equal(np.frombuffer(answer, "<f4", 51, 32 + 8 + 8 + 4 + 12),
                                          pose.joints_m.ravel())


@asynchronous
async def test_a_watcher_sees_feeds_come_and_go_and_their_poses():
    async with served() as (address, _), connect(f"ws://{address}/ws") as watcher:
        await watcher.send('{"type": "watch"}')
        async with client(address, name="door") as (one, opened):
            assert json.loads(await said(watcher)) == opened
            answers = await exchange(one)
            assert [json.loads(await said(watcher)) for _ in answers] == answers
        assert json.loads(await said(watcher)) == {"type": "ended", "feed": opened["feed"]}
        async with client(address) as (_, second):
            assert second["feed"] == opened["feed"] + 1


@asynchronous
async def test_a_watcher_that_comes_late_is_told_of_the_feeds_that_are_open():
    async with served() as (address, _), client(address) as (one, opened), client(address) as (_, second):
        async with connect(f"ws://{address}/ws") as watcher:
            await watcher.send(json.dumps({"type": "watch", "feed": second["feed"]}))
            assert json.loads(await said(watcher)) == second
            await exchange(one)  # another feed's: not shown
            await watcher.send("something")
            assert json.loads(await said(watcher))["text"] == "a watcher sends nothing"


@asynchronous
async def test_notices_and_resets_are_told():
    async with served() as (address, _), client(address) as (one, _):
        await one.send(frame_text(0))
        await said(one)
        await one.send(frame_text(0, timestamp_s=0.0))
        refusal = json.loads(await said(one))
        assert refusal["type"] == "error" and refusal["number"] == 0 and "timestamp_s is 0 after 0" in refusal["text"]
        await one.send('{"type": "reset"}')
        answer, = await exchange(one, [0])
        assert answer["people"][0]["was_reset"] and answer["people"][0]["id"] == 1  # ids are not used again
        twice = np.stack([CLIP[1], CLIP[1]])
        await one.send(frame_text(1, twice))
        notice = json.loads(await said(one))
        assert notice["type"] == "notice" and "another detection of somebody" in notice["text"]


@asynchronous
async def test_garbage_ends_or_is_refused_and_harms_nobody_else():
    rng = random.Random(0)
    async with served() as (address, service), client(address) as (good, _), client(address) as (bad, _):
        for i in range(30):
            await bad.send(rng.choice([rng.randbytes(50), str(rng.random()), "{}", frame_text(0, [[[1, 2]]])]))
            assert json.loads(await said(bad))["type"] == "error"
            await exchange(good, [i])
        for first in ("", "{}", b"\x00", frame_text(0), json.dumps({**OPEN, "layout": "no such"}),
                      json.dumps({**OPEN, "lengths_m": [1]}), json.dumps({**OPEN, "image_size": [0, 0]})):
            async with connect(f"ws://{address}/ws") as stranger:
                await stranger.send(first)
                assert json.loads(await said(stranger))["type"] == "error"
                with pytest.raises(ConnectionClosed):
                    await said(stranger)
        for raw in (b"\x00" * 100, b"GET / HTTP/1.1\r\n", b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            _, writer = await asyncio.open_connection(*address.split(":"))
            writer.write(raw)
            await writer.drain()
            await exchange(good, [30 + len(raw) % 3])
            writer.close()
            await good.send('{"type": "reset"}')
        await exchange(good)
        assert len(service.opens) == 2


@asynchronous
async def test_a_client_that_reads_nothing_loses_its_own_answers_alone():
    crowd = np.stack([CLIP[0] + [300.0 * i, 0, 0] for i in range(20)])
    async with served(frames_hz=1e6, message_bytes=1 << 20) as (address, service), client(address) as (good, _):
        async with client(address, image_size=[9000, 1080], form="binary") as (deaf, _):
            deaf.transport.pause_reading()
            i = 0
            while not service.answers_dropped and not any(box.dropped for box in service.outboxes):
                await deaf.send(m.frame_bytes(Frame(i, i * DT, crowd)))
                await exchange(good, [i % 40])
                if i % 40 == 39:
                    await good.send('{"type": "reset"}')
                i += 1
                assert i < 5000
        assert get_text(await asyncio.to_thread(get, address, "/metrics"))["edgepose_answers_dropped_total"] > 0


@asynchronous
async def test_a_flood_drops_its_own_frames_alone():
    async with served(frames_hz=1e6, waiting=2) as (address, service), client(address) as (good, _):
        async with client(address, answer=False) as (flood, opened):
            async def send():
                while True:
                    for i in range(40):
                        await flood.send(frame_text(i))

            sending = asyncio.create_task(send())
            answers = await exchange(good, range(20))
            while not service.opens[opened["feed"]].feed.counts.dropped:
                await asyncio.sleep(0.01)
            sending.cancel()
        assert all(answer["dropped"] == 0 for answer in answers)


@asynchronous
async def test_whoever_sends_too_fast_is_read_more_slowly():
    start = asyncio.get_running_loop().time()
    pace = Pace(100.0)
    for _ in range(40):
        await pace.keep()
    assert asyncio.get_running_loop().time() - start >= 0.29  # 40 frames at 100 Hz, less a burst of 0.1 s


@asynchronous
async def test_a_client_that_is_killed_leaves_nothing_behind():
    program = ("import json, sys\nfrom websockets.sync.client import connect\n"
               "c = connect(sys.argv[1])\nc.send(sys.argv[2])\nprint(c.recv(), flush=True)\n"
               "while True: c.send(sys.argv[3])")
    async with served() as (address, service), client(address) as (good, _):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, f"ws://{address}/ws", json.dumps(OPEN), frame_text(0),
            stdout=asyncio.subprocess.PIPE)
        assert json.loads(await asyncio.wait_for(process.stdout.readline(), ENOUGH_S))["type"] == "opened"
        assert len(service.opens) == 2
        process.kill()
        await process.wait()
        await exchange(good)
        while len(service.opens) > 1:
            await asyncio.sleep(0.01)
        await exchange(good, range(3, 6))


@asynchronous
async def test_sizes_people_and_clients_are_limited():
    async with served(clients=2, people=2, message_bytes=20_000) as (address, _), client(address) as (one, _):
        await one.send(frame_text(0, np.stack([CLIP[0]] * 3)))
        assert "has 3 people; this server takes 2" in json.loads(await said(one))["text"]
        async with client(address) as (two, _):
            async with connect(f"ws://{address}/ws") as three:
                with pytest.raises(ConnectionClosed) as closed:
                    await said(three)
                assert closed.value.rcvd.code == 1013 and "2 clients already" in closed.value.rcvd.reason
            await two.send("x" * 20_001)
            with pytest.raises(ConnectionClosed) as closed:
                await said(two)
            assert closed.value.rcvd.code == 1009
        await exchange(one)


@asynchronous
async def test_a_token_is_wanted_for_everything():
    async with served(token="a secret of ours") as (address, _):
        for path in ("/", "/metrics", "/?token=another", "/nothing"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                await asyncio.to_thread(get, address, path)
            assert refused.value.code == 401
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://{address}/ws"):
                pass
        assert refused.value.response.status_code == 401
        assert (await asyncio.to_thread(get, address, "/?token=a%20secret%20of%20ours")).status == 200
        headers = {"Authorization": "Bearer a secret of ours"}
        assert (await asyncio.to_thread(get, address, "/metrics", **headers)).status == 200
        async with connect(f"ws://{address}/ws", additional_headers=headers) as one:
            await one.send('{"type": "watch"}')


@asynchronous
async def test_pages_of_strangers_may_not_use_the_server():
    async with served() as (address, _):
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            with pytest.raises(urllib.error.HTTPError) as refused:
                await asyncio.to_thread(get, address, "/", **headers)
            assert refused.value.code == 403
        with pytest.raises(InvalidStatus):
            async with connect(f"ws://{address}/ws", origin="http://evil.example"):
                pass
        page = await asyncio.to_thread(get, address, "/", Origin=f"http://{address}")
        assert page.status == 200 and "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_addresses_of_this_machine_are_told_from_others():
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.0.1", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "", "::", "192.168.1.2", "localhost.evil.example")))


def get_text(response):
    """{figure: value} of a Prometheus text."""
    lines = [line for line in response.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


@asynchronous
async def test_metrics_count_what_happened():
    async with served() as (address, _):
        async with client(address) as (one, _):
            await exchange(one)
            await one.send("garbage")
            await said(one)
            figures = get_text(await asyncio.to_thread(get, address, "/metrics"))
            assert figures["edgepose_feeds"] == figures["edgepose_clients"] == 1
        figures = get_text(await asyncio.to_thread(get, address, "/metrics"))
        assert figures["edgepose_frames_lifted_total"] == figures["edgepose_poses_total"] == 3
        assert figures["edgepose_frames_refused_total"] == 1 and figures["edgepose_latency_seconds_count"] == 3
        assert figures["edgepose_feeds"] == 0 and figures['edgepose_notices_total{kind="late_push"}'] == 0


class StandIn:
    """A detector that finds the person of CLIP whose number is the picture's grey."""

    layout, closed = "coco17", 0

    def __call__(self, image):
        return CLIP[image[0, 0, 0]] if image.any() else None

    def close(self):
        StandIn.closed += 1


@asynchronous
async def test_pictures_go_through_the_detector():
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV, of the extra `video`")
    people, StandIn.closed = edgepose.People(FakeEngine(1), "coco17", SIZE), 0
    async with served(make_detector=StandIn) as (address, service):
        async with client(address, layout=None) as (one, opened):
            assert opened["layout"] is None
            for i in (1, 2, 0):
                picture = cv2.imencode(".png", np.full((SIZE[1], SIZE[0], 3), i, np.uint8))[1].tobytes()
                await one.send(m.picture_bytes(m.Picture(i, (i or 3) * DT, picture)))
                answer = json.loads(await said(one))
                (_, pose), = people.push(CLIP[i][None] if i else None, (i or 3) * DT)
                np.testing.assert_allclose(answer["people"][0]["joints_m"], pose.joints_m, atol=1e-6)
            small = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
            for message, text in ((m.picture_bytes(m.Picture(5, 9.0, b"none")), "of 4 bytes cannot be read"),
                                  (m.picture_bytes(m.Picture(5, 9.0, b"")), "of 0 bytes cannot be read"),
                                  (m.picture_bytes(m.Picture(5, 9.0, small)), "4 x 4 px; image_size was 1920 x 1080"),
                                  (frame_text(5), "for pictures; keypoints came")):
                await one.send(message)
                refusal = json.loads(await said(one))
                assert text in refusal["text"] and refusal["number"] == 5
        async with client(address) as (one, _):
            await one.send(m.picture_bytes(m.Picture(5, 9.0, picture)))
            assert "a picture came" in json.loads(await said(one))["text"]
    assert StandIn.closed == 1


@asynchronous
async def test_a_camera_of_the_server_s_own_goes_through_the_detector():
    class Opened(StandIn):
        __enter__, __exit__ = (lambda self: self), (lambda self, *_: self.close())

    def pictures(source):
        assert source == "rtsp://door"
        yield from ((i * DT, np.full((SIZE[1], SIZE[0], 3), i, np.uint8)) for i in range(1, 5))

    StandIn.closed = 0
    async with served(waiting=8) as (address, service), connect(f"ws://{address}/ws") as watcher:
        await watcher.send('{"type": "watch"}')
        while not service.outboxes:
            await asyncio.sleep(0.01)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cameras, "camera_frames", pictures)
            await cameras.look(service, "rtsp://door", Opened)
        messages = [json.loads(await said(watcher)) for _ in range(2)]
        assert messages[0]["name"] == "rtsp://door" and messages[0]["layout"] == "coco17"
        while service.opens:
            await asyncio.sleep(0.01)
    assert StandIn.closed == 1 and service.past.lifted + service.past.dropped <= 4


def test_an_outbox_keeps_the_newest_answers_and_says_other_things_first():
    async def run():
        outbox = Outbox("json", 2)
        for number in range(4):
            outbox.answer(m.Answer(1, number, 0.0, 0.0, 0, []))
        outbox.note("a note")
        assert outbox.dropped == 2 and await outbox.next() == "a note"
        assert [json.loads(await outbox.next())["number"] for _ in range(2)] == [2, 3]
    asyncio.run(run())


def command(*arguments, **options):
    return subprocess.Popen([sys.executable, "-m", "edgepose", "serve", *arguments], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **options)


def test_the_command_serves_the_shipped_clips_until_it_is_stopped():
    process = command("--clip", "balance_cam1", "balance_cam2", "--port", "0", "--engine", "martinez-s")
    try:
        address = process.stdout.readline().split()[2].removeprefix("http://").rstrip("/")

        async def watch():
            async with connect(f"ws://{address}/ws") as watcher:
                await watcher.send('{"type": "watch"}')
                assert json.loads(await said(watcher))["name"] == "balance_cam1, balance_cam2"
                return [json.loads(await said(watcher)) for _ in range(10)]

        answers = asyncio.run(watch())
        assert b"<title>edgepose</title>" in get(address).read()
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=ENOUGH_S) == 0 and process.stderr.read() == ""
    assert all([person["id"] for person in answer["people"]] == [0, 1] for answer in answers)
    heads = np.array([answer["people"][0]["joints_m"][10] for answer in answers])
    assert np.ptp(heads, axis=0).max() > 0.005  # they move


def test_another_address_than_this_machine_s_gets_a_token():
    process = command("--host", "0.0.0.0", "--port", "0", "--engine", "martinez-s")
    try:
        address = process.stdout.readline().split()[2].replace("0.0.0.0", "127.0.0.1").removeprefix("http://")
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(address.partition("?")[0].rstrip("/"))
        assert refused.value.code == 401 and urllib.request.urlopen(f"http://{address}", timeout=ENOUGH_S).status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=ENOUGH_S) == 0


def test_json_lines_go_in_and_poses_come_out():
    lines = [json.dumps({**OPEN, "delay_frames": 0}), *map(frame_text, range(3)), "garbage", "", frame_text(3)]
    process = command("--lines", "--engine", "martinez-s", stdin=subprocess.PIPE)
    output, errors = process.communicate("\n".join(lines) + "\n", timeout=ENOUGH_S)
    assert process.returncode == 0 and errors == ""
    opened, *answers = map(json.loads, output.splitlines())
    assert opened["type"] == "opened"
    assert [answer["type"] for answer in answers] == ["poses", "poses", "poses", "error", "poses"]
    people = edgepose.People(edgepose.load("martinez-s"), "coco17", SIZE)
    for i, answer in enumerate(answer for answer in answers if answer["type"] == "poses"):
        (_, pose), = people.push(CLIP[i][None], i * DT)
        np.testing.assert_allclose(answer["people"][0]["joints_m"], pose.joints_m, atol=1e-6)


def test_json_lines_end_with_the_poses_that_waited():
    lines = [json.dumps({**OPEN, "delay_frames": 3, "rate_hz": None}), *map(frame_text, range(5))]
    process = command("--lines", "--engine", "strided27-s", stdin=subprocess.PIPE)
    output, _ = process.communicate("\n".join(lines), timeout=ENOUGH_S)
    poses = [person for line in output.splitlines()[1:] for person in json.loads(line)["people"]]
    assert [round(pose["timestamp_s"] / DT) for pose in poses] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("arguments, lines, error", [
    (["--lines"], "", "the first line opens no feed"),
    (["--lines"], '{"type": "watch"}', "the first line opens no feed"),
    (["--lines", "--most-bytes", "1024"], "x" * 2000, "a line has more than 1024 bytes"),
    (["--lines", "--clip", "balance_cam1"], "", "--lines takes its frames from stdin"),
    (["--most-people", "0"], "", "--most-people is 0; wanted a whole number"),
    (["--token", "short"], "", "--token has 5"),
    (["--port", "70000"], "", "--port is 70000; wanted a whole number from 0 to 65535"),
    (["--camera", "0"], "", "--camera wants a --detector"), (["--clip", "no_such"], "", "no clip 'no_such'"),
])
def test_a_command_that_cannot_run_says_why(arguments, lines, error):
    process = command(*arguments, stdin=subprocess.PIPE)
    output, errors = process.communicate(lines, timeout=ENOUGH_S)
    assert process.returncode == 1 and error in errors and errors.count("\n") == 1


def test_without_its_libraries_the_command_says_what_to_install(monkeypatch, capsys):
    from edgepose.cli import main

    monkeypatch.setitem(sys.modules, "websockets", None)
    assert main(["serve", "--port", "0"]) == 1
    assert "pip install 'edgepose[serve]'" in capsys.readouterr().err


def test_an_address_that_is_taken_is_an_error():
    async def taken():
        async with served() as (address, _):
            return await asyncio.to_thread(subprocess.run, [sys.executable, "-m", "edgepose", "serve", "--port",
                                                            address.split(":")[1]], capture_output=True, text=True)
    process = asyncio.run(taken())
    assert process.returncode == 1 and os.strerror(98).lower() in process.stderr
