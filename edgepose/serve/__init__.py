"""edgepose serve: keypoints or pictures in and poses out, over WebSocket and as JSON lines, and a page that shows them.
docs/serve.md describes every message."""
