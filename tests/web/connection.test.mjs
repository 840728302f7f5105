// Goal: each end of a connection has the consequence that docs/client.md names, and every wait is
// as long as was asked for, or random below a ceiling that doubles.
// Method: cases are data; the clock is moved by hand.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Sundown } from '../../src/web/sundown.js';
import { FakePage, FakeServer, settled } from './fakes.mjs';
import { URL, fate, start } from './support.mjs';

for (const [code, reason, state] of [
  [1000, '', 'waiting'],
  [1001, 'server shutdown; retry-after-ms=131', 'waiting'],
  [1001, 'idle timeout', 'waiting'],
  [1002, 'protocol error', 'failed'],
  [1005, '', 'waiting'],
  [1006, '', 'waiting'],
  [1007, 'invalid UTF-8', 'failed'],
  [1008, 'reader too slow', 'waiting'],
  [1009, 'message too big', 'failed'],
  [1011, '', 'waiting'],
  [1012, '', 'waiting'],
  [1013, 'try again later; retry-after-ms=2000', 'waiting'],
  [3000, 'of the application', 'failed'],
  [4001, 'session taken over', 'taken'],
]) {
  test(`Close ${code} ${reason}: ${state}`, async () => {
    const { client, server, of } = await start();
    server.last.end(code, reason);
    assert.equal(client.state, state);
    assert.deepEqual(of('close'), [{ type: 'close', code, reason, wasClean: code !== 1006 }]);
    const asked = Number(/ms=(\d+)/.exec(reason)?.[1] ?? NaN);
    const last = of('state').at(-1);
    if (state === 'waiting') assert.equal(last.asked, !Number.isNaN(asked));
    if (last.asked) assert.equal(last.ms, asked);
  });
}

test('a shutdown: notice, replies, goodbye, 1001, the wait, and on', async () => {
  const { client, server, clock, of, heard } = await start();
  server.counts = server.replies = false;
  const before = client.send('before');
  server.last.say({ shutdown: true, drain_ms: 2500, reconnect_ms: 131 });
  assert.equal(client.state, 'draining');
  const after = client.send('after');
  assert.deepEqual(server.last.sent, ['before'], 'the server is let go');
  server.last.count();
  server.last.say({ count: 1 });
  assert.equal(await fate(before), 1, 'replies still come');
  server.last.say({ bye: true, total: 1 });
  server.last.end(1001, 'server shutdown; retry-after-ms=131');
  assert.equal(client.retryAt, clock.now() + 131);
  server.counts = server.replies = true;
  await clock.advance(130);
  assert.equal(server.sockets.length, 1, 'not before it was asked to');
  await clock.advance(1);
  assert.equal(await fate(after), 2);
  assert.deepEqual(server.messages, ['before', 'after']);
  assert.deepEqual(of('notice'), [{ type: 'notice', drainMs: 2500, reconnectMs: 131 }]);
  assert.deepEqual(
    heard.filter(({ type }) => type !== 'count' && type !== 'drain').map((e) => e.state ?? e.type),
    [
      ...['connecting', 'hello', 'open', 'notice', 'draining', 'goodbye', 'close', 'waiting'],
      ...['connecting', 'hello', 'open'],
    ],
  );
});

test('who is in a hurry goes on sending after the notice', async () => {
  const { client, server } = await start({ holdAtNotice: false });
  server.counts = false;
  const a = client.send('a');
  server.last.say({ shutdown: true, drain_ms: 2500, reconnect_ms: 131 });
  const b = client.send('b');
  assert.deepEqual(server.last.sent, ['a', 'b']);
  server.last.count();
  assert.deepEqual(await Promise.all([a, b]), [1, 2]);
});

test('the goodbye acknowledges what the store has, and is not the last word', async () => {
  const { client, server, clock } = await start();
  server.counts = server.replies = false;
  const [a, b, c] = ['a', 'b', 'c'].map((data) => client.send(data));
  server.last.count(1);
  server.last.say({ bye: true, total: 1 });
  server.last.count(1); // late, and counted
  server.last.end(1001, 'server shutdown; retry-after-ms=0');
  assert.equal(await fate(a), 1);
  assert.equal(await fate(b), 'pending');
  server.counts = server.replies = true;
  await clock.advance(0);
  assert.deepEqual(await Promise.all([b, c]), [2, 3]);
  assert.deepEqual(server.messages, ['a', 'b', 'c']);
});

test('cut after the notice: the wait is the one of the notice', async () => {
  const { client, server, clock } = await start();
  server.last.say({ shutdown: true, drain_ms: 2500, reconnect_ms: 700 });
  server.last.end(1006);
  assert.equal(client.retryAt, clock.now() + 700);
});

test('what a server may ask for has an end', async () => {
  const { client, server, clock } = await start();
  server.last.end(1001, 'server shutdown; retry-after-ms=999999999');
  assert.equal(client.retryAt, clock.now() + 60_000);
});

test('waits are random below a ceiling that doubles', async () => {
  const { client, server, clock, of } = await start({ connectTimeout: 100_000 });
  server.accepts = false;
  clock.chance = 0.999_999;
  const waits = [];
  for (let n = 0; n < 9; n += 1) {
    server.last.end(1006);
    waits.push(of('state').at(-1).ms);
    await clock.advance(30_000);
  }
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  clock.chance = 0;
  server.last.end(1006);
  assert.equal(of('state').at(-1).ms, 0);
  assert.equal(client.state, 'waiting');
});

test('only a connection that has lasted begins the waits anew', async () => {
  const { server, clock, of } = await start();
  clock.chance = 0.999_999;
  const waitAfter = async (lived) => {
    await clock.advance(lived);
    server.last.end(1006);
    const { ms } = of('state').at(-1);
    await clock.advance(ms);
    await settled();
    return ms;
  };
  assert.equal(await waitAfter(1), 500);
  assert.equal(await waitAfter(4_999), 1000);
  assert.equal(await waitAfter(4_999), 2000);
  assert.equal(await waitAfter(5_000), 500);
});

test('an attempt without a hello is given up', async () => {
  const { client, server, clock, of } = await start();
  server.greets = false;
  server.last.end(1006);
  await clock.advance(250);
  const silent = server.last;
  assert.equal(client.state, 'connecting');
  await clock.advance(10_000);
  assert.equal(of('close').at(-1).reason, 'no hello in time');
  assert.notEqual(silent.closedWith, undefined);
  server.greets = true;
  await clock.advance(1000);
  assert.equal(client.state, 'open');
  silent.greet();
  assert.equal(of('hello').length, 2, 'what is given up is not heard');
});

test('4001 after an attempt that ended before its hello is forgiven once', async () => {
  const { client, server, clock } = await start();
  server.greets = false;
  server.last.end(1006);
  await clock.advance(500);
  server.last.end(1006);
  server.greets = true;
  await clock.advance(1000);
  assert.equal(client.state, 'open');
  server.last.end(4001, 'session taken over');
  assert.equal(client.state, 'waiting');
  await clock.advance(1000);
  server.last.end(4001, 'session taken over');
  assert.equal(client.state, 'taken');
});

test('silence is noticed', async () => {
  const { client, server, clock, of } = await start();
  await clock.advance(60_000);
  server.last.say({ ts: '2026-11-22T13:19:00.000Z' });
  assert.deepEqual(of('heartbeat'), [{ type: 'heartbeat', ts: '2026-11-22T13:19:00.000Z' }]);
  await clock.advance(74_999);
  assert.equal(client.state, 'open');
  await clock.advance(1);
  assert.equal(of('close').at(-1).reason, 'silence');
  assert.equal(client.state, 'waiting');
});

test('silence may be allowed', async () => {
  const { client, clock } = await start({ silence: 0 });
  await clock.advance(10_000_000);
  assert.equal(client.state, 'open');
  assert.equal(clock.timers, 0);
});

test('the network and the eyes come back', async (t) => {
  const page = new FakePage();
  globalThis.window = page;
  t.after(() => delete globalThis.window);
  const { client, server, clock, of } = await start();
  page.tell('offline');
  assert.equal(client.state, 'open', 'a server on this machine can be reached');
  page.tell('online');
  assert.equal(of('close').at(-1).reason, 'the network was away');
  await clock.advance(0);
  assert.equal(client.state, 'open');
  page.tell('online');
  assert.equal(server.sockets.length, 2, 'it was not away');

  server.last.end(1006);
  page.tell('online');
  await settled();
  assert.equal(client.state, 'open', 'it does not wait for its turn');
  server.last.end(1006);
  page.show('hidden');
  assert.equal(client.state, 'waiting');
  page.show('visible');
  await settled();
  assert.equal(client.state, 'open');

  server.last.end(1001, 'server shutdown; retry-after-ms=500');
  page.tell('online');
  page.show('visible');
  assert.equal(client.state, 'waiting', 'what the server has asked for is kept');
  await clock.advance(500);

  clock.time += 80_000; // the machine slept, and so did its timers
  page.show('visible');
  assert.equal(of('close').at(-1).reason, 'silence');
  client.close();
  assert.equal(clock.timers, 0);
  page.tell('online');
  assert.equal(client.state, 'closed');
});

test('a page that comes back from the cache connects at once', async (t) => {
  const page = new FakePage();
  globalThis.window = page;
  t.after(() => delete globalThis.window);
  const { client, server, clock } = await start();
  page.tell('pageshow', { persisted: false });
  assert.equal(server.sockets.length, 1);
  page.tell('pageshow', { persisted: true });
  await clock.advance(0);
  assert.equal(server.sockets.length, 2);
  server.last.end(1006);
  page.tell('pageshow', { persisted: true });
  await settled();
  assert.equal(client.state, 'open');
});

test('close() ends it, and open() begins again', async () => {
  const { client, server, clock } = await start();
  server.counts = false;
  const [on, off] = [client.send('on the wire'), client.send('on the wire')];
  client.close();
  assert.deepEqual(server.last.closedWith, { code: 1000, reason: '' });
  const error = await on.catch((error) => error);
  assert.deepEqual(
    [error.name, error.code, error.sent, error.kept],
    ['SundownError', 'closed', true, false],
  );
  assert.equal(await fate(off), 'closed');
  assert.equal(await fate(client.send('too late')), 'closed');
  assert.equal(clock.timers, 0);
  client.close();
  server.counts = true;
  client.open();
  await settled();
  await settled();
  assert.equal(await client.send('again'), 1);
  assert.throws(() => client.close(1001), /may not be sent/);
  assert.equal(client.state, 'open');
});

test('close() before the beginning, and in every listener', async () => {
  const server = new FakeServer();
  const early = new Sundown(URL, { WebSocket: server.WebSocket });
  early.close();
  await settled();
  assert.equal(server.sockets.length, 0);
  for (const type of ['state', 'hello', 'count', 'notice', 'goodbye', 'close', 'drain']) {
    const { client, server, clock } = await start();
    client.addEventListener(type, () => client.close());
    client.send('a');
    await settled();
    server.last.say({ shutdown: true, drain_ms: 1, reconnect_ms: 1 });
    server.last.say({ bye: true, total: 1 });
    server.last.end(1006);
    await clock.advance(1000);
    await settled();
    assert.equal(client.state, 'closed', type);
    assert.equal(clock.timers, 0, type);
  }
});

test('the URL', async () => {
  const { server } = await start({ session: 'a.b_c~d-e' });
  assert.equal(server.last.url, `${URL}?session=a.b_c~d-e`);
  assert.deepEqual(server.last.protocols, ['sundown.v2', 'sundown.v1']);
  const https = await start({ session: 'a' }, { url: 'https://x.example/ws/chat/?v=1#top' });
  assert.equal(https.server.last.url, 'wss://x.example/ws/chat/?v=1&session=a');
  globalThis.location = { href: 'http://x.example/deep/page.html' };
  const relative = await start({ session: 'a' }, { url: '../ws/chat/' });
  delete globalThis.location;
  assert.equal(relative.server.last.url, 'ws://x.example/ws/chat/?session=a');
});

test('what cannot work is said at once', () => {
  const { WebSocket } = new FakeServer();
  const check = (pattern, options, url = URL) =>
    assert.throws(() => new Sundown(url, { WebSocket, ...options }), pattern);
  check(/session: 1 to 128/, { session: 'a b' });
  check(/session: 1 to 128/, { session: '' });
  check(/session: 1 to 128/, { session: 'x'.repeat(129) });
  check(/no such option: sesion/, { sesion: 'a' });
  check(/onMismatch/, { onMismatch: 'guess' });
  check(/session is an option/, {}, `${URL}?session=a`);
  check(/url/, {}, 'ftp://x.example/');
  check(/Invalid URL/, {}, '/ws/chat/');
  const own = globalThis.WebSocket;
  delete globalThis.WebSocket;
  check(/pass one as options.WebSocket/, { WebSocket: undefined });
  if (own) globalThis.WebSocket = own;
});

test('a WebSocket that cannot be made', async () => {
  const { client, of } = await start({
    WebSocket: class {
      constructor() {
        throw new Error('mixed content');
      }
    },
  });
  assert.equal(client.state, 'failed');
  assert.match(of('state').at(-1).reason, /mixed content/);
});

test('a shutdown begins the waits anew', async () => {
  const { server, clock, of } = await start();
  clock.chance = 0.999_999;
  for (const [code, reason, ms] of [
    [1006, '', 500],
    [1006, '', 1000],
    [1001, 'server shutdown; retry-after-ms=7', 7],
    [1006, '', 500],
  ]) {
    server.last.end(code, reason);
    assert.equal(of('state').at(-1).ms, ms);
    await clock.advance(ms);
  }
});

test('close() when it has just been given up', async () => {
  const { client, server, clock } = await start();
  client.addEventListener('close', () => client.close());
  await clock.advance(75_000);
  assert.equal(client.state, 'closed');
  assert.equal(clock.timers, 0);
  assert.equal(server.sockets.length, 1);
});
