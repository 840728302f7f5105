// The built binary, on a store and a port that outlive it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { TinyWebSocket } from '../web/tiny_websocket.mjs';

const BINARY = process.env.BINARY ?? 'target/debug/sundown';

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
