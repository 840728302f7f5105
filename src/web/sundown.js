// sundown.js: a client for a server that says goodbye properly (docs/client.md).
//
// It keeps each message until the server has counted it. Messages of a session are numbered by
// their order and carry no id, so all that it needs to know after a reconnect is the count in the
// hello: what is at or below it has arrived, and the rest goes again, once.
//
// No dependency; browsers, and Node from 20 on. It never sends before the hello, never sends the
// same number again without one in between, and never takes a session back by itself.

/** Why a message was not, or may not have been, counted. */
export class SundownError extends Error {
  /**
   * @param {string} code closed, discarded, failed, full, taken-over or too-big
   * @param {string} message for people
   * @param {{sent?: boolean, kept?: boolean}} fate sent: it has been on the wire, so it may have
   *   been counted; kept: it is in the storage, and the next client with it will send it
   */
  constructor(code, message, { sent = false, kept = false } = {}) {
    super(message);
    this.name = 'SundownError';
    this.code = code;
    this.sent = sent;
    this.kept = kept;
  }
}

/** Every option with its default; milliseconds and bytes. What they mean is in sundown.d.ts. */
const DEFAULTS = {
  session: undefined,
  storage: undefined,
  key: undefined,
  outboxMax: 1000,
  outboxBytesMax: 1 << 20,
  messageBytesMax: (1 << 20) - 1,
  historyMax: 64,
  connectTimeout: 10_000,
  silence: 75_000,
  backoffMin: 500,
  backoffMax: 30_000,
  holdAtNotice: true,
  onMismatch: 'hold',
  WebSocket: undefined,
  clock: undefined,
};

const CLOCK = {
  now: () => Date.now(),
  random: () => Math.random(),
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: (timer) => clearTimeout(timer),
};

const V2 = 'sundown.v2';
const SUBPROTOCOLS = [V2, 'sundown.v1'];
const OPEN = 1; // WebSocket.OPEN, which an implementation that was passed in need not have
/** The server does not decode: these are the characters that need no encoding (RFC 3986, 2.3). */
const SESSION = /^[A-Za-z0-9._~-]{1,128}$/;
const TAKEN_OVER = 4001;
/** The service has failed on a message; and how often it may, on the same one. */
const FAILED = 1011;
const FAILURES_MAX = 3;
/** So many pushes are confirmed at once, or all after so long. */
const CONFIRM_AT = 16;
const CONFIRM_MS = 1_000;
/** By its kind, what sundown.v2 says as sundown.v1 does. */
const AS_V1 = {
  h: (rest) => parsed(rest),
  c: (rest) => ({ count: Number(rest) }),
  n: (rest) => ({ shutdown: true, ...parsed(rest) }),
  b: (rest) => ({ bye: true, ...parsed(rest) }),
  k: (ts) => ({ ts }),
  o: (rest) => parsed(rest),
};
/** Ends that the same bytes would bring about again: RFC 6455, section 7.4.1. */
const FATAL = new Set([1002, 1003, 1007, 1009, 1010]);
/** A connection that lasted for so long was a good one: waits begin anew. */
const STABLE_MS = 5_000;
/** The longest wait that a server may ask for; sundown asks for 10 s at most. */
const ASKED_MAX_MS = 60_000;
/** How long a living tab has to say that it lives; asked only after a crash or in a copied tab. */
const ALIVE_MS = 100;
/** Events that the history has no room for. */
const FREQUENT = new Set(['count', 'drain', 'heartbeat', 'message']);
/** The states in which nothing happens until open() or recover(). */
const STOPPED = new Set(['closed', 'taken', 'failed']);

/** Says the state, and everything that the server says, by events: see sundown.d.ts. */
export class Sundown extends EventTarget {
  #options;
  #clock;
  #url;
  #session;
  #state = 'starting';
  #history = [];
  #outbox = new Outbox();
  #inbox = { incarnation: undefined, number: 0 }; // the last push that was received
  #journal;
  #link; // the connection, or the attempt at one
  #timer; // of the next attempt
  #retryAt;
  #asked = false; // the wait is one that the server has asked for
  #failures = 0;
  #offender; // the message that the service has failed on, and how often in a row
  #strayClaim = false; // an attempt ended before its hello, and may yet claim the session
  #hasClaimed = false; // the outbox is what the journal has
  #isDoubtful = false; // a mismatch waits for recover()
  #wasOffline = false;
  #listening; // AbortController of the page's events

  constructor(url, options = {}) {
    super();
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    const unknown = given.find(([name]) => !Object.hasOwn(DEFAULTS, name));
    if (unknown) throw new TypeError(`no such option: ${unknown[0]}`);
    this.#options = { ...DEFAULTS, ...Object.fromEntries(given) };
    this.#options.WebSocket ??= globalThis.WebSocket;
    this.#clock = this.#options.clock ?? CLOCK;
    const { session, storage, key, WebSocket } = this.#options;
    if (typeof WebSocket !== 'function') {
      throw new TypeError('there is no WebSocket here: pass one as options.WebSocket');
    }
    if (session !== undefined && !SESSION.test(session)) {
      throw new TypeError('session: 1 to 128 characters of A-Z a-z 0-9 . _ ~ -');
    }
    if (!['hold', 'resend', 'discard'].includes(this.#options.onMismatch)) {
      throw new TypeError('onMismatch: hold, resend or discard');
    }
    this.#url = endpoint(url);
    if (storage) {
      // A session that was chosen has a record of its own: its messages must not go to another.
      const name = (key ?? `sundown:${this.#url}`) + (session ? `:${session}` : '');
      const report = (error) => this.#emit('storage', { error });
      this.#journal = new Journal(storage, name, this.#inbox, report);
    }
    // Whoever made this has the chance to listen before the first event.
    queueMicrotask(() => this.#state === 'starting' && this.#begin());
  }

  get state() {
    return this.#state;
  }

  get session() {
    return this.#session;
  }

  /** The highest number that was acknowledged. */
  get count() {
    return this.#outbox.count;
  }

  /** The number of the last push that was received. */
  get received() {
    return this.#inbox.number;
  }

  /** Messages that are not acknowledged. */
  get pending() {
    return this.#outbox.entries.length;
  }

  get pendingBytes() {
    return this.#outbox.bytes;
  }

  /** While it waits: when the next attempt is due, in milliseconds of Date.now(). */
  get retryAt() {
    return this.#retryAt;
  }

  /** The last events, but for replies and timestamps. */
  get history() {
    return [...this.#history];
  }

  /** Resolves with the message's number when the server has counted it. */
  send(data) {
    let entry;
    const promise = new Promise((resolve, reject) => {
      entry = { resolve, reject };
    });
    // Who does not look at the promise is no offender: events tell the same.
    promise.catch(() => {});
    try {
      Object.assign(entry, copied(data));
      this.#admit(entry);
    } catch (error) {
      entry.reject(error);
      return promise;
    }
    this.#outbox.push(entry);
    // Before it goes on the wire: what is sent and not written down would be sent by nobody again.
    entry.isKept = this.#journal?.append(entry.data, this.#outbox);
    this.#flush();
    return promise;
  }

  /** Connects at once: again after closed, failed or taken, or instead of waiting. */
  open() {
    if (this.#state === 'waiting') {
      this.#connect();
    } else if (STOPPED.has(this.#state)) {
      this.#begin();
    }
  }

  /** Ends it. Promises are rejected; what is in the storage stays there for the next client. */
  close(code = 1000, reason = '') {
    if (this.#state === 'closed') return;
    // First of all, since a code that may not be sent throws.
    this.#link?.socket.close(code, reason);
    const kept = this.#journal?.isWhole() ?? false;
    this.#leave();
    this.#journal?.release(this.#outbox);
    this.#hasClaimed = false;
    for (const { entry, sent } of this.#outbox.clear()) {
      entry.reject(new SundownError('closed', 'the client was closed', { sent, kept }));
    }
    this.#setState('closed');
  }

  /**
   * Goes on after a mismatch, or after failed. `resend` sends everything again: what was counted
   * after all is then counted twice. `discard` gives up what was on the wire, `skip` the first of it.
   */
  recover(how) {
    const many = { resend: 0, skip: 1, discard: Infinity }[how];
    if (many === undefined) throw new TypeError('recover: resend, skip or discard');
    if (!this.#isDoubtful && this.#state !== 'failed') return;
    this.#forget(many);
    if (this.#state === 'held') {
      this.#resume();
    } else if (this.#state === 'failed') {
      this.#begin();
    }
  }

  /* ---- the beginning and the end ---- */

  async #begin() {
    this.#offender = undefined;
    this.#setState('connecting');
    this.#listen();
    if (this.#journal && !this.#hasClaimed) {
      const record = await this.#journal.claim();
      if (this.#state !== 'connecting' || this.#link) return;
      this.#hasClaimed = true;
      this.#session = record?.session;
      Object.assign(this.#inbox, { incarnation: undefined, number: 0 }, record?.inbox);
      if (record) this.#outbox.adopt(record);
    }
    if (!this.#session) {
      const { session } = this.#options;
      // Nobody else knows a session that was made here: it begins at 0, before any hello.
      this.#outbox.begin(session === undefined);
      this.#session = session ?? newSession();
    }
    this.#journal?.rewrite(this.#session, this.#outbox);
    this.#connect();
  }

  /** The page's own events: the network, whether it is looked at, and whether it goes away. */
  #listen() {
    const page = globalThis.window;
    if (!page?.addEventListener || this.#listening) return;
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    page.addEventListener('online', () => this.#online(), { signal });
    page.addEventListener('offline', () => this.#offline(), { signal });
    page.addEventListener('pagehide', () => this.#journal?.release(this.#outbox), { signal });
    page.addEventListener('pageshow', (event) => event.persisted && this.#thaw(), { signal });
    const looked = () => page.document?.visibilityState === 'visible' && this.#lookedAt();
    page.document?.addEventListener('visibilitychange', looked, { signal });
  }

  /** No connection, no timer, no listener. */
  #leave() {
    this.#drop();
    this.#clock.clearTimeout(this.#timer);
    this.#retryAt = undefined;
    this.#listening?.abort();
    this.#listening = undefined;
  }

  /** Another connection has the session: what was on the wire may be counted or not. */
  #takenOver() {
    this.#leave();
    // With our record the messages went, too: whoever took it sends them. Where only the session
    // was taken, what has never been on the wire is safe, and stays.
    const isOurs = this.#journal?.isOurs() ?? true;
    const gone = isOurs ? this.#outbox.dropSent() : this.#outbox.clear();
    if (isOurs) this.#journal?.drop(gone.length, this.#outbox);
    else this.#hasClaimed = false; // open() reads the record anew
    this.#outbox.isKnown = false; // someone else counts now
    const text = 'another client has taken the session over';
    for (const { entry, sent } of gone) {
      const kept = !isOurs && entry.isKept === true;
      entry.reject(new SundownError('taken-over', text, { sent, kept }));
    }
    this.#setState('taken', { rejected: gone.length });
  }

  #fail(reason, detail = {}) {
    this.#leave();
    this.#setState('failed', { reason, ...detail });
  }

  /* ---- one connection ---- */

  #connect() {
    this.#drop();
    this.#clock.clearTimeout(this.#timer);
    this.#retryAt = undefined;
    if (this.#journal && !this.#journal.isOurs()) return this.#takenOver();
    const query = this.#url.includes('?') ? '&' : '?';
    const { WebSocket, connectTimeout } = this.#options;
    const { incarnation, number } = this.#inbox;
    const received = number > 0 ? `&received=${number}&incarnation=${incarnation}` : '';
    const url = `${this.#url}${query}session=${this.#session}${received}`;
    let socket;
    try {
      socket = new WebSocket(url, SUBPROTOCOLS);
    } catch (error) {
      return this.#fail(`no WebSocket could be made: ${error.message}`, { error });
    }
    socket.binaryType = 'arraybuffer';
    const link = { socket, isOpen: false, unconfirmed: 0 };
    this.#link = link;
    // What a socket says that has been given up means nothing any more.
    const current = (handle) => (event) => this.#link === link && handle(event);
    socket.onopen = current(() => (link.isOpen = true));
    socket.onmessage = current((event) => this.#hear(link, event.data));
    socket.onclose = current((event) => this.#closed(link, event));
    socket.onerror = () => {}; // a close follows, and says more
    link.timer = this.#clock.setTimeout(
      current(() => this.#lose('no hello in time')),
      connectTimeout,
    );
    this.#setState('connecting');
  }

  /** Lets go of the socket without waiting for its end: on a dead network that takes minutes. */
  #drop() {
    const link = this.#link;
    if (!link) return;
    this.#unlink(link);
    // The fence of the server sees to it that nothing of this one counts after the next hello.
    this.#strayClaim ||= !isGreeted(link);
    link.socket.close();
  }

  #unlink(link) {
    this.#link = undefined;
    this.#clock.clearTimeout(link.timer);
    this.#clock.clearTimeout(link.confirmTimer);
  }

  /** It is dead, or as good as dead. */
  #lose(reason, atOnce = false) {
    const link = this.#link;
    this.#drop();
    this.#emit('close', { code: 1006, reason, wasClean: false });
    if (!STOPPED.has(this.#state)) this.#wait(link, atOnce ? 0 : undefined);
  }

  #closed(link, { code, reason = '', wasClean }) {
    this.#unlink(link);
    this.#strayClaim ||= link.isOpen && !isGreeted(link);
    this.#emit('close', { code, reason, wasClean });
    if (STOPPED.has(this.#state)) return;
    if (code === TAKEN_OVER) {
      // An attempt that we had given up may have claimed the session after us. That is forgiven
      // once; more often, and two tabs would take it from each other for ever.
      if (!this.#strayClaim || this.#journal?.isOurs() === false) return this.#takenOver();
      this.#strayClaim = false;
    } else if (FATAL.has(code) || code >= 3000) {
      return this.#fail(reason || `close code ${code}`, { code });
    } else if (code === FAILED && this.#hasOffended(link)) {
      const { number, data } = this.#offender;
      this.#fail(reason || `close code ${code}`, { code });
      return this.#emit('error', { number, data, reason });
    }
    const asked = Number(/retry-after-ms=(\d{1,9})/.exec(reason)?.[1] ?? NaN);
    this.#wait(link, Number.isNaN(asked) ? link.reconnectMs : asked);
  }

  /** Whether the service has failed on one message too often: the first that has no count. */
  #hasOffended(link) {
    const { count, entries, sent } = this.#outbox;
    if (!link.hasSent || sent === 0) return false;
    const number = count + 1;
    const times = this.#offender?.number === number ? this.#offender.times + 1 : 1;
    this.#offender = { number, times, data: entries[0].data };
    return times >= FAILURES_MAX;
  }

  /** Waits as the server asked, else for a random time below a ceiling that doubles. */
  #wait(link, asked) {
    const { backoffMin, backoffMax } = this.#options;
    const isFresh = asked !== undefined || this.#clock.now() - link.greetedAt >= STABLE_MS;
    if (isFresh) this.#failures = 0;
    const ceiling = Math.min(backoffMax, backoffMin * 2 ** this.#failures);
    const ms = Math.ceil(Math.min(asked ?? this.#clock.random() * ceiling, ASKED_MAX_MS));
    if (asked === undefined) this.#failures += 1;
    this.#asked = asked !== undefined;
    this.#retryAt = this.#clock.now() + ms;
    this.#timer = this.#clock.setTimeout(() => this.#connect(), ms);
    this.#setState('waiting', { ms, asked: this.#asked });
  }

  /* ---- what the server says ---- */

  #hear(link, data) {
    link.heardAt = this.#clock.now();
    if (!isV2(link)) return this.#told(link, typeof data === 'string' && parsed(data), data);
    const head = typeof data === 'string' ? data : asciiOf(data);
    const rest = data.slice(1);
    if (head[0] === 'r') {
      this.#emit('message', { data: rest });
    } else if (head[0] === 'm') {
      const space = head.indexOf(' ');
      this.#pushed(link, Number(head.slice(1, space)), data.slice(space + 1));
    } else if (head[0] in AS_V1) {
      this.#told(link, AS_V1[head[0]](rest)); // what else there is, is not for this client
    }
  }

  /** What the server says, in the words of sundown.v1. */
  #told(link, said, data) {
    if (isCount(said?.count) && typeof said.session === 'string' && !isGreeted(link)) {
      this.#greeted(link, said);
    } else if (isCount(said?.count) && said.session === undefined) {
      this.#counted(link, said.count);
    } else if (said?.shutdown === true) {
      this.#noticed(link, said);
    } else if (said?.bye === true && isCount(said.total)) {
      // Confirmed by the store, so it acknowledges. It is not the last word: the next hello is.
      const { total } = said;
      this.#arrived(this.#outbox.acknowledge(total), 'goodbye', { total });
    } else if (typeof said?.ts === 'string') {
      this.#emit('heartbeat', { ts: said.ts });
    } else if (said && Object.hasOwn(said, 'broadcast')) {
      this.#emit('broadcast', { data: said.broadcast });
    } else if (data !== undefined) {
      this.#emit('message', { data });
    }
  }

  #greeted(link, hello) {
    const { session } = hello;
    if (session !== this.#session) return this.#fail('the server answered for another session');
    link.hello = hello;
    link.greetedAt = link.heardAt;
    this.#clock.clearTimeout(link.timer);
    this.#wasOffline = false;
    this.#watch(link);
    const verdict = this.#outbox.compare(hello);
    const { number: received } = this.#inbox;
    const lost = this.#restartInbox(hello);
    this.#emit('hello', { ...hello });
    if (this.#link !== link) return;
    if (verdict || lost) {
      this.#mismatch(link, verdict, lost, received);
    } else {
      this.#resume();
    }
  }

  /** What a hello contradicts of the pushes, if it does: then their numbers begin anew. */
  #restartInbox({ incarnation, sent }) {
    const inbox = this.#inbox;
    const isSame = incarnation === inbox.incarnation;
    // sundown.v1 has neither.
    if (incarnation === undefined || (isSame && sent >= inbox.number)) return undefined;
    const reason = isSame ? 'behind' : 'expired';
    const lost = inbox.number > 0 ? reason : undefined;
    Object.assign(inbox, { incarnation, number: 0 });
    return lost;
  }

  /** Everything up to the hello's count has arrived, the rest has not. */
  #resume() {
    const link = this.#link;
    this.#isDoubtful = false;
    this.#arrived(this.#outbox.restart(link.hello));
    if (this.#link !== link) return;
    if (link.hasQuit) return this.#setState('draining');
    this.#setState('open');
    this.#flush();
  }

  /** The server's numbers contradict ours. A guess in silence would serve nobody. */
  #mismatch(link, verdict, lost, received) {
    const { onMismatch } = this.#options;
    const { count, sent } = link.hello;
    const reason = verdict ?? lost;
    const { sent: doubted, count: acknowledged } = this.#outbox;
    // If only the pushes are numbered anew, the count says what has arrived.
    const doubtful = verdict ? doubted : 0;
    const isHeld = doubtful > 0 && onMismatch === 'hold';
    this.#isDoubtful = isHeld;
    if (isHeld) this.#setState('held', { reason });
    const pushes = sent === undefined ? {} : { received, sent };
    this.#emit('mismatch', { reason, count, acknowledged, doubtful, isHeld, ...pushes });
    if (isHeld || this.#link !== link) return;
    if (verdict) this.#forget(onMismatch === 'discard' ? Infinity : 0);
    this.#resume();
  }

  /** Takes the next hello as it comes, without the first so many of what was on a wire. */
  #forget(many) {
    const given = this.#outbox.dropSent(many);
    this.#outbox.begin(false);
    this.#journal?.drop(given.length, this.#outbox);
    const text = 'it was on its way when the server lost count, and was given up';
    for (const { entry } of given) {
      entry.reject(new SundownError('discarded', text, { sent: true }));
    }
  }

  #counted(link, count) {
    if (!isGreeted(link)) return;
    if (count > this.#outbox.written) return this.#lose('the server counted more than was sent');
    this.#arrived(this.#outbox.acknowledge(count), 'count', { count });
  }

  /** These have been counted, as the server has just said by this. */
  #arrived(entries, type, detail) {
    this.#journal?.drop(entries.length, this.#outbox);
    let number = this.#outbox.count - entries.length;
    for (const entry of entries) entry.resolve((number += 1));
    if (type) this.#emit(type, detail);
    if (entries.length > 0 && this.pending === 0) this.#emit('drain', {});
    this.#quit();
  }

  #pushed(link, number, data) {
    if (!isGreeted(link) || !isCount(number)) return;
    if (this.#journal && !this.#journal.isOurs()) return this.#takenOver();
    if (number > this.#inbox.number) {
      this.#inbox.number = number;
      this.#emit('message', { data, number });
      if (this.#link !== link) return;
      // Before it is confirmed: then the server has it no more.
      this.#journal?.drop(0, this.#outbox);
    }
    link.unconfirmed += 1;
    if (link.unconfirmed >= CONFIRM_AT) this.#confirm(link);
    else link.confirmTimer ??= this.#clock.setTimeout(() => this.#confirm(link), CONFIRM_MS);
  }

  #confirm(link) {
    this.#clock.clearTimeout(link.confirmTimer);
    link.confirmTimer = undefined;
    if (link.unconfirmed === 0) return;
    link.unconfirmed = 0;
    link.socket.send(`a${this.#inbox.number}`);
  }

  #noticed(link, { drain_ms: drainMs, reconnect_ms: reconnectMs }) {
    link.reconnectMs = isCount(reconnectMs) ? reconnectMs : undefined;
    this.#emit('notice', { drainMs, reconnectMs });
    if (this.#link === link && this.#state === 'open') this.#setState('draining');
    link.isNoticed = true;
    this.#quit();
  }

  /** Answers the notice when nothing more goes out on this connection. */
  #quit() {
    const link = this.#link;
    if (!link?.isNoticed || link.hasQuit || !isGreeted(link) || !isV2(link)) return;
    if (!this.#options.holdAtNotice && this.#state !== 'held' && this.pending > 0) return;
    this.#confirm(link);
    link.hasQuit = true;
    link.socket.send('q');
  }

  /** Puts on the wire what has not been there since the hello. */
  #flush() {
    const link = this.#link;
    const isOpen =
      this.#state === 'open' || (this.#state === 'draining' && !this.#options.holdAtNotice);
    if (!isOpen || link.hasQuit || link.socket.readyState !== OPEN) return;
    if (!this.#outbox.hasNext()) return;
    if (this.#journal && !this.#journal.isOurs()) return this.#takenOver();
    link.hasSent = true;
    while (this.#outbox.hasNext()) {
      const { data } = this.#outbox.next();
      link.socket.send(isV2(link) ? asMessage(data) : data);
    }
  }

  #admit({ bytes }) {
    const { outboxMax, outboxBytesMax, messageBytesMax } = this.#options;
    if (STOPPED.has(this.#state)) {
      const code = this.#state === 'taken' ? 'taken-over' : this.#state;
      throw new SundownError(code, `the client is ${this.#state}: nothing is sent until open()`);
    }
    if (bytes > messageBytesMax) {
      throw new SundownError('too-big', `${bytes} bytes, and ${messageBytesMax} are the most`);
    }
    if (this.pending >= outboxMax || this.pendingBytes + bytes > outboxBytesMax) {
      const held = `${this.pending} messages of ${this.pendingBytes} bytes wait`;
      throw new SundownError('full', `the outbox is full: ${held} for the server`);
    }
  }

  /* ---- what the page and the network say ---- */

  /** The heartbeat's watchdog. One timer, which looks when something was heard last. */
  #watch(link) {
    const { silence } = this.#options;
    if (!silence) return;
    const left = link.heardAt + silence - this.#clock.now();
    if (left <= 0) return this.#lose('silence');
    link.timer = this.#clock.setTimeout(() => this.#link === link && this.#watch(link), left);
  }

  /** A hint, no more: with no network at all a server on this machine can still be reached. */
  #offline() {
    this.#wasOffline = true;
    this.#emit('offline', {});
  }

  #online() {
    this.#emit('online', {});
    if (this.#state === 'waiting' && !this.#asked) {
      this.#connect();
    } else if (isGreeted(this.#link) && this.#wasOffline) {
      // Its packets may have gone nowhere, and its address may be another: a new one is cheap.
      this.#lose('the network was away', true);
    }
  }

  /** Timers of hidden pages run late: what should have happened happens now. */
  #lookedAt() {
    const link = this.#link;
    if (this.#state === 'waiting' && !this.#asked) {
      this.#connect();
    } else if (isGreeted(link)) {
      this.#clock.clearTimeout(link.timer);
      this.#watch(link);
    }
  }

  /** Back from the browser's cache of pages, with a socket that the browser has closed. */
  #thaw() {
    this.#journal?.drop(0, this.#outbox); // it is ours again
    if (this.#link) this.#lose('the page was away', true);
    else if (this.#state === 'waiting') this.#connect();
  }

  #setState(state, detail = {}) {
    const previous = this.#state;
    if (state === previous) return;
    this.#state = state;
    this.#emit('state', { state, previous, ...detail });
  }

  #emit(type, detail) {
    if (!FREQUENT.has(type)) {
      this.#history.push({ at: this.#clock.now(), type, ...detail });
      if (this.#history.length > this.#options.historyMax) this.#history.shift();
    }
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** The messages that are not acknowledged, oldest first. Entry i has the number count + i + 1. */
class Outbox {
  entries = [];
  bytes = 0;
  count = 0;
  isKnown = false; // count is the session's, and not just where this client begins
  incarnation; // the life of the session whose count it is; sundown.v1 says none
  sent = 0; // so many, from the front, have been on some wire
  #next = 0; // so many have been on this connection's

  /** The highest number that this connection can have counted. */
  get written() {
    return this.count + this.#next;
  }

  push(entry) {
    this.entries.push(entry);
    this.bytes += entry.bytes;
  }

  hasNext() {
    return this.#next < this.entries.length;
  }

  next() {
    const entry = this.entries[this.#next];
    this.#next += 1;
    this.sent = Math.max(this.sent, this.#next);
    return entry;
  }

  /** What a hello's count contradicts, if it does. Changes nothing. */
  compare({ count, resumed, incarnation }) {
    if (!this.isKnown) return undefined;
    const isAnother = incarnation && (this.incarnation ?? incarnation) !== incarnation;
    if (isAnother && (this.count > 0 || this.sent > 0)) return 'expired';
    if (count < this.count) return resumed === true ? 'behind' : 'expired';
    // Someone else has counted in this session, so that no number says what was ours.
    if (this.sent > 0 && count > this.count + this.sent) return 'ahead';
    return undefined;
  }

  /** On a new connection; the entries that have arrived. */
  restart({ count, incarnation }) {
    // Without anything on a wire, what the count has more is not ours.
    const arrived = this.isKnown ? this.acknowledge(count) : [];
    this.count = count;
    this.isKnown = true;
    this.incarnation = incarnation;
    this.#next = 0;
    return arrived;
  }

  acknowledge(count) {
    const arrived = this.#shift(Math.min(count - this.count, this.sent)).map(({ entry }) => entry);
    this.count += arrived.length;
    return arrived;
  }

  /** What was on a wire leaves, or the first of it, and nobody knows whether it has arrived. */
  dropSent(many = Infinity) {
    return this.#shift(Math.min(many, this.sent));
  }

  clear() {
    return this.#shift(this.entries.length);
  }

  /** Nothing has been on a wire; the numbers begin at 0, or where the next hello says. */
  begin(isKnown) {
    if (isKnown) this.count = 0;
    this.isKnown = isKnown;
    this.sent = 0;
  }

  /** What a record holds goes before what was sent since. */
  adopt({ count, isKnown, incarnation, messages }) {
    const settled = { resolve() {}, reject() {}, isKept: true };
    const entries = messages.map((data) => ({ ...copied(data), ...settled }));
    this.entries.unshift(...entries);
    for (const { bytes } of entries) this.bytes += bytes;
    this.count = count;
    this.isKnown = isKnown;
    this.incarnation = incarnation;
    // All of it may have been on a wire, if there ever was a hello.
    this.sent = isKnown ? entries.length : 0;
  }

  #shift(many) {
    const { sent } = this;
    const gone = this.entries.splice(0, Math.max(0, many));
    for (const { bytes } of gone) this.bytes -= bytes;
    this.sent = Math.max(0, sent - gone.length);
    this.#next = Math.max(0, this.#next - gone.length);
    return gone.map((entry, at) => ({ entry, sent: at < sent }));
  }
}

/**
 * The outbox in a storage: a header under `key`, which says the last push, too, and each message
 * under `key:serial`, so that a message costs two small writes however many there are.
 *
 * Tabs are fenced as servers are: who opens the record writes a higher generation, and who finds a
 * higher one than its own touches nothing any more. A tab that writes a moment too late is
 * overruled by that number.
 */
class Journal {
  #storage;
  #key;
  #inbox;
  #report;
  #owner = newSession();
  #generation = 0;
  #session;
  // The serial of the first message: later than all that an earlier record can have left behind.
  #first = Date.now();
  #length = 0;
  #isBroken = false;
  #hasReported = false;
  #channel;

  constructor(storage, key, inbox, report) {
    this.#storage = storage;
    this.#key = key;
    this.#inbox = inbox;
    this.#report = report;
  }

  /** Makes the record ours; what it holds, if it may be had. rewrite() must follow. */
  async claim() {
    this.#session = undefined;
    const found = this.#try(() => this.#read());
    this.#generation = (found?.generation ?? 0) + 1;
    if (!found) return this.#answer();
    const messages = this.#try(() => this.#messages(found.first)) ?? [];
    this.#first = found.first;
    this.#length = messages.length;
    // sessionStorage is the tab's own, but a tab that is duplicated begins with a copy of it, and
    // the messages in there are the original's to send.
    const isCopy = found.owner && isPerTab(this.#storage) && (await this.#isAlive(found.owner));
    this.#answer();
    return isCopy ? undefined : { ...found, messages };
  }

  /** Whether nobody has opened the record after us. */
  isOurs() {
    const found = this.#try(() => this.#read());
    if (!found || found.generation < this.#generation) return true;
    // Of two that opened it in the same instant, one must win, and both must know which.
    return found.generation === this.#generation && (found.owner ?? '') <= this.#owner;
  }

  /** Whether a reload would find everything. */
  isWhole() {
    return !this.#isBroken && this.#session !== undefined;
  }

  /** Everything anew. */
  rewrite(session, outbox) {
    this.#session = session;
    this.#write(() => {
      this.#erase();
      this.#length = outbox.entries.length;
      outbox.entries.forEach(({ data }, at) => this.#put(this.#first + at, data));
      this.#putHeader(outbox);
    });
    for (const entry of outbox.entries) entry.isKept = this.isWhole();
  }

  /** Whether it is written down. */
  append(data, outbox) {
    if (!this.#session) return false; // rewrite() will have it
    if (this.#isBroken) return this.#mend(outbox);
    return this.#write(() => {
      this.#put(this.#first + this.#length, data);
      this.#length += 1;
    });
  }

  /** The first so many have left the outbox. */
  drop(many, outbox) {
    if (!this.#session) return;
    if (this.#isBroken) return void this.#mend(outbox);
    this.#write(() => {
      const from = this.#first;
      this.#first += many;
      this.#length -= many;
      // The header first: a message too many is dropped by the next hello, one too few is lost.
      this.#putHeader(outbox);
      for (let at = from; at < this.#first; at += 1) this.#storage.removeItem(`${this.#key}:${at}`);
    });
  }

  /** Leaves the record to whoever comes, who then need not ask whether we live. */
  release(outbox) {
    if (this.isWhole()) this.#write(() => this.#putHeader(outbox, null));
  }

  #putHeader({ count, isKnown, incarnation }, owner = this.#owner) {
    const [generation, session, first] = [this.#generation, this.#session, this.#first];
    const numbers = { count, isKnown, incarnation, inbox: this.#inbox };
    const header = { v: 1, generation, owner, session, first, ...numbers };
    this.#storage.setItem(this.#key, JSON.stringify(header));
  }

  #read() {
    const header = parsed(this.#storage.getItem(this.#key) ?? '');
    const { v, session, count, generation, first } = header ?? {};
    const isGood = v === 1 && SESSION.test(session) && [count, generation, first].every(isCount);
    return isGood ? header : undefined;
  }

  #put(serial, data) {
    const text = typeof data === 'string' ? `t${data}` : `b${toBase64(data)}`;
    this.#storage.setItem(`${this.#key}:${serial}`, text);
  }

  /** All up to the first that is missing: what follows a gap has no number. */
  #messages(first) {
    const messages = [];
    for (let at = first; ; at += 1) {
      const text = this.#storage.getItem(`${this.#key}:${at}`);
      if (typeof text !== 'string') return messages;
      messages.push(text[0] === 'b' ? fromBase64(text.slice(1)) : text.slice(1));
    }
  }

  #erase() {
    for (let at = this.#first; at < this.#first + this.#length; at += 1) {
      this.#storage.removeItem(`${this.#key}:${at}`);
    }
  }

  #write(change) {
    if (!this.isOurs()) return false;
    const isDone = this.#try(() => (change(), true)) ?? false;
    if (isDone) {
      this.#hasReported = false;
    } else {
      // Half a record is worse than none: a reload would take it for all that there is.
      this.#isBroken = true;
      this.#try(() => this.#storage.removeItem(this.#key));
      this.#try(() => this.#erase());
      this.#length = 0;
    }
    return isDone;
  }

  /** When almost all has left, there may be room again. */
  #mend(outbox) {
    if (outbox.entries.length > 1) return false;
    this.#isBroken = false;
    this.#first = Math.max(this.#first + outbox.entries.length, Date.now());
    this.rewrite(this.#session, outbox);
    return this.isWhole();
  }

  #try(run) {
    try {
      return run();
    } catch (error) {
      if (!this.#hasReported) this.#report(error);
      this.#hasReported = true;
      return undefined;
    }
  }

  /** Says from now on that we live. */
  #answer() {
    if (this.#channel || !isPerTab(this.#storage) || !globalThis.BroadcastChannel) return;
    this.#channel = new BroadcastChannel(this.#key);
    this.#channel.unref?.(); // Node would stay for it
    this.#channel.onmessage = ({ data }) => {
      if (data?.ask === this.#owner) this.#channel.postMessage({ alive: this.#owner });
    };
  }

  async #isAlive(owner) {
    if (!globalThis.BroadcastChannel) return false;
    const channel = new BroadcastChannel(this.#key);
    const isAlive = await new Promise((resolve) => {
      setTimeout(resolve, ALIVE_MS, false);
      channel.onmessage = ({ data }) => data?.alive === owner && resolve(true);
      channel.postMessage({ ask: owner });
    });
    channel.close();
    return isAlive;
  }
}

/* ---- small things ---- */

/** ws: and wss: as they are, http: and https: turned into them, paths from where the page is. */
function endpoint(url) {
  const parsedUrl = new URL(url, globalThis.location?.href);
  parsedUrl.protocol = parsedUrl.protocol.replace(/^http/, 'ws');
  if (!/^wss?:$/.test(parsedUrl.protocol)) throw new TypeError('url: ws, wss, http or https');
  if (parsedUrl.searchParams.has('session')) throw new TypeError('session is an option');
  parsedUrl.hash = '';
  return parsedUrl.href;
}

/** 128 random bits; randomUUID() would ask for a secure context. */
function newSession() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The message as it is now, whatever the caller does to it later, and its length on the wire. */
function copied(data) {
  if (typeof data === 'string') return { data, bytes: new TextEncoder().encode(data).length };
  const isView = ArrayBuffer.isView(data);
  if (!isView && !(data instanceof ArrayBuffer)) {
    throw new TypeError('a message is a string, an ArrayBuffer or a view of one');
  }
  const view = isView
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data);
  return { data: view.slice(), bytes: view.length };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isGreeted(link) {
  return link?.hello !== undefined;
}

function isV2(link) {
  return link.socket.protocol === V2;
}

/** A message of sundown.v2: its kind, and the data. */
function asMessage(data) {
  if (typeof data === 'string') return `m${data}`;
  const bytes = new Uint8Array(1 + data.length);
  bytes[0] = 'm'.charCodeAt(0);
  bytes.set(data, 1);
  return bytes;
}

/** The beginning of a binary message: at most `m`, 20 digits, and a space. */
function asciiOf(data) {
  return String.fromCharCode(...new Uint8Array(data, 0, Math.min(data.byteLength, 22)));
}

function isCount(value) {
  return Number.isSafeInteger(value) && value >= 0;
}

function isPerTab(storage) {
  try {
    return storage === globalThis.sessionStorage;
  } catch {
    return false; // the page may not have one
  }
}

function toBase64(bytes) {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
