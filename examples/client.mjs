// A Workq client for Node.js without dependencies, small enough to read at one sitting.
//
//   node examples/client.mjs [PORT [HOST]]
//
// It shows what every client needs: a reader that takes replies in any chunks, requests that are answered in their order,
// a connection of its own for each call that waits on the server, and an add that may be repeated.

import { randomUUID } from 'node:crypto';
import net from 'node:net';
import { fileURLToPath } from 'node:url';

/** An answer of the server that is no success: kind is TIMEOUT, NOT-FOUND, CLIENT-ERROR or SERVER-ERROR. */
export class WorkqError extends Error {
  constructor(kind, text) {
    super(text ? `${kind}: ${text}` : kind);
    this.kind = kind;
    this.text = text;
  }
}

/** One connection. `ask` may be called again before the answer is there: replies come in the order of the requests. */
export class Connection {
  #socket;
  #received = Buffer.alloc(0);
  #asked = []; // { read, resolve, reject }, in the order in which they were sent
  #lost = null;

  constructor(port, host) {
    this.#socket = net.connect({ port, host, noDelay: true });
    this.#socket.on('data', (data) => {
      this.#received = Buffer.concat([this.#received, data]);
      this.#readReplies();
    });
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('close', () => this.#fail(new Error('the connection was closed before the answer')));
  }

  /** Send a request. `read` is given a Reply behind a +OK, and returns what the promise resolves to. */
  ask(line, payload, read) {
    if (this.#lost) return Promise.reject(this.#lost);
    return new Promise((resolve, reject) => {
      this.#asked.push({ read, resolve, reject });
      const end = Buffer.from('\r\n');
      const parts = [Buffer.from(line), end];
      if (payload !== null) parts.push(payload, end);
      this.#socket.write(Buffer.concat(parts));
    });
  }

  get isLost() {
    return this.#lost !== null;
  }

  close() {
    this.#socket.destroy();
  }

  #readReplies() {
    while (this.#asked.length > 0) {
      const { read, resolve, reject } = this.#asked[0];
      const reply = new Reply(this.#received);
      let settle;
      try {
        const words = reply.line().split(' ');
        if (words[0] === '+OK') {
          const value = read(reply);
          settle = () => resolve(value);
        } else if (/^-(TIMEOUT|NOT-FOUND|CLIENT-ERROR|SERVER-ERROR)$/.test(words[0])) {
          settle = () => reject(new WorkqError(words[0].slice(1), words.slice(1).join(' ')));
        } else {
          throw new Error(`this is not a Workq server: ${words.join(' ')}`);
        }
      } catch (error) {
        if (error === Reply.incomplete) return; // read it again from its beginning when more is there
        this.#fail(error);
        return this.close();
      }
      this.#received = this.#received.subarray(reply.position);
      this.#asked.shift();
      settle();
    }
    if (this.#received.length > 0) {
      this.#fail(new Error('the server said something without being asked'));
      this.close();
    }
  }

  #fail(error) {
    this.#lost ??= error;
    for (const { reject } of this.#asked.splice(0)) reject(this.#lost);
  }
}

/** Reads the pieces of a reply; throws `Reply.incomplete` where more bytes are needed. */
class Reply {
  static incomplete = Symbol('incomplete');
  position = 0;

  constructor(bytes) {
    this.bytes = bytes;
  }

  line() {
    const end = this.bytes.indexOf('\n', this.position);
    if (end < 0) throw Reply.incomplete;
    const line = this.bytes.toString('utf8', this.position, end).replace(/\r$/, '');
    this.position = end + 1;
    return line;
  }

  /** `size` bytes, which may hold anything, and the line end behind them. */
  payload(size) {
    const end = this.position + size;
    if (this.bytes.length < end + 2) throw Reply.incomplete;
    const payload = Buffer.from(this.bytes.subarray(this.position, end));
    this.position = end + 2;
    return payload;
  }
}

/** A name or an id. A blank or a line end in one would make another request of it, and of the payload one more. */
function word(text) {
  if (!/^[A-Za-z0-9_.-]{1,255}$/.test(text)) throw new Error(`not a name or an id: ${JSON.stringify(text)}`);
  return text;
}

export class Client {
  #port;
  #host;
  #shared = null;

  constructor({ port = 9922, host = '127.0.0.1' } = {}) {
    this.#port = port;
    this.#host = host;
  }

  /** Create a job; resolves to its id. Times are in milliseconds. */
  async add(name, payload, { id = randomUUID(), ttr = 60_000, ttl = 86_400_000 } = {}) {
    const bytes = Buffer.from(payload);
    const line = `add ${word(id)} ${word(name)} ${ttr} ${ttl} ${bytes.length}`;
    try {
      await this.#ask(line, bytes);
    } catch (error) {
      if (error instanceof WorkqError) throw error;
      // The connection broke, and whether the job is there is not known. With the same id it is safe to ask again.
      await this.#ask(line, bytes).catch((again) => {
        if (!again.text?.startsWith('Duplicate job')) throw again;
      });
    }
    return id;
  }

  /** Wait up to `timeout` for a job of one of the queues `names`; null if there was none. */
  async lease(names, timeout) {
    return this.#wait(`lease ${[names].flat().map(word).join(' ')} ${timeout}`, null, (reply) => {
      const [id, name, ttr, size] = reply.line().split(' ');
      return { id, name, ttr: Number(ttr), payload: reply.payload(Number(size)) };
    });
  }

  /** Wait up to `timeout` for the result of a job; null if there is none yet. */
  async result(id, timeout) {
    return this.#wait(`result ${word(id)} ${timeout}`, null, readResult);
  }

  /** Have a job done and wait for its result; null if no worker did it within `timeout`. */
  async run(name, payload, timeout, { id = randomUUID(), ttr = 60_000 } = {}) {
    const bytes = Buffer.from(payload);
    return this.#wait(`run ${word(id)} ${word(name)} ${ttr} ${timeout} ${bytes.length}`, bytes, readResult);
  }

  async complete(id, result = '') {
    const bytes = Buffer.from(result);
    return this.#ask(`complete ${word(id)} ${bytes.length}`, bytes);
  }

  async fail(id, reason = '') {
    const bytes = Buffer.from(reason);
    return this.#ask(`fail ${word(id)} ${bytes.length}`, bytes);
  }

  async delete(id) {
    return this.#ask(`delete ${word(id)}`, null);
  }

  close() {
    this.#shared?.close();
  }

  /** Calls that are answered at once share a connection. */
  #ask(line, payload) {
    if (!this.#shared || this.#shared.isLost) this.#shared = new Connection(this.#port, this.#host);
    return this.#shared.ask(line, payload, () => undefined);
  }

  /** A call that waits would hold up the others on its connection, so it gets one of its own. */
  async #wait(line, payload, read) {
    const connection = new Connection(this.#port, this.#host);
    try {
      return await connection.ask(line, payload, read);
    } catch (error) {
      if (error instanceof WorkqError && error.kind === 'TIMEOUT') return null;
      throw error;
    } finally {
      connection.close();
    }
  }
}

function readResult(reply) {
  const [id, success, size] = reply.line().split(' ');
  return { id, success: success === '1', result: reply.payload(Number(size)) };
}

function show({ success, result }) {
  console.log(`${success ? 'completed' : 'failed'}: ${result}`);
}

async function main(port, host) {
  const client = new Client({ port, host });
  const [job, id] = await Promise.all([
    client.lease('node-example', 5000), // waits, and holds up nobody
    client.add('node-example', 'photo.jpg'),
  ]);
  console.log(`leased ${job.payload} from ${job.name} for ${job.ttr} ms`);
  await client.complete(job.id, '320x200');
  show(await client.result(id, 1000));

  const work = async () => {
    const { id, payload } = await client.lease('node-example', 5000);
    await client.fail(id, `${payload.length} bytes are no image`);
  };
  const [outcome] = await Promise.all([client.run('node-example', Buffer.from([0, 13, 10, 255]), 5000), work()]);
  show(outcome);

  console.log(`nothing to do: ${await client.lease('node-example', 10)}`);
  await client.add('node-example', 'again', { id }).catch((error) => console.log(error.message));
  await client.delete(id);
  await client.delete(id).catch((error) => console.log(error.message));
  client.close();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [port = '9922', host = '127.0.0.1'] = process.argv.slice(2);
  main(Number(port), host).catch((error) => {
    console.error(`client.mjs: ${host}:${port}: ${error.message || error.code}`);
    process.exitCode = 1;
  });
}
