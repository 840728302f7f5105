// What the tests of the client put in the place of the world: a clock that is moved by hand, a
// server that counts as sundown does (docs/protocol.md), sockets between the two whose every step
// a test decides, and a storage that can be full.

import './custom_event.mjs';

/** What the server speaks: all tests are run with both, since they see the same. */
export const SUBPROTOCOL = process.env.SUBPROTOCOL ?? 'sundown.v2';

/** Timers fire in their order when a test moves the time; chance is a number that it sets. */
export class FakeClock {
  time = 1_000_000;
  chance = 0.5;
  #timers = new Map();
  #last = 0;

  now() {
    return this.time;
  }

  random() {
    return this.chance;
  }

  setTimeout(run, ms) {
    this.#last += 1;
    this.#timers.set(this.#last, { at: this.time + ms, run });
    return this.#last;
  }

  clearTimeout(timer) {
    this.#timers.delete(timer);
  }

  get timers() {
    return this.#timers.size;
  }

  async advance(ms) {
    const end = this.time + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= end);
      if (due.length === 0) break;
      due.sort(([a, { at: atA }], [b, { at: atB }]) => atA - atB || a - b);
      const [id, { at, run }] = due[0];
      this.#timers.delete(id);
      this.time = at;
      run();
      await settled();
    }
    this.time = end;
  }
}

/** All microtasks are done. */
export function settled() {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A session store and the nodes before it, as one: it counts, replies, and fences. */
export class FakeServer {
  sessions = new Map(); // id → {count, owner, messages, incarnation, sent, pushes}
  sockets = [];
  #incarnations = 0;
  /** Whether upgrades are granted and greeted by themselves. */
  accepts = true;
  greets = true;
  /** Whether messages are counted, and replied to, as they come. */
  counts = true;
  replies = true;

  /** The class that the client is given. */
  get WebSocket() {
    const server = this;
    return class {
      constructor(url, protocols) {
        return new FakeSocket(server, url, protocols);
      }
    };
  }

  get last() {
    return this.sockets.at(-1);
  }

  session(id) {
    if (!this.sessions.has(id)) {
      const incarnation = (this.#incarnations += 1);
      const confirm = function confirm(upTo) {
        if (upTo <= this.sent) this.pushes = this.pushes.filter(({ number }) => number > upTo);
      };
      const pushed = { incarnation, sent: 0, pushes: [], confirm };
      this.sessions.set(id, { count: 0, messages: [], isNew: true, ...pushed });
    }
    return this.sessions.get(id);
  }

  /** Kept until it is confirmed, and delivered if the client is there. */
  push(id, data) {
    const session = this.session(id);
    session.sent += 1;
    session.pushes.push({ number: session.sent, data });
    session.owner?.deliver(session.sent, data);
  }

  /** What was counted, all sessions together. */
  get messages() {
    return [...this.sessions.values()].flatMap(({ messages }) => messages);
  }
}

export class FakeSocket {
  readyState = 0;
  /** The application's messages, and what else sundown.v2 has: confirmations, and the answer. */
  sent = [];
  controls = [];
  closedWith;
  isFenced = false;
  #waiting = []; // arrived at the client's kernel, and not yet counted by the server

  constructor(server, url, protocols) {
    Object.assign(this, { server, url, protocols, protocol: SUBPROTOCOL });
    this.query = new URL(url).searchParams;
    this.id = this.query.get('session');
    server.sockets.push(this);
    setImmediate(() => server.accepts && this.readyState === 0 && this.accept());
  }

  accept() {
    this.readyState = 1;
    this.onopen?.({});
    if (this.server.greets) this.greet();
  }

  /** The session is claimed: the hello, and 4001 for who had it. */
  greet() {
    const session = this.server.session(this.id);
    const { owner } = session;
    session.owner = this;
    if (owner && owner !== this) {
      owner.isFenced = true;
      owner.end(4001, 'session taken over');
    }
    const resumed = !session.isNew;
    session.isNew = false;
    const { count, incarnation, sent } = session;
    const received = Number(this.query.get('received'));
    if (Number(this.query.get('incarnation')) === incarnation) session.confirm(received);
    this.say({ session: this.id, count, resumed, ...(isV2 && { incarnation, sent }) });
    for (const { number, data } of session.pushes) this.deliver(number, data);
  }

  /** In the words of sundown.v1, whatever it speaks. */
  say(message) {
    this.hear(isV2 ? asV2(message) : JSON.stringify(message));
  }

  /** As it comes. */
  hear(data) {
    if (this.readyState === 1) this.onmessage?.({ data });
  }

  deliver(number, data) {
    if (!isV2) this.hear(data);
    else if (typeof data === 'string') this.hear(`m${number} ${data}`);
    else this.hear(bytes(`m${number} `, data).buffer);
  }

  send(message) {
    if (this.readyState !== 1) return;
    const kind = isV2 ? String.fromCharCode(bytes(message)[0]) : undefined;
    if (isV2 && this.controls.includes('q') && kind !== 'a') throw new Error('a message after q');
    if (kind === 'a') this.server.session(this.id).confirm(Number(message.slice(1)));
    if (kind === 'a' || kind === 'q') return void this.controls.push(message);
    if (isV2 && kind !== 'm') throw new Error(`no message of sundown.v2: ${message}`);
    const data = isV2 ? message.slice(1) : message;
    this.sent.push(data);
    this.#waiting.push(data);
    if (this.server.counts) this.count();
  }

  /** Counts what has been sent, or the first so many of it. */
  count(many = Infinity) {
    const session = this.server.session(this.id);
    for (const data of this.#waiting.splice(0, many)) {
      if (this.isFenced) continue;
      session.count += 1;
      session.messages.push(data);
      const { count } = session;
      if (this.server.replies) setImmediate(() => this.say({ count }));
    }
  }

  /** The connection ends, as the client's side sees it. */
  end(code, reason = '', wasClean = code !== 1006) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.({ code, reason, wasClean });
  }

  close(code, reason) {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999)) {
      throw new DOMException('this code may not be sent', 'InvalidAccessError');
    }
    this.closedWith ??= { code, reason };
    if (this.readyState < 2) this.readyState = 2;
  }
}

const isV2 = SUBPROTOCOL === 'sundown.v2';

function asV2(message) {
  const { count, ts, bye, shutdown, ...rest } = message;
  if (message.session !== undefined) return `h${JSON.stringify(message)}`;
  if (shutdown) return `n${JSON.stringify(rest)}`;
  if (bye) return `b${JSON.stringify({ ...rest, sent: 0 })}`;
  if (count !== undefined) return `c${count}`;
  if (ts !== undefined) return `k${ts}`;
  return `o${JSON.stringify(message)}`;
}

/** These parts, texts or bytes, as one. */
function bytes(...parts) {
  return new Uint8Array(Buffer.concat(parts.map((part) => Buffer.from(part))));
}

/** A Map that throws when it is full, or broken. */
export class FakeStorage {
  map = new Map();
  room = Infinity;
  isBroken = false;

  getItem(key) {
    if (this.isBroken) throw new DOMException('no storage', 'SecurityError');
    return this.map.get(key) ?? null;
  }

  setItem(key, value) {
    if (this.isBroken) throw new DOMException('no storage', 'SecurityError');
    const used = [...this.map].reduce(
      (sum, [k, v]) => sum + (k === key ? 0 : k.length + v.length),
      0,
    );
    if (used + key.length + value.length > this.room) {
      throw new DOMException('full', 'QuotaExceededError');
    }
    this.map.set(key, String(value));
  }

  removeItem(key) {
    this.map.delete(key);
  }

  /** What a tab that is duplicated begins with. */
  copy() {
    const copy = new FakeStorage();
    copy.map = new Map(this.map);
    return copy;
  }
}

/** The page: as many events as the client listens to. */
export class FakePage extends EventTarget {
  document = Object.assign(new EventTarget(), { visibilityState: 'visible' });

  tell(type, init = {}) {
    this.dispatchEvent(Object.assign(new Event(type), init));
  }

  show(visibilityState) {
    this.document.visibilityState = visibilityState;
    this.document.dispatchEvent(new Event('visibilitychange'));
  }
}
