// Goal: the client and the server that it was made for keep their promise together: nothing is
// lost and nothing counted twice over a SIGTERM and over a kill -9.
// Method: the built binary on a store in a directory of the test's own, real signals, and a client
// that never stops sending. The browser's part of it is in the browser's own test.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';

import { Sundown } from '../../src/web/sundown.js';
import { SUBPROTOCOL } from './fakes.mjs';
import { TinyWebSocket } from './tiny_websocket.mjs';

const TARGET = process.env.CARGO_TARGET_DIR || 'target';
const BINARY = process.env.BINARY ?? `${TARGET}/debug/sundown`;
assert.ok(existsSync(BINARY), `there is no ${BINARY}: cargo build makes it`);

/** Offers what is to be spoken, and no more: what the client offers, unless that is sundown.v1. */
class RealWebSocket extends (globalThis.WebSocket ?? TinyWebSocket) {
  constructor(url, protocols) {
    super(url, SUBPROTOCOL === 'sundown.v1' ? [SUBPROTOCOL] : protocols);
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
async function serve(directory, port) {
  const flags = ['--listen', `127.0.0.1:${port}`, '--admin', 'off'];
  const store = ['--store', `sqlite:${join(directory, 'store.db')}`];
  const server = spawn(BINARY, [...flags, ...store], { stdio: ['ignore', 'pipe', 'inherit'] });
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
    assert.equal(incarnation, SUBPROTOCOL === 'sundown.v2' ? 1 : undefined, 'it is spoken');
    assert.ok(!types.includes('mismatch'));
  });
}
