// Goal: nothing grows without bound, and who meets a limit is told which.
// Method: fill it to the brim, and once more.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { settled } from './fakes.mjs';
import { fate, start } from './support.mjs';

test('a full outbox refuses, and takes again when there is room', async () => {
  const { client, server } = await start({ outboxMax: 3 });
  server.counts = false;
  const promises = [1, 2, 3, 4].map(() => client.send('x'));
  const error = await promises[3].catch((error) => error);
  assert.equal(error.code, 'full');
  assert.match(error.message, /3 messages of 3 bytes wait/);
  assert.equal(client.pending, 3);
  server.last.count(1);
  await settled();
  server.counts = true;
  assert.equal(await fate(promises[0]), 1);
  client.send('y');
  assert.equal(client.pending, 3);
});

test('bytes are counted as they are on the wire', async () => {
  const { client, server } = await start({ outboxBytesMax: 10, messageBytesMax: 6 });
  server.counts = false;
  client.send('ééé');
  assert.equal(client.pendingBytes, 6);
  client.send(new Uint8Array(4));
  assert.equal(client.pendingBytes, 10);
  assert.equal(await fate(client.send('x')), 'full');
  assert.equal(await fate(client.send('')), 'pending');
  assert.equal(await fate(client.send('ééé!')), 'too-big');
});

test('what is no message is refused', async () => {
  const { client } = await start();
  for (const data of [undefined, null, 1, {}, []]) {
    assert.equal(await fate(client.send(data)), 'TypeError');
  }
  assert.equal(client.pending, 0);
});

test('the history is short', async () => {
  const { client, server, clock } = await start({ historyMax: 10 });
  for (let n = 0; n < 100; n += 1) {
    client.send('x');
    await settled();
    server.last.end(1006);
    await clock.advance(30_000);
  }
  assert.equal(client.history.length, 10);
  const types = new Set(client.history.map(({ type }) => type));
  assert.deepEqual([...types].sort(), ['close', 'hello', 'state']);
});

test('a failure keeps the outbox, and refuses more', async () => {
  const { client, server } = await start();
  server.counts = false;
  const offender = client.send('too much for this server');
  const next = client.send('x');
  server.last.end(1009, 'message too big');
  assert.equal(client.state, 'failed');
  assert.equal(await fate(offender), 'pending');
  assert.equal(await fate(client.send('y')), 'failed');
  server.counts = true;
  client.recover('discard');
  assert.equal(await fate(offender), 'discarded');
  assert.equal(await fate(next), 'discarded');
  assert.equal(client.state, 'open');
  assert.equal(await client.send('z'), 1);
});

test('open() after a failure tries the same again', async () => {
  const { client, server } = await start();
  server.counts = false;
  const promise = client.send('x');
  server.last.end(3000, 'go away');
  server.counts = true;
  assert.equal(await fate(promise), 'pending');
  client.open();
  assert.equal(await promise, 1);
});
