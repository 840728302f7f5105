// Goal: whatever becomes of a connection, each message is counted once, in its order, and its
// promise says its number.
// Method: a server that counts as docs/protocol.md says, and connections that end at every point
// of a message's way.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { fate, start } from './support.mjs';
import { SUBPROTOCOL, settled } from './fakes.mjs';

test('a message resolves with its number', async () => {
  const { client, server, of } = await start();
  const sent = [client.send('a'), client.send('b')];
  assert.deepEqual(await Promise.all(sent), [1, 2]);
  assert.deepEqual(server.messages, ['a', 'b']);
  assert.equal(client.count, 2);
  assert.equal(client.pending, 0);
  assert.equal(client.pendingBytes, 0);
  assert.equal(of('drain').length, 1);
});

test('what is sent before the hello waits for it', async () => {
  const { client, server } = await start({}, {});
  server.last.end(1006);
  const { client: early, server: other } = await start();
  const promise = early.send('early');
  assert.equal(await fate(promise), 1);
  assert.deepEqual(other.messages, ['early']);
  client.close();
});

test('nothing goes on the wire before the hello', async () => {
  const { client, server } = await start();
  server.greets = false;
  server.last.end(1006);
  client.send('a');
  client.open();
  await settled();
  assert.equal(server.last.readyState, 1);
  assert.deepEqual(server.last.sent, []);
  server.last.greet();
  assert.deepEqual(server.last.sent, ['a']);
});

// So many of five messages are counted, and so many of those replied to, before the end.
for (let counted = 0; counted <= 5; counted += 1) {
  for (let replied = 0; replied <= counted; replied += 1) {
    test(`the connection ends: ${counted} of 5 counted, ${replied} acknowledged`, async () => {
      const { client, server, clock } = await start();
      server.counts = server.replies = false;
      const promises = ['a', 'b', 'c', 'd', 'e'].map((data) => client.send(data));
      server.last.count(counted);
      for (let n = 1; n <= replied; n += 1) server.last.say({ count: n });
      assert.equal(client.pending, 5 - replied);
      server.last.end(1006);
      const late = client.send('f');
      server.counts = server.replies = true;
      await clock.advance(500);
      assert.deepEqual(await Promise.all([...promises, late]), [1, 2, 3, 4, 5, 6]);
      assert.deepEqual(server.messages, ['a', 'b', 'c', 'd', 'e', 'f']);
      assert.deepEqual(server.last.sent, ['a', 'b', 'c', 'd', 'e', 'f'].slice(counted));
    });
  }
}

test('a hundred connections that end at random points', async () => {
  const { client, server, clock } = await start();
  server.counts = server.replies = false;
  let seed = 7;
  const chance = (below) => (seed = (seed * 48_271) % 2_147_483_647) % below;
  const promises = [];
  for (let round = 0; round < 100; round += 1) {
    for (let many = chance(5); many > 0; many -= 1) promises.push(client.send(`${promises.length}`));
    server.last.count(chance(6));
    const { count } = server.session(client.session);
    for (let n = client.count + 1; n <= count - chance(3); n += 1) server.last.say({ count: n });
    if (chance(2)) server.last.end(chance(2) ? 1006 : 1001, 'server shutdown; retry-after-ms=10');
    await clock.advance(30_000);
  }
  server.counts = server.replies = true;
  server.last.end(1006);
  await clock.advance(30_000);
  await settled();
  assert.deepEqual(await Promise.all(promises), promises.map((_, at) => at + 1));
  assert.deepEqual(server.messages, promises.map((_, at) => `${at}`));
});

test('bytes are sent as they were', async () => {
  const { client, server } = await start();
  const bytes = new Uint8Array([1, 2, 3, 4]);
  server.last.end(1006);
  client.send(bytes.subarray(1, 3));
  client.send(bytes.buffer);
  bytes.fill(0);
  client.open();
  await settled();
  await settled();
  assert.deepEqual(server.messages, [new Uint8Array([2, 3]), new Uint8Array([1, 2, 3, 4])]);
});

test('a chosen session goes on counting where it was', async () => {
  const first = await start({ session: 'ann' });
  await first.client.send('a');
  first.client.close();
  const { client, heard } = await start({ session: 'ann' }, { server: first.server });
  assert.equal(await client.send('b'), 2);
  assert.deepEqual(heard.find(({ type }) => type === 'hello').resumed, true);
});

test('an answer for another session is not taken', async () => {
  const { client, server } = await start({ session: 'ann' });
  server.greets = false;
  server.last.end(1006);
  client.open();
  await settled();
  server.last.say({ session: 'bob', count: 0, resumed: false });
  assert.equal(client.state, 'failed');
});

test('a server that counts what was not sent is not believed', async () => {
  const { client, server } = await start();
  server.counts = false;
  const promise = client.send('a');
  server.last.say({ count: 2 });
  assert.equal(client.state, 'waiting');
  assert.equal(await fate(promise), 'pending');
});

const skip = SUBPROTOCOL !== 'sundown.v1'; // the other one is in kinds.test.mjs
test('what is not understood is handed on', { skip }, async () => {
  const { client, server, of } = await start();
  for (const data of ['no JSON', 'null', '{"count":-1}', '{"count":"1"}', '[]', '{"new":1}']) {
    server.last.onmessage({ data });
  }
  server.last.onmessage({ data: new ArrayBuffer(2) });
  assert.equal(of('message').length, 7);
  assert.equal(client.state, 'open');
});

test('a goodbye that speaks of more than was sent acknowledges what was sent', async () => {
  const { client, server } = await start();
  server.last.say({ shutdown: true, drain_ms: 1, reconnect_ms: 1 });
  const promise = client.send('not on the wire');
  server.last.say({ bye: true, total: 9 });
  assert.equal(await fate(promise), 'pending');
});
