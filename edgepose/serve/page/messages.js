// The binary form of poses, as docs/serve.md describes it.
const POSES = 17, VERSION = 1, HEAD_BYTES = 32;

// {feed, number, dropped, timestamp_s, latency_ms, joints, ids, joints_m, root_m, is_seen} of a message; ids: numbers.
export function readPoses(buffer) {
  const head = new DataView(buffer);
  if (head.getUint8(0) !== POSES || head.getUint8(1) !== VERSION) throw new Error('unknown message');
  const people = head.getUint16(28, true), joints = head.getUint16(30, true);
  let at = HEAD_BYTES;
  const numbers = (count, bytes, read) => {
    const all = Array.from({length: count}, (_, i) => read(at + bytes * i));
    at += bytes * count;
    return all;
  };
  const floats = count => numbers(count, 4, i => head.getFloat32(i, true));
  return {
    feed: head.getUint32(4, true), number: head.getUint32(8, true), dropped: head.getUint32(12, true),
    timestamp_s: head.getFloat64(16, true), latency_ms: head.getFloat32(24, true), joints,
    ids: numbers(people, 8, i => Number(head.getBigInt64(i, true))),
    times_s: numbers(people, 8, i => head.getFloat64(i, true)),
    predicted_s: floats(people), root_m: floats(3 * people), joints_m: floats(3 * people * joints),
    confidence: floats(people * joints), is_seen: numbers(people * joints, 1, i => head.getUint8(i)),
  };
}
