// The panel: what is connected, and the rate, latency and drops of each feed.
const SPAN_MS = 3000;  // over which rates and latencies are taken

// What came of one feed in the last SPAN_MS.
export class Figures {
  constructor() { this.answers = []; }

  add(now, poses) {
    this.answers.push({now, latency_ms: poses.latency_ms});
    while (this.answers.length && this.answers[0].now < now - SPAN_MS) this.answers.shift();
    this.people = poses.ids.length, this.dropped = poses.dropped;
  }

  // {people, rate_hz, median_ms, p99_ms, dropped}
  at(now) {
    const recent = this.answers.filter(answer => answer.now >= now - SPAN_MS);
    const sorted = recent.map(answer => answer.latency_ms).sort((a, b) => a - b);
    const quantile = share => sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] : 0;
    const span = recent.length > 1 ? recent[recent.length - 1].now - recent[0].now : 0;
    return {people: recent.length ? this.people : 0, rate_hz: span ? 1000 * (recent.length - 1) / span : 0,
            median_ms: quantile(0.5), p99_ms: quantile(0.99), dropped: this.dropped || 0};
  }
}

const HEADINGS = ['feed', 'people', 'Hz', 'median ms', 'p99 ms', 'dropped'];

export function showFeeds(table, rows) {
  const row = (tag, cells) => {
    const line = document.createElement('tr');
    for (const cell of cells) line.appendChild(document.createElement(tag)).textContent = cell;
    return line;
  };
  table.replaceChildren(row('th', HEADINGS), ...rows.map(({name, figures}) => row('td', [
    name, figures.people, figures.rate_hz.toFixed(1), figures.median_ms.toFixed(1), figures.p99_ms.toFixed(1),
    figures.dropped])));
}

export function showState(element, text, isBroken) {
  element.textContent = text;
  element.className = isBroken ? 'broken' : '';
}
