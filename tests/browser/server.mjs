// The built binary, on a store and a port that outlive it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { TinyWebSocket } from '../web/tiny_websocket.mjs';

const TARGET = process.env.CARGO_TARGET_DIR || 'target';
const BINARY = process.env.BINARY ?? `${TARGET}/debug/sundown`;

/** A place for servers, one after the other: it ends with the test, and so does who is there. */
export async function place(t) {
  const directory = mkdtempSync(join(tmpdir(), 'sundown-browser-store-'));
  const held = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => held.once('listening', resolve));
  const { port } = held.address();
  await new Promise((resolve) => held.close(resolve));
  const place = new Place(directory, port);
  t.after(async () => {
    await place.kill('SIGKILL');
    rmSync(directory, { recursive: true });
  });
  return place;
}

/** A network between a browser and a server, which can be taken away: then not a byte goes through. */
export async function network(t, place) {
  const pairs = new Set();
  const all = () => [...pairs].flat();
  const proxy = createServer({ pauseOnConnect: true }, (near) => {
    const far = connect(place.port, '127.0.0.1');
    const pair = [near, far];
    pairs.add(pair);
    for (const [from, to] of [pair, [...pair].reverse()]) {
      from.on('data', (bytes) => to.write(bytes));
      from.on('end', () => to.end());
      from.on('error', () => to.destroy());
      from.on('close', () => pairs.delete(pair));
    }
    if (network.isAway) far.pause();
    else near.resume();
  });
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const network = {
    isAway: false,
    page: (session) => `http://127.0.0.1:${proxy.address().port}/?session=${session}`,
    take() {
      network.isAway = true;
      all().forEach((socket) => socket.pause());
    },
    giveBack() {
      network.isAway = false;
      all().forEach((socket) => socket.resume());
    },
  };
  t.after(() => {
    all().forEach((socket) => socket.destroy());
    proxy.close();
  });
  return network;
}

class Place {
  #running;
  #exited;

  constructor(directory, port) {
    this.directory = directory;
    this.port = port;
  }

  /** The page, and with it a session. */
  page(session) {
    return `http://127.0.0.1:${this.port}/?session=${session}`;
  }

  /** Starts a server, and waits until it is ready. */
  async serve(...flags) {
    const args = ['--listen', `127.0.0.1:${this.port}`, '--admin', 'off', '--log', 'warn'];
    const store = ['--store', `sqlite:${join(this.directory, 'store.db')}`];
    const stdio = ['ignore', 'pipe', 'inherit'];
    this.#running = spawn(BINARY, [...args, ...store, ...flags], { stdio });
    this.#exited = new Promise((resolve) => this.#running.once('exit', resolve));
    const lines = createInterface({ input: this.#running.stdout });
    const ready = new Promise((resolve) => lines.on('line', (line) => line === 'ready' && resolve('ready')));
    assert.equal(await Promise.race([ready, this.#exited]), 'ready', 'the server starts');
  }

  /** Sends a signal, and answers the exit code. */
  async kill(signal) {
    this.#running?.kill(signal);
    return this.#exited;
  }

  /** What the server itself says of a session: another client opens it, and takes it over. */
  count(session) {
    return new Promise((resolve, reject) => {
      const url = `ws://127.0.0.1:${this.port}/ws/chat/?session=${session}`;
      const socket = new TinyWebSocket(url, ['sundown.v1']);
      socket.onerror = reject;
      socket.onmessage = ({ data }) => {
        socket.close();
        resolve(JSON.parse(data).count);
      };
    });
  }
}
