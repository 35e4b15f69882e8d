// The page of `edgepose serve`: watches all feeds and draws the newest poses of each.
import {readPoses} from './messages.js';
import {Figures, showFeeds, showState} from './panel.js';
import {Stage} from './scene.js';

const GONE_MS = 1000;   // a feed without newer poses is no longer drawn
const RETRY_MS = 1000;
const PANEL_MS = 250;

const state = document.getElementById('state'), table = document.getElementById('feeds');
const feeds = new Map();  // number -> {name, names, parents, poses, came, figures}
let frames = [], error = '', shown = [];

function connect() {
  const address = new URL('ws' + location.search, location.href);
  address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  const socket = new WebSocket(address);
  socket.binaryType = 'arraybuffer';
  socket.onopen = () => {
    error = '';
    socket.send(JSON.stringify({type: 'watch', form: 'binary'}));
  };
  socket.onmessage = ({data}) => typeof data === 'string' ? note(JSON.parse(data)) : take(readPoses(data));
  socket.onclose = () => {
    feeds.clear();
    error = error || 'not connected; trying again';
    setTimeout(connect, RETRY_MS);
  };
}

function note(message) {
  if (message.type === 'opened')
    feeds.set(message.feed, {name: message.name || `feed ${message.feed}`, names: message.joints,
                             parents: message.parents, figures: new Figures(), engine: message.engine});
  if (message.type === 'ended') feeds.delete(message.feed);
  if (message.type === 'error') error = message.text;
}

function take(poses) {
  const feed = feeds.get(poses.feed), now = performance.now();
  if (!feed) return;
  feed.came = now, feed.figures.add(now, poses);
  if (!poses.joints || poses.joints === feed.names.length) feed.poses = poses;
}

function draw(stage) {
  const now = performance.now();
  frames = [...frames.filter(at => at > now - 1000), now];
  for (const feed of feeds.values()) if (feed.came < now - GONE_MS) feed.poses = null;
  shown = stage.draw([...feeds.values()]);
  requestAnimationFrame(() => draw(stage));
}

function refresh() {
  const now = performance.now(), rows = [...feeds.values()].map(({name, figures}) => ({name, figures: figures.at(now)}));
  showFeeds(table, rows);
  const engines = [...new Set([...feeds.values()].map(feed => feed.engine))].join(', ');
  showState(state, error || (feeds.size ? `${engines} · drawn at ${frames.length} Hz` : 'no feed is open'), !!error);
}

// What a test looks at.
window.edgepose = {figures: () => shown, feeds: () => [...feeds.values()].map(feed => feed.figures.at(performance.now())),
                   drawn_hz: () => frames.length, camera: () => stage.camera.position.toArray()};

let stage;
try {
  stage = new Stage(document.getElementById('labels'));
  requestAnimationFrame(() => draw(stage));
} catch (problem) {
  error = `this browser cannot draw in three dimensions: ${problem.message}`;
}
connect();
setInterval(refresh, PANEL_MS);
