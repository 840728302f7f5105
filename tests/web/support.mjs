// A client with a server, a clock and an ear, for a test of a few lines.

import { Sundown } from '../../src/web/sundown.js';
import { FakeClock, FakeServer, settled } from './fakes.mjs';

export const URL = 'ws://server.example/ws/chat/';

const EVENTS = [
  ...['state', 'hello', 'count', 'drain', 'heartbeat', 'notice', 'goodbye', 'close'],
  ...['mismatch', 'storage', 'offline', 'online', 'broadcast', 'message', 'error'],
];

/** Connected, unless the server was told otherwise. */
export async function start(options = {}, { server = new FakeServer(), clock, url = URL } = {}) {
  clock ??= new FakeClock();
  const client = new Sundown(url, { WebSocket: server.WebSocket, clock, ...options });
  const heard = [];
  for (const type of EVENTS) {
    client.addEventListener(type, ({ detail }) => heard.push({ type, ...detail }));
  }
  await settled();
  await settled();
  return { client, server, clock, heard, of: (type) => heard.filter((e) => e.type === type) };
}

/** How a promise stands: its number, the code of its error, or `pending`. */
export async function fate(promise) {
  await settled();
  return Promise.race([
    promise.catch((error) => error.code ?? error.name),
    new Promise((resolve) => setImmediate(resolve, 'pending')),
  ]);
}
