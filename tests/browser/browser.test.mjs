// Goal: what a person sees who has the page open while the server goes and comes back: notice,
// goodbye and 1001, then the same session at the exact message; and the same after a kill -9, in two
// tabs, without a network and over a reload.
// Method: a real Chromium, the built binary, real signals, and the store between two servers. What
// the page shows is compared with what the server itself says of the session. Pictures of each stage
// are in target/browser.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { network, place } from './server.mjs';
import { browse } from './webdriver.mjs';

/** Chromium's own word for what the policy of the page forbids would be among these. */
async function assertNoComplaints(browser) {
  assert.deepEqual(await browser.complaints(), []);
}

test('SIGTERM: notice, goodbye, 1001, and the count goes on', async (t) => {
  const server = await place(t);
  await server.serve();
  const browser = await browse(t);
  await browser.goto(server.page('terminated'));
  await browser.untilState('open');
  await browser.send(20);
  await browser.untilNumber('count', 20);
  await browser.untilNumber('outbox', 0);
  await browser.shoot('1-connected');

  assert.equal(await server.kill('SIGTERM'), 0);
  await browser.untilSeen('Close 1001');
  const seen = await browser.timeline();
  assert.ok(seen.some((line) => /^SIGTERM, notice: \d+ ms to drain$/.test(line)), seen.join());
  assert.ok(seen.includes('last reply: count 20'), seen.join());
  assert.ok(seen.includes('goodbye: total 20'), seen.join());
  const order = ['SIGTERM', 'goodbye', 'Close 1001'].map((beginning) =>
    seen.findIndex((line) => line.startsWith(beginning)));
  assert.deepEqual(order, [...order].sort((a, b) => a - b), seen.join());
  assert.ok(['waiting', 'connecting'].includes(await browser.state()));
  await browser.send(5);
  await browser.untilNumber('outbox', 5);
  await browser.shoot('2-goodbye');

  await server.serve();
  await browser.untilSeen('resumed: count 20');
  await browser.untilNumber('count', 25);
  await browser.untilNumber('outbox', 0);
  assert.match(await browser.text('timeline-summary'), /^Back after \d+ ms\.$/);
  await browser.send(1);
  await browser.untilNumber('count', 26);
  await browser.shoot('3-resumed');
  assert.equal(await browser.number('refused'), 0);
  await assertNoComplaints(browser);
  assert.equal(await server.count('terminated'), 26);
});

test('kill -9 in the middle of a burst: nothing lost, nothing doubled', async (t) => {
  const server = await place(t);
  await server.serve();
  const browser = await browse(t);
  await browser.goto(server.page('killed'));
  await browser.untilState('open');
  await browser.run(`window.sent = 0;
    const click = () => { document.getElementById('send').click(); window.sent += 1; };
    window.sending = setInterval(() => { for (let i = 0; i < 5; i += 1) click(); }, 5);`);
  await browser.until('some are counted', async () => (await browser.number('count')) >= 100);
  await server.kill('SIGKILL');
  await browser.untilSeen('connection lost');
  await browser.until('some wait', async () => (await browser.number('outbox')) > 0);
  await browser.run('clearInterval(window.sending)');
  await browser.shoot('4-killed');
  const sent = await browser.run('return window.sent');
  assert.ok((await browser.number('count')) < sent, 'it was in the middle of it');
  await server.serve();
  await browser.untilNumber('count', sent);
  await browser.untilNumber('outbox', 0);
  await browser.shoot('5-resumed-after-kill');
  assert.equal(await browser.number('refused'), 0);
  assert.equal(await server.count('killed'), sent);
});

test('two tabs, one session: the first says that it was taken over, and can take it back', async (t) => {
  const server = await place(t);
  await server.serve();
  const browser = await browse(t);
  await browser.goto(server.page('shared'));
  await browser.untilState('open');
  await browser.send(1);
  await browser.untilNumber('count', 1);
  const { first, second } = await browser.openTab();
  await browser.goto(server.page('shared'));
  await browser.untilNumber('count', 1);
  await browser.tab(first);
  await browser.untilState('taken');
  assert.match(await browser.text('alert-text'), /Another tab/);
  await browser.shoot('6-taken-over');
  await browser.click('take-back');
  await browser.untilState('open');
  await browser.send(1);
  await browser.untilNumber('count', 2);
  await browser.tab(second);
  await browser.untilState('taken');
  assert.equal(await server.count('shared'), 2);
});

test('offline for 10 s: what is sent meanwhile arrives once', async (t) => {
  const server = await place(t);
  await server.serve();
  const net = await network(t, server);
  const browser = await browse(t);
  await browser.goto(net.page('offline'));
  await browser.untilState('open');
  await browser.send(3);
  await browser.untilNumber('count', 3);
  net.take();
  await browser.offline(true);
  await browser.send(4);
  // This is the stimulus, and nothing is expected to have happened by its end.
  await new Promise((resolve) => setTimeout(resolve, 10_000));
  assert.equal(await browser.number('count'), 3);
  assert.equal(await browser.number('outbox'), 4);
  await browser.shoot('7-offline');
  net.giveBack();
  await browser.offline(false);
  await browser.untilNumber('count', 7);
  await browser.untilNumber('outbox', 0);
  await browser.untilState('open');
  await browser.shoot('8-online');
  assert.equal(await server.count('offline'), 7);
});

test('a reload with a full outbox: all of it is still there, and arrives once', async (t) => {
  const server = await place(t);
  await server.serve();
  const browser = await browse(t);
  await browser.goto(server.page('reloaded'));
  await browser.untilState('open');
  await server.kill('SIGKILL');
  await browser.untilState('waiting');
  // One more than there is room for.
  await browser.run('for (let i = 0; i < 1001; i += 1) document.getElementById("send").click()');
  await browser.untilNumber('outbox', 1000);
  await browser.untilNumber('refused', 1);
  await browser.shoot('9-full-outbox');
  await server.serve();
  // The page itself comes from the server; whatever it has sent by then, it sends no more.
  await browser.reload();
  await browser.untilState('open');
  await browser.untilNumber('count', 1000);
  await browser.untilNumber('outbox', 0);
  await browser.shoot('10-reloaded');
  assert.equal(await server.count('reloaded'), 1000);
});

test('on a phone and in the dark nothing is cut off', async (t) => {
  const server = await place(t);
  await server.serve();
  for (const scheme of ['light', 'dark']) {
    const browser = await browse(t, { width: 500, height: 900, scheme });
    await browser.call('POST', '/goog/cdp/execute', {
      cmd: 'Emulation.setDeviceMetricsOverride',
      params: { width: 360, height: 780, deviceScaleFactor: 2, mobile: true },
    });
    await browser.call('POST', '/goog/cdp/execute', {
      cmd: 'Emulation.setEmulatedMedia',
      params: { features: [{ name: 'prefers-color-scheme', value: scheme }] },
    });
    await browser.goto(server.page(`phone-${scheme}`));
    await browser.untilState('open');
    await browser.send(3);
    await browser.untilNumber('count', 3);
    await browser.shoot(`11-phone-${scheme}`);
    const overflow = 'return document.documentElement.scrollWidth - innerWidth';
    assert.ok((await browser.run(overflow)) <= 0, 'no scrolling to the side');
    const dark = 'return matchMedia("(prefers-color-scheme: dark)").matches';
    assert.equal(await browser.run(dark), scheme === 'dark');
    await assertNoComplaints(browser);
  }
});
