// As much of a WebSocket as the tests need where Node has none (before 22): RFC 6455 over a TCP
// socket, messages of up to 64 KiB, one frame each.

import { createHash, randomBytes } from 'node:crypto';
import { connect } from 'node:net';

import './custom_event.mjs';

export class TinyWebSocket {
  readyState = 0;
  protocol = '';
  onopen;
  onmessage;
  onclose;
  onerror;
  #bytes = Buffer.alloc(0);
  #key = randomBytes(16).toString('base64');
  #close = { code: 1006, reason: '', wasClean: false };

  constructor(url, protocols) {
    const { hostname, port, pathname, search } = new URL(url);
    this.socket = connect(Number(port), hostname);
    this.socket.write(
      `GET ${pathname}${search} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nUpgrade: websocket\r\n` +
        'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n' +
        `Sec-WebSocket-Key: ${this.#key}\r\n` +
        `Sec-WebSocket-Protocol: ${protocols.join(', ')}\r\n\r\n`,
    );
    this.socket.on('data', (bytes) => this.#read(bytes));
    this.socket.on('error', (error) => this.onerror?.(error));
    this.socket.on('close', () => {
      this.readyState = 3;
      this.onclose?.(this.#close);
    });
  }

  send(data) {
    const opcode = typeof data === 'string' ? 1 : 2;
    if (this.readyState === 1) this.#write(opcode, Buffer.from(data));
  }

  close(code = 1000) {
    if (this.readyState === 0) this.socket.destroy();
    if (this.readyState !== 1) return;
    this.readyState = 2;
    this.#write(8, Buffer.from([code >> 8, code & 255]));
  }

  #read(bytes) {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    if (this.readyState === 0 && !this.#shake()) return;
    for (;;) {
      if (this.#bytes.length < 2) return;
      const short = this.#bytes[1];
      if (short > 126) throw new Error('a longer frame than the tests need');
      const start = short === 126 ? 4 : 2;
      const length = short === 126 ? this.#bytes.readUInt16BE(2) : short;
      if (this.#bytes.length < start + length) return;
      const opcode = this.#bytes[0] & 15;
      const payload = this.#bytes.subarray(start, start + length);
      this.#bytes = this.#bytes.subarray(start + length);
      this.#frame(opcode, payload);
    }
  }

  /** Section 4.1: the answer to our key. */
  #shake() {
    const end = this.#bytes.indexOf('\r\n\r\n');
    if (end < 0) return false;
    const head = this.#bytes.subarray(0, end).toString();
    this.#bytes = this.#bytes.subarray(end + 4);
    const guid = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
    const accept = createHash('sha1').update(this.#key + guid).digest('base64');
    if (!head.startsWith('HTTP/1.1 101 ') || !head.includes(accept)) {
      this.socket.destroy();
      return false;
    }
    this.readyState = 1;
    this.protocol = /^sec-websocket-protocol: *(.*)$/im.exec(head)?.[1].trim() ?? '';
    this.onopen?.({});
    return true;
  }

  #frame(opcode, payload) {
    if (opcode === 1 && this.readyState === 1) {
      this.onmessage?.({ data: payload.toString() });
    } else if (opcode === 2 && this.readyState === 1) {
      this.onmessage?.({ data: new Uint8Array(payload).buffer });
    } else if (opcode === 8) {
      // Section 5.5.1: the same code goes back, and the server closes.
      if (this.readyState === 1) this.#write(8, payload.subarray(0, 2));
      this.readyState = 2;
      const code = payload.length > 1 ? payload.readUInt16BE(0) : 1005;
      this.#close = { code, reason: payload.subarray(2).toString(), wasClean: true };
    } else if (opcode === 9) {
      this.#write(10, payload);
    }
  }

  /** Section 5.3: a client masks what it sends. */
  #write(opcode, payload) {
    const mask = randomBytes(4);
    const { length } = payload;
    const size = length < 126 ? [128 | length] : [128 | 126, length >> 8, length & 255];
    const masked = payload.map((byte, at) => byte ^ mask[at & 3]);
    this.socket.write(Buffer.concat([Buffer.from([128 | opcode, ...size]), mask, masked]));
  }
}
