// Goal: the types name what the module has: its options, its events, its errors, its members.
// Method: both texts are read; what one has and the other has not is named.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { Sundown } from '../../src/web/sundown.js';

const read = (name) => readFileSync(new URL(`../../src/web/${name}`, import.meta.url), 'utf8');
const [code, types] = [read('sundown.js'), read('sundown.d.ts')];

/** What a pattern finds, sorted, each once; between two lines if they are given. */
function found(text, pattern, from = '', to = '') {
  const start = text.indexOf(from);
  const part = text.slice(start, to ? text.indexOf(to, start) : undefined);
  return [...new Set([...part.matchAll(pattern)].map(([, name]) => name))].sort();
}

test('options', () => {
  const has = found(code, /^ {2}(\w+):/gm, 'const DEFAULTS', '\n};');
  assert.deepEqual(found(types, /^ {2}(\w+)\?:/gm, 'interface Options', '\n}'), has);
  assert.ok(has.length > 10);
});

test('events', () => {
  const has = found(code, /(?:#emit\(|, )'(\w+)', \{/g);
  assert.deepEqual(found(types, /^ {2}(\w+): [R{]/gm, 'interface Details', '\n}'), has);
});

test('states and codes of errors', () => {
  const states = found(code, /#setState\('(\w+)'/g).concat('starting').sort();
  assert.deepEqual(found(types, /\| '(\w+)'/g, 'type State', ';\n'), states);
  const codes = found(code, /SundownError\('([\w-]+)'/g).concat('failed').sort();
  assert.deepEqual(found(types, /'([\w-]+)'/g, 'type ErrorCode', ';'), codes);
});

test('members', () => {
  const own = Object.getOwnPropertyNames(Sundown.prototype).filter((name) => name !== 'constructor');
  const declared = found(types, /^ {2}(?:readonly )?(\w+)[(:]/gm, 'class Sundown ', '\n}');
  const inherited = ['constructor', 'addEventListener', 'removeEventListener'];
  assert.deepEqual(declared.filter((name) => !inherited.includes(name)), own.sort());
});
