// The page: a client to look at, and what it saw of the last shutdown. It shows what sundown.js
// says and decides nothing of its own. All is built by DOM calls, so that the strictest
// Content-Security-Policy holds; element ids are stable, since tests find their way by them.

import { Sundown } from './sundown.js';

const LOG_MAX = 100;
const DRAWN_PER_SECOND = 10;
const LAST_REPLY_MS = 3000;

const byId = (id) => document.getElementById(id);
const params = new URLSearchParams(location.search);

/** `?session=ann` for a session of one's own choice, `?store=local` or `none` for another storage. */
const client = new Sundown(new URL(`.${document.documentElement.dataset.path}`, document.baseURI), {
  session: params.get('session') ?? undefined,
  storage: storageOf(params.get('store')),
});

function storageOf(name) {
  try {
    return name === 'none' ? undefined : name === 'local' ? localStorage : sessionStorage;
  } catch {
    return undefined; // the browser gives none: then the outbox ends with the page
  }
}

/* ---- the connection ---- */

const STATES = {
  starting: 'starting',
  connecting: 'connecting',
  open: 'connected',
  draining: 'the server is shutting down',
  waiting: 'waiting to reconnect',
  held: 'connected, and waiting for your decision',
  taken: 'another tab has the session',
  failed: 'given up',
  closed: 'disconnected',
};

let refused = 0;
let latency;

/** Numbers change with each message: they are drawn a few times a second. */
const draw = throttled(() => {
  byId('count').textContent = client.count;
  byId('outbox').textContent = client.pending;
  byId('refused').textContent = refused;
  byId('latency').textContent = latency === undefined ? '–' : milliseconds(latency);
});

client.addEventListener('state', ({ detail }) => {
  const { state, ms, reason } = detail;
  const more = ms === undefined ? reason : `in ${milliseconds(ms)}`;
  byId('state').textContent = STATES[state] + (more ? `: ${more}` : '');
  byId('state').dataset.state = byId('dot').dataset.state = state;
  byId('session').textContent = client.session ?? '–';
  const isStopped = ['taken', 'failed', 'closed'].includes(state);
  byId('open').disabled = !isStopped && state !== 'waiting';
  byId('close').disabled = state === 'closed';
  if (state === 'taken') {
    alertWith('Another tab, or another device, has taken this session over. This one has stopped, ' +
      'so that the two do not take it from each other for ever.', 'take-back');
  } else if (state === 'failed') {
    alertWith(`The connection was given up, since trying again would fail again: ${reason}.`);
  } else if (state !== 'held' && state !== 'waiting' && state !== 'connecting') {
    byId('alert').hidden = true;
  }
  draw();
});

const MISMATCHES = {
  expired: 'The server does not know this session any more: it has expired, or the store was lost.',
  behind: 'The server has counted less than it had acknowledged: its store has gone back in time.',
  ahead: 'The server has counted more than was sent from here: someone else uses this session.',
};

client.addEventListener('mismatch', ({ detail: { reason, doubtful, isHeld } }) => {
  if (!isHeld) return alertWith(MISMATCHES[reason]);
  const many = doubtful === 1 ? 'One message was' : `${doubtful} messages were`;
  const text = `${MISMATCHES[reason]} ${many} on the way, and may have been counted or not.`;
  alertWith(text, 'resend', 'discard');
});

client.addEventListener('storage', ({ detail: { error } }) => {
  alertWith(`The outbox cannot be kept over a reload: ${error.message}.`);
});

function alertWith(text, ...buttons) {
  byId('alert-text').textContent = text;
  for (const id of ['take-back', 'resend', 'discard']) byId(id).hidden = !buttons.includes(id);
  byId('alert').hidden = false;
}

byId('open').addEventListener('click', () => client.open());
byId('close').addEventListener('click', () => client.close());
byId('take-back').addEventListener('click', () => client.open());
for (const how of ['resend', 'discard']) {
  byId(how).addEventListener('click', () => {
    byId('alert').hidden = true;
    client.recover(how);
  });
}

/* ---- sending ---- */

function send(text) {
  const sentAt = performance.now();
  client.send(text).then(
    () => (latency = performance.now() - sentAt),
    () => (refused += 1),
  ).then(draw);
  draw();
}

byId('send-form').addEventListener('submit', (event) => {
  event.preventDefault();
  send(byId('message').value);
});

let sending;
byId('rate-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const isOn = sending !== undefined;
  clearInterval(sending);
  sending = isOn ? undefined : setInterval(() => send(byId('message').value), 1000 / rate());
  byId('rate-toggle').textContent = isOn ? 'Keep sending' : 'Stop sending';
});

function rate() {
  return Math.min(200, Math.max(1, byId('rate').valueAsNumber || 1));
}

/* ---- the last shutdown ---- */

/** What happened, in its order, each with its time; `undefined` before the first. */
let timeline;
let lastReply;
let isUp = false;

function mark(event, what) {
  timeline.push({ at: event.timeStamp, what });
  drawTimeline();
}

client.addEventListener('count', (event) => {
  lastReply = event;
  if (timeline?.isResumed) {
    timeline.isResumed = false;
    mark(event, `first reply: count ${event.detail.count}`);
  }
  draw();
});

/** Only afterwards is it known which was the last. One from long ago is no part of the story. */
function markLastReply({ timeStamp }) {
  if (!lastReply || timeStamp - lastReply.timeStamp > LAST_REPLY_MS) return;
  timeline.push({ at: lastReply.timeStamp, what: `last reply: count ${lastReply.detail.count}` });
  timeline.sort((a, b) => a.at - b.at);
  lastReply = undefined;
}

client.addEventListener('notice', (event) => {
  timeline = [];
  // The server sends the notice as soon as it has the signal; it says no time of its own.
  mark(event, `SIGTERM, notice: ${milliseconds(event.detail.drainMs)} to drain`);
});

client.addEventListener('goodbye', (event) => {
  if (!isGoing()) timeline = [];
  markLastReply(event);
  mark(event, `goodbye: total ${event.detail.total}`);
});

client.addEventListener('close', (event) => {
  const { code, reason } = event.detail;
  if (!isUp || code === 4001) {
    if (isGoing()) timeline.attempts += 1; // one that has failed is part of the same story
    return;
  }
  isUp = false;
  if (!isGoing()) timeline = [];
  if (timeline.length < 2) markLastReply(event); // there was no goodbye
  timeline.closedAt = event.timeStamp;
  timeline.attempts = 0;
  const why = reason ? `: ${reason.split(';')[0]}` : '';
  mark(event, code === 1006 ? `connection lost${why}` : `Close ${code}${why}`);
});

client.addEventListener('state', (event) => {
  if (event.detail.state !== 'connecting' || !isGoing()) return;
  const previous = timeline.at(-1);
  if (previous.isAttempt) timeline.pop();
  const times = timeline.attempts > 0 ? ` (${timeline.attempts + 1})` : '';
  timeline.push({ at: event.timeStamp, what: `reconnect${times}`, isAttempt: true });
  drawTimeline();
});

client.addEventListener('hello', (event) => {
  isUp = true;
  if (!isGoing()) return;
  timeline.isResumed = true;
  timeline.backAt = event.timeStamp;
  mark(event, `${event.detail.resumed ? 'resumed' : 'begun anew'}: count ${event.detail.count}`);
});

/** Whether the story is one that has no end yet. */
function isGoing() {
  return timeline !== undefined && timeline.backAt === undefined;
}

function drawTimeline() {
  const from = timeline[0].at;
  const list = timeline.map(({ at, what }) => {
    const item = element('li', {}, what);
    item.append(element('span', { class: 'at' }, `+${milliseconds(at - from)}`));
    return item;
  });
  byId('timeline-list').replaceChildren(...list);
  const { closedAt, backAt } = timeline;
  byId('timeline-summary').textContent = backAt !== undefined
    ? `Back after ${milliseconds(backAt - closedAt)}.`
    : closedAt !== undefined ? 'Away.' : 'The server is shutting down.';
  byId('timeline').replaceChildren(drawing(byId('timeline').clientWidth || 320));
}

const ROW = 24;

/** A row for each mark, at its time from the left: the same as the list, to be seen at a glance. */
function drawing(width) {
  const from = timeline[0].at;
  const span = Math.max(1, timeline.at(-1).at - from);
  const [left, right] = [14, 72];
  const x = (at) => left + ((at - from) / span) * (width - left - right);
  const height = timeline.length * ROW + 4;
  const svg = element('svg:svg', { viewBox: `0 0 ${width} ${height}`, height });
  const band = (name, start, end) => svg.append(element('svg:rect', {
    class: name, x: x(start), y: 0, width: Math.max(0, x(end) - x(start)), height,
  }));
  const { closedAt, backAt } = timeline;
  if (closedAt === undefined || closedAt > from) band('served', from, closedAt ?? from + span);
  if (closedAt !== undefined) band('away', closedAt, backAt ?? timeline.at(-1).at);
  timeline.forEach(({ at, what }, row) => {
    const y = row * ROW + ROW / 2;
    const before = timeline[Math.max(0, row - 1)].at;
    svg.append(
      element('svg:line', { class: 'grid', x1: left, x2: width - right, y1: y, y2: y }),
      element('svg:line', { class: 'step', x1: x(before), x2: x(at), y1: y, y2: y }),
      element('svg:circle', { cx: x(at), cy: y, r: 5 }),
      element('svg:text', { class: 'at', x: width, y: y + 4, 'text-anchor': 'end' },
        `+${milliseconds(at - from)}`),
    );
    // Beside its dot, on the side where there is more room.
    const isLeft = x(at) < (width - right) / 2;
    const [beside, anchor] = isLeft ? [x(at) + 9, 'start'] : [x(at) - 9, 'end'];
    const place = { x: beside, y: y + 4, 'text-anchor': anchor };
    svg.append(element('svg:text', place, what.split(':')[0]));
  });
  return svg;
}

addEventListener('resize', throttled(() => timeline && drawTimeline()));

/* ---- the log ---- */

const SHOWN = {
  state: ({ state }) => STATES[state],
  hello: ({ count, resumed }) => `hello: count ${count}, ${resumed ? 'resumed' : 'new'}`,
  notice: ({ drainMs, reconnectMs }) =>
    `notice: ${drainMs} ms to drain, come back after ${reconnectMs} ms`,
  goodbye: ({ total }) => `goodbye: total ${total}`,
  close: ({ code, reason }) => `Close ${code} ${reason}`,
  mismatch: ({ reason, count, acknowledged }) =>
    `mismatch (${reason}): count ${count}, acknowledged ${acknowledged}`,
  storage: ({ error }) => `storage: ${error.message}`,
  offline: () => 'the network is away',
  online: () => 'the network is back',
  broadcast: ({ data }) => `to everybody: ${JSON.stringify(data).slice(0, 200)}`,
  message: ({ data, number }) =>
    `${number ? `push ${number}` : 'message'}: ${String(data).slice(0, 200)}`,
  error: ({ number, reason }) => `message ${number} is not sent again: ${reason}`,
};

for (const [type, text] of Object.entries(SHOWN)) {
  client.addEventListener(type, ({ detail }) => {
    const item = element('li');
    const now = new Date();
    const clock = now.toLocaleTimeString('en-GB') + `.${String(now.getMilliseconds()).padStart(3, '0')}`;
    item.append(element('span', { class: 'at' }, clock), element('span', {}, text(detail)));
    item.dataset.type = type;
    byId('log').prepend(item);
    while (byId('log').children.length > LOG_MAX) byId('log').lastChild.remove();
  });
}

/* ---- small things ---- */

function element(name, attributes = {}, text = '') {
  const [, isSvg, local] = /^(svg:)?(\w+)$/.exec(name);
  const namespace = isSvg ? 'http://www.w3.org/2000/svg' : 'http://www.w3.org/1999/xhtml';
  const made = document.createElementNS(namespace, local);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function milliseconds(ms) {
  return `${Math.round(ms)} ms`;
}

/** Soon, and not more often than a few times a second. */
function throttled(run) {
  let timer;
  return () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      run();
    }, 1000 / DRAWN_PER_SECOND);
  };
}
