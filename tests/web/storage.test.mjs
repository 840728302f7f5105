// Goal: an outbox in a storage survives the page, is sent by one client only, and a storage that
// fails costs no more than the storage.
// Method: clients one after the other, and two at once, on one storage or on a copy of it.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Sundown } from '../../src/web/sundown.js';
import { FakeClock, FakePage, FakeServer, FakeStorage, settled } from './fakes.mjs';
import { URL, fate, start } from './support.mjs';

/** The page is gone without a word: its client says and hears nothing any more. */
function crash({ client, server }) {
  for (const socket of server.sockets) socket.readyState = 3;
  client.dispatchEvent = () => true;
}

/** It has asked others whether they live, which takes real time. */
async function opened(client) {
  while (client.state !== 'open') {
    await new Promise((resolve) => client.addEventListener('state', resolve, { once: true }));
  }
}

test('a reload goes on with the session and the outbox', async () => {
  const storage = new FakeStorage();
  const first = await start({ storage });
  await first.client.send('a');
  first.server.counts = first.server.replies = false;
  first.client.send('b');
  first.client.send('c\u0000"é');
  first.client.send(new Uint8Array([0, 255]));
  first.server.last.count(1); // b arrives, and nobody hears of it
  crash(first);
  first.server.counts = first.server.replies = true;
  const { client, server } = await start({ storage }, { server: first.server });
  await settled();
  assert.equal(client.session, first.client.session);
  assert.equal(client.count, 4);
  assert.deepEqual(server.messages, ['a', 'b', 'c\u0000"é', new Uint8Array([0, 255])]);
  assert.equal(await client.send('d'), 5);
  assert.equal(storage.map.size, 1, 'the header is all that is left');
});

test('what was sent before the first hello survives, too', async () => {
  const storage = new FakeStorage();
  const server = new FakeServer();
  server.accepts = false;
  server.session('ann').count = 3;
  const first = await start({ storage, session: 'ann' }, { server });
  first.client.send('a');
  crash(first);
  server.accepts = true;
  const { client } = await start({ storage, session: 'ann' }, { server });
  await settled();
  assert.deepEqual(server.messages, ['a']);
  assert.equal(client.count, 4);
  assert.equal(client.state, 'open');
});

test('close() leaves the outbox to the next client', async () => {
  const storage = new FakeStorage();
  const { client, server } = await start({ storage });
  server.counts = false;
  const promise = client.send('a');
  client.close();
  const error = await promise.catch((error) => error);
  assert.deepEqual([error.code, error.sent, error.kept], ['closed', true, true]);
  server.counts = true;
  client.open();
  await new Promise((resolve) => client.addEventListener('drain', resolve));
  assert.deepEqual(server.messages, ['a']);
  assert.equal(client.count, 1);
});

test('two tabs with one record: the later one has it', async () => {
  const storage = new FakeStorage();
  const first = await start({ storage });
  const { server } = first;
  server.counts = false;
  const a = first.client.send('a');
  const second = await start({ storage }, { server });
  assert.equal(second.client.session, first.client.session);
  assert.equal(first.client.state, 'taken');
  const error = await a.catch((error) => error);
  assert.deepEqual([error.code, error.sent, error.kept], ['taken-over', true, true]);
  assert.equal(await fate(first.client.send('b')), 'taken-over');
  server.counts = true;
  server.last.count();
  await settled();
  assert.deepEqual(server.messages, ['a']);

  server.counts = false;
  second.client.send('c');
  first.client.open(); // “take it back”
  await settled();
  await settled();
  assert.equal(second.client.state, 'taken');
  assert.deepEqual(first.server.last.sent, ['c'], 'what was in the record came with it');
});

test('a tab whose record was taken while it was away does not come back', async () => {
  const storage = new FakeStorage();
  const first = await start({ storage });
  const { server } = first;
  server.last.end(1006);
  const second = await start({ storage }, { server });
  await first.clock.advance(1000);
  assert.equal(first.client.state, 'taken');
  assert.equal(second.client.state, 'open');
  assert.equal(server.sockets.length, 2);
});

test('a tab that writes too late is overruled', async () => {
  const storage = new FakeStorage();
  const first = await start({ storage });
  const stale = new Map(storage.map);
  const second = await start({ storage }, { server: first.server });
  storage.map = stale;
  assert.equal(await second.client.send('a'), 1);
  assert.equal(second.client.state, 'open');
  crash(second);
  const third = await start({ storage }, { server: first.server });
  assert.equal(third.client.session, second.client.session);
});

test('only the session is taken: what was on the wire is in doubt, the rest stays', async () => {
  const { client, server } = await start({ session: 'ann', storage: new FakeStorage() });
  server.counts = false;
  const a = client.send('a');
  server.last.say({ shutdown: true, drain_ms: 1, reconnect_ms: 1 });
  const b = client.send('b');
  const other = await start({ session: 'ann' }, { server });
  assert.equal(client.state, 'taken');
  const error = await a.catch((error) => error);
  assert.deepEqual([error.code, error.sent, error.kept], ['taken-over', true, false]);
  assert.equal(await fate(b), 'pending');
  server.counts = true;
  assert.equal(await other.client.send('x'), 1);
  client.open();
  await settled();
  await settled();
  assert.equal(await fate(b), 2);
  assert.deepEqual(server.messages, ['x', 'b']);
  assert.equal(other.client.state, 'taken');
});

test('a duplicated tab begins a session of its own', async (t) => {
  const storage = new FakeStorage();
  globalThis.sessionStorage = storage;
  t.after(() => delete globalThis.sessionStorage);
  const first = await start({ storage });
  const { server } = first;
  server.counts = false;
  first.client.send('a');
  const copy = storage.copy();
  globalThis.sessionStorage = copy;
  const second = await start({ storage: copy }, { server });
  await opened(second.client);
  assert.notEqual(second.client.session, first.client.session);
  assert.equal(second.client.pending, 0);
  assert.equal(first.client.state, 'open');
  assert.equal(copy.map.size, 1, 'the messages of the original are gone from the copy');
  server.counts = true;
  assert.equal(await second.client.send('b'), 1);
});

test('a reload does not ask whether the tab that it was still lives', async (t) => {
  const storage = new FakeStorage();
  const page = new FakePage();
  globalThis.sessionStorage = storage;
  globalThis.window = page;
  t.after(() => {
    delete globalThis.sessionStorage;
    delete globalThis.window;
  });
  const first = await start({ storage });
  page.tell('pagehide');
  const second = await start({ storage }, { server: first.server });
  assert.equal(second.client.state, 'open', 'without a wait');
  assert.equal(second.client.session, first.client.session);
  page.tell('pageshow', { persisted: true }); // of the first, that has been in the cache
  await first.clock.advance(1000);
  assert.equal(first.client.state, 'taken');
});

test('a crashed tab is succeeded when nobody answers for it', async (t) => {
  const storage = new FakeStorage();
  const other = await start({ storage }); // not the tab's own storage: it answers nobody
  globalThis.sessionStorage = storage;
  t.after(() => delete globalThis.sessionStorage);
  const { client } = await start({ storage }, { server: other.server });
  await opened(client);
  assert.equal(client.session, other.client.session);
});

test('a full storage is told, and costs no message', async () => {
  const storage = new FakeStorage();
  const first = await start({ storage });
  const { client, server, of } = first;
  server.counts = false;
  client.send('a');
  storage.room = 10;
  client.send('b');
  client.send('c');
  assert.equal(of('storage').length, 1, 'once, not for each message');
  assert.match(String(of('storage')[0].error), /full/);
  assert.equal(storage.map.size, 0, 'half a record is worse than none');
  const d = client.send('d');
  server.last.count();
  await settled();
  assert.equal(await fate(d), 4);
  storage.room = Infinity;
  client.send('e');
  crash(first);
  server.counts = true;
  const second = await start({ storage }, { server });
  await settled();
  assert.equal(second.client.count, 5, 'it was written down again');
});

test('a storage that throws at everything', async () => {
  const storage = new FakeStorage();
  storage.isBroken = true;
  const { client, of } = await start({ storage });
  assert.equal(await client.send('a'), 1);
  assert.equal(of('storage').length, 1);
  client.close();
});

test('a record that is none is not taken for one', async () => {
  for (const text of ['', '{', 'null', '{"v":2}', '{"v":1,"session":"a b","count":0}']) {
    const storage = new FakeStorage();
    storage.setItem('k', text);
    const { client } = await start({ storage, key: 'k' });
    assert.equal(await client.send('a'), 1);
  }
});

test('sessions have records of their own', async () => {
  const storage = new FakeStorage();
  const ann = await start({ storage, session: 'ann' });
  const bob = await start({ storage, session: 'bob' }, { server: ann.server });
  assert.equal(ann.client.state, 'open');
  assert.equal(bob.client.state, 'open');
});

test('the record is taken, and the server has not said so yet', async () => {
  const storage = new FakeStorage();
  const first = await start({ storage });
  const { server } = first;
  server.greets = false;
  const second = await start({ storage }, { server });
  const promise = first.client.send('a');
  const error = await promise.catch((error) => error);
  assert.deepEqual([error.code, error.sent, error.kept], ['taken-over', false, false]);
  assert.equal(first.client.state, 'taken');
  assert.equal(storage.map.size, 1, 'nothing of it is in the record of the other');
  server.last.greet();
  assert.equal(second.client.state, 'open');
});

test('replies to a tab whose record is taken do not touch the record', async () => {
  const storage = new FakeStorage();
  const first = await start({ storage });
  const { server } = first;
  server.counts = server.replies = false;
  first.client.send('a');
  server.greets = false;
  const second = await start({ storage }, { server });
  server.sockets[0].count();
  server.sockets[0].say({ count: 1 });
  crash(second);
  server.greets = server.counts = true;
  const third = await start({ storage }, { server });
  assert.equal(third.client.count, 1);
  assert.deepEqual(server.messages, ['a']);
});

test('what was given up is not in the record any more', async () => {
  const storage = new FakeStorage();
  const first = await start({ storage, session: 'ann' });
  const { server } = first;
  server.counts = false;
  first.client.send('given up');
  server.sessions.get('ann').count = 5;
  server.last.end(1006);
  first.client.open();
  await settled();
  first.client.recover('discard');
  crash(first);
  server.counts = true;
  const second = await start({ storage, session: 'ann' }, { server });
  assert.equal(second.client.pending, 0);
  assert.equal(second.client.state, 'open');
});

test('what was in doubt at a takeover is not in the record any more', async () => {
  const storage = new FakeStorage();
  const first = await start({ storage, session: 'ann' });
  const { server } = first;
  server.counts = false;
  first.client.send('in doubt');
  await start({ session: 'ann' }, { server });
  assert.equal(first.client.state, 'taken');
  crash(first);
  server.counts = true;
  const second = await start({ storage, session: 'ann' }, { server });
  assert.equal(second.client.pending, 0);
  assert.deepEqual(server.messages, []);
});

test('a session that is taken back is no surprise, whatever it has counted', async () => {
  const { client, server, of } = await start({ session: 'ann' });
  await client.send('a');
  await start({ session: 'ann' }, { server });
  server.session('ann').count = 0;
  client.open();
  await settled();
  await settled();
  assert.equal(client.state, 'open');
  assert.deepEqual(of('mismatch'), []);
});

test('an attempt without a hello forgives no tab that has the record', async () => {
  const storage = new FakeStorage();
  const first = await start({ storage });
  const { server, clock } = first;
  server.greets = false;
  server.last.end(1006);
  await clock.advance(500);
  server.last.end(1006);
  server.greets = true;
  await clock.advance(1000);
  assert.equal(first.client.state, 'open');
  await start({ storage }, { server });
  assert.equal(first.client.state, 'taken');
});

test('close() while it asks whether the tab lives', async (t) => {
  const storage = new FakeStorage();
  const other = await start({ storage });
  globalThis.sessionStorage = storage;
  t.after(() => delete globalThis.sessionStorage);
  const { client, server } = await start({ storage }, { server: other.server });
  client.close();
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.equal(client.state, 'closed');
  assert.equal(server.sockets.length, 1);
});

test('what a header left behind is nobody’s message', async () => {
  const storage = new FakeStorage();
  const first = await start({ storage, session: 'ann', key: 'k' });
  first.server.counts = false;
  first.client.send('a');
  crash(first);
  storage.removeItem('k:ann');
  storage.setItem('k:ann:2', 'tb');
  first.server.counts = true;
  const { client, server } = await start({ storage, session: 'ann', key: 'k' });
  await client.send('c');
  crash({ client, server });
  const next = await start({ storage, session: 'ann', key: 'k' }, { server });
  assert.equal(next.client.pending, 0);
  assert.deepEqual(server.messages, ['c']);
});

test('what was sent before it began is kept, too', async () => {
  const server = new FakeServer();
  server.accepts = false;
  const [clock, storage] = [new FakeClock(), new FakeStorage()];
  const client = new Sundown(URL, { WebSocket: server.WebSocket, storage, clock });
  const promise = client.send('a');
  await settled();
  server.accepts = true;
  await start({ storage }, { server });
  server.sockets[0].end(1006);
  await clock.advance(1000);
  const error = await promise.catch((error) => error);
  assert.deepEqual([error.code, error.sent, error.kept], ['taken-over', false, true]);
  await settled();
  assert.deepEqual(server.messages, ['a']);
});
