// Goal: the client and the server that it was made for keep their promise together: nothing is
// lost, and nothing counted or pushed twice, over a SIGTERM and over a kill -9.
// Method: the built binary on a store in a directory of the test's own, real signals, and a client
// that never stops sending; for pushes the example `mail`, and a page that reloads. The browser's
// part of it is in the browser's own test.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';

import { Sundown } from '../../src/web/sundown.js';
import { FakeStorage, SUBPROTOCOL } from './fakes.mjs';
import { TinyWebSocket } from './tiny_websocket.mjs';

const TARGET = process.env.CARGO_TARGET_DIR || 'target';
const BINARY = process.env.BINARY ?? `${TARGET}/debug/sundown`;
const MAIL = `${TARGET}/debug/examples/mail`;
for (const file of [BINARY, MAIL]) {
  assert.ok(existsSync(file), `there is no ${file}: make test-web builds it`);
}

/** Offers what is to be spoken, and no more: what the client offers, unless that is sundown.v1. */
class RealWebSocket extends (globalThis.WebSocket ?? TinyWebSocket) {
  static all = [];
  static last;
  constructor(url, protocols) {
    super(url, SUBPROTOCOL === 'sundown.v1' ? [SUBPROTOCOL] : protocols);
    this.session = new URL(url).searchParams.get('session');
    RealWebSocket.all.push(this);
  }

  /** The page is gone without a word: it hears nothing any more, and its socket lingers. */
  static abandon(session) {
    const gone = RealWebSocket.all.filter((socket) => socket.session === session);
    for (const socket of gone) socket.onmessage = socket.onclose = undefined;
  }

  send(data) {
    RealWebSocket.last = data;
    super.send(data);
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A server that has printed where it listens. */
async function serve(directory, port, binary = BINARY) {
  const flags = ['--listen', `127.0.0.1:${port}`, '--admin', 'off'];
  const store = ['--store', `sqlite:${join(directory, 'store.db')}`];
  const server = spawn(binary, [...flags, ...store], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = new Promise((resolve) => server.once('exit', resolve));
  const lines = createInterface({ input: server.stdout });
  await new Promise((resolve) => lines.once('line', resolve));
  return { server, exited };
}

for (const signal of ['SIGTERM', 'SIGKILL']) {
  test(`${signal}: the count goes on`, async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'sundown-web-'));
    const port = await freePort();
    let running = await serve(directory, port);
    const client = new Sundown(`ws://127.0.0.1:${port}/ws/chat/`, {
      WebSocket: RealWebSocket,
      backoffMin: 50,
      backoffMax: 200,
    });
    t.after(async () => {
      client.close();
      running.server.kill('SIGKILL');
      await running.exited;
      rmSync(directory, { recursive: true });
    });
    const heard = [];
    for (const type of ['hello', 'notice', 'goodbye', 'close', 'mismatch']) {
      client.addEventListener(type, ({ detail }) => heard.push({ type, ...detail }));
    }
    const promises = [];
    const sending = setInterval(() => promises.push(client.send(`${promises.length}`)), 2);
    const until = (holds) => new Promise((resolve) => {
      const look = () => holds() && resolve();
      for (const type of ['count', 'hello', 'close']) client.addEventListener(type, look);
    });
    await until(() => client.count >= 50);
    running.server.kill(signal);
    const code = await running.exited;
    if (signal === 'SIGTERM') assert.equal(code, 0);
    running = await serve(directory, port);
    await until(() => heard.filter(({ type }) => type === 'hello').length === 2);
    const resumedAt = client.count;
    await until(() => client.count >= resumedAt + 50);
    clearInterval(sending);
    assert.deepEqual(await Promise.all(promises), promises.map((_, at) => at + 1));
    const closes = heard.filter(({ type }) => type === 'close');
    const types = heard.map(({ type }) => type);
    if (signal === 'SIGTERM') {
      assert.deepEqual(types.slice(0, 4), ['hello', 'notice', 'goodbye', 'close']);
      assert.equal(closes[0].code, 1001);
      assert.match(closes[0].reason, /^server shutdown; retry-after-ms=\d+$/);
    } else {
      assert.equal(closes[0].code, 1006);
    }
    const { resumed, incarnation } = heard.findLast(({ type }) => type === 'hello');
    assert.equal(resumed, true);
    assert.equal(incarnation > 0, SUBPROTOCOL === 'sundown.v2', 'it is spoken');
    assert.ok(!types.includes('mismatch'));
  });
}

const skip = SUBPROTOCOL !== 'sundown.v2';
for (const signal of ['SIGTERM', 'SIGKILL']) {
  test(`${signal}: pushes go on, over a reload, too`, { skip }, async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'sundown-web-'));
    const port = await freePort();
    let running = await serve(directory, port, MAIL);
    const clients = [];
    t.after(async () => {
      for (const client of clients) client.close();
      running.server.kill('SIGKILL');
      await running.exited;
      rmSync(directory, { recursive: true });
    });
    const connect = async (session, storage, pushes = []) => {
      const options = { WebSocket: RealWebSocket, backoffMin: 50, backoffMax: 200 };
      const client = new Sundown(`ws://127.0.0.1:${port}/ws/chat/`, { session, storage, ...options });
      clients.push(client);
      client.addEventListener('message', ({ detail }) => pushes.push(detail));
      await new Promise((resolve) => client.addEventListener('hello', resolve, { once: true }));
      return client;
    };
    const until = (holds) => new Promise((resolve) => {
      const look = () => (holds() ? resolve() : setTimeout(look, 5));
      look();
    });
    const [storage, pushes] = [new FakeStorage(), []];
    const bob = await connect('bob', storage, pushes);
    const ann = await connect('ann');
    let sent = 0;
    // Fewer than a mailbox holds: one push too many would be refused.
    const sending = setInterval(
      () => sent - pushes.length < 200 && ann.send(`bob ${(sent += 1)}`),
      2,
    );
    await until(() => pushes.length >= 50);
    running.server.kill(signal);
    await running.exited;
    running = await serve(directory, port, MAIL);
    await until(() => bob.state === 'open' && pushes.length >= 150);
    RealWebSocket.abandon('bob');
    const reloaded = await connect('bob', storage, pushes);
    await until(() => pushes.length >= 250);
    clearInterval(sending);
    await until(() => pushes.length >= sent && ann.pending === 0);
    const expected = Array.from({ length: sent }, (_, at) => ({ data: `${at + 1}`, number: at + 1 }));
    assert.deepEqual(pushes, expected);
    await reloaded.send(new Uint8Array([0, 255]));
    await until(() => pushes.length > sent);
    assert.deepEqual(pushes.at(-1), { data: new Uint8Array([0, 255]).buffer, number: sent + 1 });
    // All of it is confirmed, and what follows is counted: who knows nothing of it is pushed nothing.
    await until(() => RealWebSocket.last === `a${sent + 1}`);
    await reloaded.send('no push');
    const heard = [];
    const other = await connect('bob', undefined, heard);
    await other.send('bob the end');
    await until(() => heard.length > 0);
    assert.deepEqual(heard, [{ data: 'the end', number: sent + 2 }]);
  });
}
