// Goal: where the server's count contradicts the client's, a person decides, and not a guess.
// Method: stores that forget, that go back in time, and that someone else has used.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { SUBPROTOCOL, settled } from './fakes.mjs';
import { fate, start } from './support.mjs';

/** Acknowledged: a, b. On the wire, and not acknowledged: c, d. Not on the wire: e. */
async function halfSaid(options, change) {
  const all = await start({ session: 'ann', ...options });
  const { client, server, clock } = all;
  await client.send('a');
  await client.send('b');
  server.counts = false;
  const [c, d] = [client.send('c'), client.send('d')];
  change(server.session('ann'), server);
  server.last.end(1006);
  const e = client.send('e');
  server.counts = true;
  await clock.advance(500);
  await settled();
  return { ...all, promises: [c, d, e] };
}

const expire = (session, { sessions }) => sessions.delete('ann');
const goBack = (session) => (session.count = 1);
const foreign = (session) => (session.count = 7);

for (const [reason, change, count] of [
  ['expired', expire, 0],
  ['behind', goBack, 1],
  ['ahead', foreign, 7],
]) {
  test(`${reason}: nothing is sent until someone has decided`, async () => {
    const { client, server, of, promises, clock } = await halfSaid({}, change);
    assert.equal(client.state, 'held');
    const pushes = SUBPROTOCOL === 'sundown.v2' && { received: 0, sent: 0 };
    assert.deepEqual(of('mismatch'), [
      { type: 'mismatch', reason, count, acknowledged: 2, doubtful: 2, isHeld: true, ...pushes },
    ]);
    assert.deepEqual(server.last.sent, []);
    const f = client.send('f');
    assert.equal(await fate(f), 'pending');
    server.last.end(1006);
    await clock.advance(1000);
    assert.equal(client.state, 'held', 'another connection changes nothing');
    client.recover('resend');
    assert.equal(client.state, 'open');
    assert.deepEqual(server.last.sent, ['c', 'd', 'e', 'f']);
    const numbers = [1, 2, 3, 4].map((n) => count + n);
    assert.deepEqual(await Promise.all([...promises, f]), numbers);
  });

  test(`${reason}: what is in doubt is given up`, async () => {
    const { client, server, promises } = await halfSaid({}, change);
    client.recover('discard');
    assert.deepEqual(server.last.sent, ['e']);
    const fates = await Promise.all(promises.map(fate));
    assert.deepEqual(fates, ['discarded', 'discarded', count + 1]);
  });

  for (const onMismatch of ['resend', 'discard']) {
    test(`${reason}: ${onMismatch}, as was said before`, async () => {
      const { client, server, of } = await halfSaid({ onMismatch }, change);
      assert.equal(client.state, 'open');
      assert.equal(of('mismatch')[0].isHeld, false);
      assert.deepEqual(server.last.sent, onMismatch === 'resend' ? ['c', 'd', 'e'] : ['e']);
    });
  }
}

test('recover() while it is away holds for the next hello', async () => {
  const { client, server, promises, clock } = await halfSaid({}, expire);
  server.last.end(1006);
  client.recover('resend');
  assert.equal(client.state, 'waiting');
  await clock.advance(1000);
  assert.deepEqual(await Promise.all(promises.map(fate)), [1, 2, 3]);
});

test('recover() where there is nothing to recover from does nothing', async () => {
  const { client, server } = await start();
  server.counts = false;
  const promise = client.send('a');
  client.recover('discard');
  assert.equal(await fate(promise), 'pending');
  assert.throws(() => client.recover('guess'), TypeError);
});

test('with nothing in doubt it is told, and goes on', async () => {
  const { client, server, clock, of } = await start({ session: 'ann' });
  await client.send('a');
  server.sessions.delete('ann');
  server.last.end(1006);
  const b = client.send('b');
  await clock.advance(500);
  assert.equal(await fate(b), 1);
  assert.equal(of('mismatch')[0].reason, 'expired');
  server.session('ann').count = 9;
  server.last.end(1006);
  await clock.advance(5000);
  assert.equal(await fate(client.send('c')), 10);
  assert.equal(of('mismatch').length, 1, 'someone else has counted; nothing of ours is in doubt');
});
