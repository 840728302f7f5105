// The types of sundown.js. What it all means is in docs/client.md.

export type State =
  /** Made, and not yet begun: until the end of the task that called the constructor. */
  | 'starting'
  /** A connection is being made, or its hello is awaited. */
  | 'connecting'
  /** Messages go out as they are sent. */
  | 'open'
  /** The server is shutting down: replies still come; what is sent waits for the next server. */
  | 'draining'
  /** No connection; the next attempt is due at `retryAt`. */
  | 'waiting'
  /** Connected, and silent until `recover()`: the server's count contradicts ours. */
  | 'held'
  /** Another client has the session. Stopped until `open()`. */
  | 'taken'
  /** Trying again would fail again. Stopped until `open()` or `recover()`. */
  | 'failed'
  /** By `close()`. Stopped until `open()`. */
  | 'closed';

export type ErrorCode = 'closed' | 'discarded' | 'failed' | 'full' | 'taken-over' | 'too-big';

/** Why a message was not, or may not have been, counted. */
export class SundownError extends Error {
  constructor(code: ErrorCode, message: string, fate?: { sent?: boolean; kept?: boolean });
  readonly code: ErrorCode;
  /** It has been on the wire, so it may have been counted. */
  readonly sent: boolean;
  /** It is in the storage: the next client with it, or the one that took it, sends it. */
  readonly kept: boolean;
}

/** What `localStorage` and `sessionStorage` have, and all that is used of it. */
export interface OutboxStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** Time and chance, to be replaced in tests. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** From 0 up to, and without, 1. */
  random(): number;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
}

export interface Options {
  /** 1 to 128 characters of `A-Z a-z 0-9 . _ ~ -`; a secret. Default: a new one at random. */
  session?: string;
  /** Where the outbox and the session survive a reload. Default: nowhere. */
  storage?: OutboxStorage;
  /** The name of the record in the storage. Default: made from the URL. */
  key?: string;
  /** Most messages that wait to be acknowledged. Default: 1000. */
  outboxMax?: number;
  /** Most bytes of them. Default: 1 MiB. */
  outboxBytesMax?: number;
  /** The server's `--max-message-size`, less the byte of the kind. Default: 1 MiB less 1. */
  messageBytesMax?: number;
  /** Most events in `history`. Default: 64. */
  historyMax?: number;
  /** Milliseconds from an attempt to its hello. Default: 10,000. */
  connectTimeout?: number;
  /** Milliseconds without a word after which a connection is given up; 0: never. Default: 75,000. */
  silence?: number;
  /** Milliseconds: the first wait is random below this. Default: 500. */
  backoffMin?: number;
  /** Milliseconds: the ceiling doubles up to this. Default: 30,000. */
  backoffMax?: number;
  /** Whether what is sent after the notice waits for the next server at once. Default: true. */
  holdAtNotice?: boolean;
  /** What to do when the server's count contradicts ours. Default: `hold`. */
  onMismatch?: 'hold' | 'resend' | 'discard';
  /** Default: `globalThis.WebSocket`. */
  WebSocket?: new (url: string, protocols: string[]) => unknown;
  clock?: Clock;
}

export interface Details {
  state: {
    state: State;
    previous: State;
    /** waiting: for how long, and whether the server has asked for it. */
    ms?: number;
    asked?: boolean;
    /** failed, held: why. */
    reason?: string;
    code?: number;
    error?: unknown;
    /** taken: how many messages were given up. */
    rejected?: number;
  };
  /** Connected: so many messages of the session are counted. */
  hello: {
    session: string;
    count: number;
    resumed: boolean;
    /** Which life of the session this is, and the number of its latest push. sundown.v2 only. */
    incarnation?: number;
    sent?: number;
  };
  /** A message was acknowledged. */
  count: { count: number };
  /** Nothing waits to be acknowledged. */
  drain: Record<string, never>;
  /** The server's clock. */
  heartbeat: { ts: string };
  /** A shutdown begins. Milliseconds. */
  notice: { drainMs: number; reconnectMs: number };
  /** The last message before Close 1001. */
  goodbye: { total: number };
  /** The connection, or the attempt at one, is over. 1006: without a Close frame. */
  close: { code: number; reason: string; wasClean: boolean };
  /** The server's numbers contradict ours: docs/client.md, "When the numbers do not agree". */
  mismatch: {
    reason: 'expired' | 'behind' | 'ahead';
    count: number;
    acknowledged: number;
    /** Messages that may or may not have been counted. */
    doubtful: number;
    /** Whether it waits for `recover()`. */
    isHeld: boolean;
    /** The last push that was received, and the server's latest. sundown.v2 only. */
    received?: number;
    sent?: number;
  };
  /** The service has failed on this message three times: it is not sent again. See `recover()`. */
  error: { number: number; data: string | Uint8Array; reason: string };
  /** The storage has failed: the outbox is in memory only. */
  storage: { error: unknown };
  /** The browser says so: a hint. */
  offline: Record<string, never>;
  online: Record<string, never>;
  /** What an operator has said to every client: any JSON. */
  broadcast: { data: unknown };
  /** What the application says: a reply or, with its number, a push, each push once. */
  message: { data: string | ArrayBuffer; number?: number };
}

export type HistoryEntry = { at: number; type: keyof Details } & Record<string, unknown>;

export class Sundown extends EventTarget {
  /** @throws TypeError for a bad URL or option, or if there is no WebSocket. */
  constructor(url: string | URL, options?: Options);

  readonly state: State;
  /** Unknown until it has begun. */
  readonly session: string | undefined;
  /** The highest number that was acknowledged. */
  readonly count: number;
  /** The number of the last push that was received. */
  readonly received: number;
  /** Messages that are not acknowledged. */
  readonly pending: number;
  readonly pendingBytes: number;
  /** While it waits: when the next attempt is due, in milliseconds of `Date.now()`. */
  readonly retryAt: number | undefined;
  /** The last events, but for `count`, `drain`, `heartbeat` and `message`. */
  readonly history: HistoryEntry[];

  /**
   * Resolves with the message's number when the server has counted it; rejects with a
   * SundownError, or a TypeError for what is no message. It may be ignored.
   */
  send(data: string | ArrayBuffer | ArrayBufferView): Promise<number>;
  /** Connects at once: again after closed, failed or taken, or instead of waiting. */
  open(): void;
  /** Ends it. Promises are rejected; what is in the storage stays there for the next client. */
  close(code?: number, reason?: string): void;
  /**
   * Goes on after a mismatch, or after failed. `resend` sends all of the outbox again: what was
   * counted after all is then counted twice. `discard` gives up what was on the wire, `skip` only
   * the first of it: the message that the event `error` has told.
   */
  recover(how: 'resend' | 'discard' | 'skip'): void;

  addEventListener<T extends keyof Details>(
    type: T,
    listener: (event: CustomEvent<Details[T]>) => void,
    options?: AddEventListenerOptions | boolean,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: AddEventListenerOptions | boolean,
  ): void;
  removeEventListener<T extends keyof Details>(
    type: T,
    listener: (event: CustomEvent<Details[T]>) => void,
    options?: EventListenerOptions | boolean,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: EventListenerOptions | boolean,
  ): void;
}
