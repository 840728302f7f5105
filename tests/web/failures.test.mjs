// Goal: a message on which the service fails is not sent for ever: after three closes with 1011 at
// it the client stops, and says which it was.
// Method: a server that closes with 1011 at a message of the test's choice, and before it.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { settled } from './fakes.mjs';
import { fate, start } from './support.mjs';

const reason = 'the service failed on this message';

/** The service fails: so many messages before the offender are counted, and nothing behind it. */
async function fail({ server, clock }, counted = 0) {
  server.last.count(counted);
  await settled();
  server.last.end(1011, reason);
  await clock.advance(30_000);
  await settled();
}

async function offended(options) {
  const all = await start(options);
  all.server.counts = false;
  const promises = ['a', 'bad', 'c'].map((data) => all.client.send(data));
  await fail(all, 1);
  await fail(all);
  assert.equal(all.client.state, 'open');
  assert.deepEqual(all.of('error'), []);
  await fail(all);
  return { ...all, promises };
}

test('three times at the same message: it is told, and not sent again', async () => {
  const { client, server, clock, of, promises } = await offended();
  assert.equal(client.state, 'failed');
  assert.deepEqual(of('error'), [{ type: 'error', number: 2, data: 'bad', reason }]);
  const { state, code } = of('state').at(-1);
  assert.deepEqual([state, code], ['failed', 1011]);
  await clock.advance(100_000);
  assert.equal(server.sockets.length, 3);
  assert.equal(clock.timers, 0);
  assert.equal(await fate(promises[0]), 1);
  assert.equal(await fate(promises[1]), 'pending');
});

test('skip gives up that message only', async () => {
  const { client, server, promises } = await offended();
  server.counts = true;
  client.recover('skip');
  assert.deepEqual(await Promise.all(promises.map(fate)), [1, 'discarded', 2]);
  assert.deepEqual(server.messages, ['a', 'c']);
  assert.equal(client.state, 'open');
});

test('a listener may decide at once', async () => {
  const all = await start();
  const { client, server } = all;
  client.addEventListener('error', () => client.recover('skip'));
  server.counts = false;
  const bad = client.send(new Uint8Array([1]));
  for (let n = 0; n < 3; n += 1) await fail(all);
  assert.equal(await fate(bad), 'discarded');
  assert.deepEqual(all.of('error')[0].data, new Uint8Array([1]));
  server.counts = true;
  assert.equal(await client.send('good'), 1);
});

test('open() tries it three times more', async () => {
  const all = await offended();
  const { client, of } = all;
  client.open();
  await settled();
  for (let n = 0; n < 3; n += 1) {
    assert.equal(client.state, 'open');
    await fail(all);
  }
  assert.equal(client.state, 'failed');
  assert.equal(of('error').length, 2);
});

test('other messages are other matters', async () => {
  const all = await start();
  all.server.counts = false;
  const promises = ['a', 'b', 'c', 'd', 'e', 'f'].map((data) => all.client.send(data));
  for (let n = 0; n < 3; n += 1) {
    await fail(all);
    await fail(all, 1); // it was counted this time, and the next one fails
  }
  assert.equal(all.client.state, 'open');
  all.server.counts = true;
  all.server.last.count();
  assert.deepEqual(await Promise.all(promises), [1, 2, 3, 4, 5, 6]);
});

test('without a message on the wire it is no message’s fault', async () => {
  const all = await start();
  for (let n = 0; n < 5; n += 1) await fail(all);
  assert.equal(all.client.state, 'open');
  all.server.greets = all.server.counts = false;
  all.client.send('a');
  all.server.last.end(1006);
  await all.clock.advance(500);
  for (let n = 0; n < 5; n += 1) {
    all.server.last.end(1011, 'a proxy');
    await all.clock.advance(30_000);
  }
  assert.equal(all.client.state, 'connecting');
  assert.deepEqual(all.of('error'), []);
});

test('the other ends between them change nothing', async () => {
  const all = await start();
  const { client, server, clock } = all;
  server.counts = false;
  client.send('bad');
  await fail(all);
  server.last.end(1006);
  await clock.advance(30_000);
  await fail(all);
  assert.equal(client.state, 'open');
  await fail(all);
  assert.equal(client.state, 'failed');
});
