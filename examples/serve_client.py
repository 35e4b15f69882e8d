"""Send keypoints to a running `edgepose serve` and print the poses that come back: here of a clip that ships."""

import json
import sys

from websockets.sync.client import connect

from edgepose.clip import load_clip

clip = load_clip("balance_cam1")
with connect(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8350/ws") as server:
    server.send(json.dumps({"type": "open", "layout": "coco17", "image_size": clip.image_size, "name": "example"}))
    head = json.loads(server.recv())["joints"].index("head")
    for i, keypoints_px in enumerate(clip.keypoints_px):
        server.send(json.dumps({"type": "frame", "timestamp_s": clip.time_of(i), "people": [keypoints_px.tolist()]}))
        for person in json.loads(server.recv()).get("people", []):
            print(f"person {person['id']}: head {-person['joints_m'][head][1]:.2f} m above the pelvis")
