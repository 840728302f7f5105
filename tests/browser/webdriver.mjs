// A real Chromium, driven by its chromedriver: as much of WebDriver (W3C) as the tests need. It owns
// the two processes and the screenshots; whatever it waits for, it waits for a condition.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** Where screenshots are kept, to be looked at. */
const SHOTS = process.env.SHOTS ?? `${process.env.CARGO_TARGET_DIR || 'target'}/browser`;
/** The name that WebDriver gives to the id of an element. */
const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';
/** How long a condition may take to hold. */
const PATIENCE_MS = 30_000;
const LOOK_EVERY_MS = 20;

/** A browser of the test's own, which ends with it. */
export async function browse(t, { width = 1000, height = 1100, scheme = 'light' } = {}) {
  const profile = mkdtempSync(join(tmpdir(), 'sundown-browser-'));
  const driver = spawn('chromedriver', ['--port=0'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = new Promise((resolve) => driver.once('exit', resolve));
  const port = await new Promise((resolve, reject) => {
    driver.once('error', reject);
    createInterface({ input: driver.stdout }).on('line', (line) => {
      const started = /successfully on port (\d+)/.exec(line);
      if (started) resolve(Number(started[1]));
    });
  });
  const call = async (method, path, body) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, {
      method,
      body: body && JSON.stringify(body),
    });
    const { value } = await response.json();
    assert.ok(response.ok, `${method} ${path}: ${value?.error}: ${value?.message}`);
    return value;
  };
  // In a container root has no sandbox, and /dev/shm is small.
  const args = ['--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'];
  const dark = scheme === 'dark' ? ['--force-dark-mode'] : [];
  const { sessionId } = await call('POST', '/session', {
    capabilities: {
      alwaysMatch: {
        browserName: 'chrome',
        'goog:chromeOptions': {
          args: [...args, ...dark, `--user-data-dir=${profile}`, `--window-size=${width},${height}`],
        },
        'goog:loggingPrefs': { browser: 'ALL' },
      },
    },
  });
  const session = `/session/${sessionId}`;
  t.after(async () => {
    await call('DELETE', session);
    driver.kill();
    await exited;
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  });
  return new Browser((method, path, body) => call(method, session + path, body));
}

class Browser {
  constructor(call) {
    this.call = call;
  }

  goto(url) {
    return this.call('POST', '/url', { url });
  }

  reload() {
    return this.call('POST', '/refresh', {});
  }

  run(script, ...args) {
    return this.call('POST', '/execute/sync', { script, args });
  }

  async element(id) {
    const value = await this.call('POST', '/element', { using: 'css selector', value: `#${id}` });
    return `/element/${value[ELEMENT]}`;
  }

  async click(id) {
    return this.call('POST', `${await this.element(id)}/click`, {});
  }

  /** What a person sees of an element: nothing, if it is hidden. */
  async text(id) {
    return this.call('GET', `${await this.element(id)}/text`);
  }

  async number(id) {
    return Number(await this.text(id));
  }

  /** The state of the client that the page shows. */
  state() {
    return this.run('return document.getElementById("state").dataset.state');
  }

  /** Waits until it answers something else than false. */
  async until(what, holds) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const value = await holds();
      if (value) return value;
      if (Date.now() > deadline) {
        await this.shoot('failed');
        assert.fail(`still not: ${what}; the page says:\n${await this.run('return document.body.innerText')}`);
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
  }

  untilState(state) {
    return this.until(`the state is ${state}`, async () => (await this.state()) === state);
  }

  untilNumber(id, number) {
    return this.until(`${id} is ${number}`, async () => (await this.number(id)) === number);
  }

  /** The lines of the time line, without their times. */
  timeline() {
    return this.run(`return [...document.querySelectorAll('#timeline-list li')]
      .map((item) => item.firstChild.textContent)`);
  }

  /** Waits until the time line has a line that begins with this. */
  untilSeen(beginning) {
    const seen = async () => (await this.timeline()).find((line) => line.startsWith(beginning));
    return this.until(`the time line has "${beginning}"`, seen);
  }

  /** As a person does it: so many clicks on the button. */
  async send(messages) {
    const button = await this.element('send');
    for (let sent = 0; sent < messages; sent += 1) await this.call('POST', `${button}/click`, {});
  }

  /** What the page cannot do: takes the network away from it, or gives it back. */
  async offline(offline) {
    const conditions = { offline, latency: 0, download_throughput: -1, upload_throughput: -1 };
    await this.call('POST', '/chromium/network_conditions', { network_conditions: conditions });
  }

  /** A second tab; answers the handles of both. */
  async openTab() {
    const first = await this.call('GET', '/window');
    const { handle: second } = await this.call('POST', '/window/new', { type: 'tab' });
    await this.tab(second);
    return { first, second };
  }

  tab(handle) {
    return this.call('POST', '/window', { handle });
  }

  /** Keeps a picture of the page. */
  async shoot(name) {
    mkdirSync(SHOTS, { recursive: true });
    writeFileSync(join(SHOTS, `${name}.png`), Buffer.from(await this.call('GET', '/screenshot'), 'base64'));
  }

  /** What Chromium has against the page: a policy that is broken, a file that is missing. */
  async complaints() {
    const log = await this.call('POST', '/se/log', { type: 'browser' });
    // A server that is away is no fault of the page.
    return log.map(({ message }) => message).filter((text) => !/WebSocket connection to/.test(text));
  }
}
