// Goal: with sundown.v2 each push reaches the listener once, in its order, whatever becomes of the
// connection or the page; the server is told which have, and is let go when nothing more comes.
// Method: a server that keeps pushes until they are confirmed, and numbers of every kind.

import assert from 'node:assert/strict';
import { test as nodeTest } from 'node:test';

import { FakePage, FakeServer, FakeStorage, SUBPROTOCOL, settled } from './fakes.mjs';
import { fate, start } from './support.mjs';

const skip = SUBPROTOCOL !== 'sundown.v2';
const test = (name, run) => nodeTest(name, { skip }, run);

/** What a push or a reply has said, as far as it is a text, and its number. */
const heardOf = (of) => of('message').map(({ data, number }) => [number, data]);

test('a push has its number, text and bytes alike, and a reply has none', async () => {
  const { client, server, of } = await start({ session: 'ann' });
  server.push('ann', 'a b');
  server.push('ann', new Uint8Array([0, 32, 255]));
  server.push('ann', '');
  server.last.hear('rseen');
  server.last.hear('r');
  server.last.hear(new Uint8Array([114, 0, 255]).buffer);
  assert.deepEqual(heardOf(of), [
    [1, 'a b'],
    [2, new Uint8Array([0, 32, 255]).buffer],
    [3, ''],
    [undefined, 'seen'],
    [undefined, ''],
    [undefined, new Uint8Array([0, 255]).buffer],
  ]);
  assert.equal(client.received, 3);
});

test('everybody is told, and the clock', async () => {
  const { server, of } = await start();
  server.last.hear('o{"broadcast":{"count":9}}');
  server.last.hear('k2026-11-22T13:19:00.000Z');
  assert.deepEqual(of('broadcast'), [{ type: 'broadcast', data: { count: 9 } }]);
  assert.deepEqual(of('heartbeat'), [{ type: 'heartbeat', ts: '2026-11-22T13:19:00.000Z' }]);
});

test('kinds of later servers are nobody’s yet', async () => {
  const { client, server, heard } = await start();
  const before = heard.length;
  const binary = [[], [0], [116, 32]].map((list) => new Uint8Array(list).buffer);
  const texts = ['', 't a 1 b', 's{"topic":"a"}', 'x', '{"count":1}', 'h', 'hnull', 'c', 'cx', 'c-1'];
  for (const data of [...texts, 'm', 'm1', 'm-1 a', 'mx a', ...binary]) server.last.hear(data);
  assert.deepEqual(heard.slice(before).filter(({ type }) => type !== 'count'), []);
  assert.equal(client.state, 'open');
  assert.equal(client.received, 0);
});

test('pushes are confirmed sixteen at a time, or after a second', async () => {
  const { client, server, clock } = await start({ session: 'ann' });
  for (let n = 1; n <= 35; n += 1) server.push('ann', `${n}`);
  assert.deepEqual(server.last.controls, ['a16', 'a32']);
  await clock.advance(999);
  assert.deepEqual(server.last.controls, ['a16', 'a32']);
  await clock.advance(1);
  assert.deepEqual(server.last.controls, ['a16', 'a32', 'a35']);
  await clock.advance(10_000);
  assert.equal(server.last.controls.length, 3);
  assert.deepEqual(server.session('ann').pushes, []);
  server.push('ann', 'the last');
  client.close();
  assert.equal(clock.timers, 0);
});

test('a connection that ends: the next one tells what has been received', async () => {
  const { server, clock, of } = await start({ session: 'ann' });
  assert.equal(server.last.query.has('received'), false);
  for (const data of ['a', 'b']) server.push('ann', data);
  server.last.end(1006);
  server.session('ann').owner = undefined;
  server.push('ann', 'c');
  await clock.advance(500);
  assert.equal(server.last.query.get('received'), '2');
  assert.equal(server.last.query.get('incarnation'), '1');
  assert.deepEqual(heardOf(of), [[1, 'a'], [2, 'b'], [3, 'c']]);
});

test('what a server repeats is not heard again, and confirmed again', async () => {
  const { server, clock, of } = await start({ session: 'ann' });
  server.push('ann', 'a');
  server.last.deliver(1, 'a');
  assert.deepEqual(heardOf(of), [[1, 'a']]);
  await clock.advance(1000);
  server.last.deliver(1, 'a');
  await clock.advance(1000);
  assert.deepEqual(server.last.controls, ['a1', 'a1']);
  assert.equal(of('message').length, 1);
});

test('a hundred connections that end at random points', async () => {
  const { server, clock, of } = await start({ session: 'ann' });
  let seed = 11;
  const chance = (below) => (seed = (seed * 48_271) % 2_147_483_647) % below;
  let pushed = 0;
  for (let round = 0; round < 100; round += 1) {
    for (let many = chance(40); many > 0; many -= 1) server.push('ann', `${(pushed += 1)}`);
    await clock.advance(chance(2_000));
    if (chance(2)) {
      server.last.end(1006);
      server.session('ann').owner = undefined;
    }
  }
  await clock.advance(30_000);
  assert.deepEqual(heardOf(of), Array.from({ length: pushed }, (_, at) => [at + 1, `${at + 1}`]));
  assert.deepEqual(server.session('ann').pushes, []);
});

test('a reload goes on behind the last push', async () => {
  const storage = new FakeStorage();
  const first = await start({ storage });
  const { server } = first;
  const { session } = first.client;
  for (const data of ['a', 'b', 'c']) server.push(session, data);
  // The page is gone without a word, and nothing was confirmed.
  for (const socket of server.sockets) socket.readyState = 3;
  server.session(session).owner = undefined;
  server.push(session, 'd');
  const second = await start({ storage }, { server });
  assert.equal(second.client.session, session);
  assert.equal(server.last.query.get('received'), '3');
  assert.deepEqual(heardOf(second.of), [[4, 'd']]);
  assert.deepEqual(second.of('mismatch'), []);
  second.client.close();
  second.client.open();
  await settled();
  await settled();
  assert.equal(server.last.query.get('received'), '4');
});

test('a page that is closed by what a push says has received it', async () => {
  const storage = new FakeStorage();
  const first = await start({ storage });
  const { server } = first;
  first.client.addEventListener('message', () => first.client.close());
  server.push(first.client.session, 'go away');
  assert.equal(first.clock.timers, 0);
  const second = await start({ storage }, { server });
  assert.deepEqual(heardOf(second.of), []);
  assert.equal(second.client.received, 1);
});

test('who writes another session into the record begins at its first push', async () => {
  const storage = new FakeStorage();
  const { client, server } = await start({ storage });
  server.push(client.session, 'a');
  const header = JSON.parse(storage.getItem([...storage.map.keys()][0]));
  delete header.inbox; // as the client of sundown.v1 leaves it
  Object.assign(header, { session: 'bob', generation: header.generation + 1 });
  storage.setItem([...storage.map.keys()][0], JSON.stringify(header));
  server.push(client.session, 'b');
  assert.equal(client.state, 'taken');
  server.push('bob', 'x');
  client.open();
  await settled();
  await settled();
  assert.equal(client.session, 'bob');
  assert.equal(server.last.query.has('received'), false);
  assert.equal(client.received, 1);
});

test('a tab whose record is taken hears no more pushes', async () => {
  const storage = new FakeStorage();
  const first = await start({ storage });
  const { server } = first;
  server.greets = false;
  const second = await start({ storage }, { server });
  server.push(first.client.session, 'a');
  assert.equal(first.client.state, 'taken');
  assert.deepEqual(heardOf(first.of), []);
  server.last.greet();
  assert.deepEqual(heardOf(second.of), [[1, 'a']]);
});

for (const [reason, change] of [
  ['expired', (server) => server.sessions.delete('ann')],
  ['behind', (server) => Object.assign(server.session('ann'), { sent: 0, pushes: [] })],
]) {
  test(`${reason}: pushes are numbered anew, and it is told`, async () => {
    const { client, server, clock, of } = await start({ session: 'ann' });
    for (const data of ['a', 'b']) server.push('ann', data);
    change(server);
    server.push('ann', 'c');
    server.last.end(1006);
    await clock.advance(500);
    assert.deepEqual(of('mismatch'), [{
      ...{ type: 'mismatch', reason, count: 0, acknowledged: 0, doubtful: 0, isHeld: false },
      ...{ received: 2, sent: 1 },
    }]);
    assert.deepEqual(heardOf(of), [[1, 'a'], [2, 'b'], [1, 'c']]);
    assert.equal(client.state, 'open');
    server.last.end(1006);
    await clock.advance(1000);
    assert.equal(of('mismatch').length, 1, 'once');
    assert.equal(server.last.query.get('received'), '1');
  });
}

test('only pushes are missing: what was on the wire goes again, once', async () => {
  const { client, server, clock, of } = await start({ session: 'ann' });
  server.push('ann', 'a');
  server.counts = false;
  const [x, y] = [client.send('x'), client.send('y')];
  server.last.count(1);
  Object.assign(server.session('ann'), { sent: 0, pushes: [] });
  server.last.end(1006);
  server.counts = true;
  await clock.advance(500);
  assert.deepEqual(await Promise.all([x, y]), [1, 2]);
  assert.deepEqual(server.messages, ['x', 'y']);
  assert.equal(of('mismatch')[0].reason, 'behind');
});

test('another life of the session, in which someone has counted further', async () => {
  const { client, server, clock, of } = await start({ session: 'ann' });
  await client.send('a');
  server.counts = false;
  const b = client.send('b');
  server.sessions.delete('ann');
  server.session('ann').count = 2;
  server.last.end(1006);
  await clock.advance(500);
  assert.equal(client.state, 'held', 'its count says nothing of ours');
  assert.equal(of('mismatch')[0].reason, 'expired');
  server.push('ann', 'p');
  assert.deepEqual(heardOf(of), [[1, 'p']], 'pushes are no matter of the outbox');
  server.last.end(1006);
  await clock.advance(1000);
  assert.equal(client.state, 'held', 'another connection changes nothing');
  server.counts = true;
  client.recover('resend');
  assert.equal(await b, 3);
  server.last.end(1006);
  await clock.advance(1000);
  assert.equal(client.state, 'open');
  assert.equal(of('mismatch').length, 2, 'once for each hello that was held');
});

test('a session that has held nothing may begin anew unnoticed', async () => {
  const { client, server, clock, of } = await start({ session: 'ann' });
  server.sessions.delete('ann');
  server.last.end(1006);
  await clock.advance(500);
  assert.equal(await client.send('a'), 1);
  assert.deepEqual(of('mismatch'), []);
});

const notice = { shutdown: true, drain_ms: 2500, reconnect_ms: 131 };

test('the notice is answered at once where what is new is held', async () => {
  const { client, server, clock } = await start({ session: 'ann' });
  server.counts = false;
  const a = client.send('a');
  server.push('ann', 'p');
  server.last.say(notice);
  assert.deepEqual(server.last.controls, ['a1', 'q']);
  server.push('ann', 'last words');
  await clock.advance(1000);
  assert.deepEqual(server.last.controls, ['a1', 'q', 'a2']);
  const b = client.send('b');
  server.last.count();
  assert.equal(await fate(a), 1, 'replies still come');
  assert.deepEqual(server.last.sent, ['a']);
  server.last.say(notice);
  assert.deepEqual(server.last.controls, ['a1', 'q', 'a2'], 'once');
  server.last.end(1001, 'server shutdown; retry-after-ms=7');
  server.counts = true;
  await clock.advance(7);
  assert.equal(await b, 2);
  assert.deepEqual(server.last.controls, []);
});

test('who is in a hurry answers when the outbox is empty, and holds from then on', async () => {
  const { client, server, clock } = await start({ holdAtNotice: false });
  server.counts = false;
  client.send('a');
  server.last.say(notice);
  client.send('b');
  assert.deepEqual(server.last.sent, ['a', 'b']);
  server.last.count(1);
  await settled();
  assert.deepEqual(server.last.controls, []);
  server.last.count(1);
  await settled();
  assert.deepEqual(server.last.controls, ['q']);
  const c = client.send('c');
  assert.deepEqual(server.last.sent, ['a', 'b']);
  server.last.end(1001, 'server shutdown; retry-after-ms=0');
  server.counts = true;
  await clock.advance(0);
  assert.equal(await c, 3);
});

test('who is held answers, and what is recovered then goes to the next server', async () => {
  const { client, server, clock } = await start({ session: 'ann', holdAtNotice: false });
  await client.send('a');
  server.counts = false;
  const b = client.send('b');
  server.sessions.delete('ann');
  server.last.end(1006);
  await clock.advance(500);
  assert.equal(client.state, 'held');
  server.last.say(notice);
  assert.deepEqual(server.last.controls, ['q']);
  client.recover('resend');
  assert.equal(client.state, 'draining');
  assert.deepEqual(server.last.sent, []);
  server.last.end(1001, 'server shutdown; retry-after-ms=0');
  server.counts = true;
  await clock.advance(0);
  assert.equal(await b, 1);
});

test('a notice before the hello is answered after it', async () => {
  const server = new FakeServer();
  server.greets = false;
  const { client } = await start({}, { server });
  client.send('a');
  server.last.say(notice);
  assert.deepEqual(server.last.controls, []);
  server.last.greet();
  assert.deepEqual(server.last.controls, ['q']);
  assert.deepEqual(server.last.sent, []);
  assert.equal(client.state, 'draining');
});

test('a page that goes to the cache and comes back goes on behind the last push', async (t) => {
  const page = new FakePage();
  globalThis.window = page;
  t.after(() => delete globalThis.window);
  const storage = new FakeStorage();
  const { client, server, clock, of } = await start({ storage });
  server.push(client.session, 'a');
  page.tell('pagehide');
  page.tell('pageshow', { persisted: true });
  server.push(client.session, 'b');
  await clock.advance(0);
  assert.deepEqual(heardOf(of), [[1, 'a'], [2, 'b']]);
});
