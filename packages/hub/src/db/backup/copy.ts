/**
 * PostgreSQL's COPY in its text format, which is the same in all its versions, as a stream with back-pressure: `pg` gives
 * the messages, and this is a query that handles them.
 * https://www.postgresql.org/docs/17/protocol-flow.html#PROTOCOL-COPY
 */
import type { Duplex } from "node:stream";
import type pg from "pg";

/** Rows are gathered up to so many bytes; one that is longer comes as a block of its own. */
export const BLOCK_BYTES = 256 * 1024;

/** What pg's connection has, as far as it is used here. */
interface Connection {
  readonly stream: Duplex;
  query(sql: string): void;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
  sendCopyFail(reason: string): void;
}

/** What pg calls on a query that it runs: the messages of a COPY, its end, or its error. */
class Copy {
  readonly #sql: string;
  readonly ended: Promise<number>;
  resolve: (rows: number) => void = () => {};
  reject: (error: Error) => void = () => {};
  #rows = 0;

  constructor(sql: string) {
    this.#sql = sql;
    this.ended = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.ended.catch(() => {}); // whoever runs it awaits it, maybe later
  }
  submit(connection: Connection): void {
    connection.query(this.#sql);
  }
  handleCommandComplete({ text }: { text: string }): void {
    this.#rows = Number(text.split(" ")[1]);
  }
  handleReadyForQuery(_connection: Connection): void {
    this.resolve(this.#rows);
  }
  handleError(error: Error, _connection: Connection): void {
    this.reject(error);
  }
}

class CopyOut extends Copy {
  readonly #sink: (block: Buffer) => Promise<void>;
  #parts: Buffer[] = [];
  #bytes = 0;
  #passing = 0;
  #taking: Promise<void> = Promise.resolve();

  constructor(sql: string, sink: (block: Buffer) => Promise<void>) {
    super(sql);
    this.#sink = sink;
  }
  handleCopyData({ chunk }: { chunk: Buffer }, connection: Connection): void {
    this.#parts.push(Buffer.from(chunk)); // pg uses its memory again
    this.#bytes += chunk.length;
    if (this.#bytes >= BLOCK_BYTES) this.#pass(connection);
  }
  override handleReadyForQuery(connection: Connection): void {
    if (this.#bytes > 0) this.#pass(connection);
    void this.#taking.then(() => super.handleReadyForQuery(connection), this.reject);
  }
  /** While the sink takes a block, the socket is not read. */
  #pass({ stream }: Connection): void {
    const block = Buffer.concat(this.#parts, this.#bytes);
    this.#parts = [];
    this.#bytes = 0;
    stream.pause();
    this.#passing++;
    this.#taking = this.#taking.then(() => this.#sink(block));
    this.#taking.then(
      () => {
        if (--this.#passing === 0) stream.resume();
      },
      (error: Error) => {
        this.reject(error);
        stream.destroy(); // the server would go on to the table's end
      },
    );
  }
}

class CopyIn extends Copy {
  readonly #source: AsyncIterable<Buffer>;
  #failed = false;

  constructor(sql: string, source: AsyncIterable<Buffer>) {
    super(sql);
    this.#source = source;
  }
  handleCopyInResponse(connection: Connection): void {
    this.#feed(connection).catch((error: Error) => {
      this.reject(error);
      connection.sendCopyFail("the source of the rows failed");
    });
  }
  async #feed(connection: Connection): Promise<void> {
    const { stream } = connection;
    for await (const block of this.#source) {
      if (this.#failed || stream.destroyed) return;
      connection.sendCopyFromChunk(block);
      if (stream.writableNeedDrain) await drained(stream);
    }
    if (!this.#failed) connection.endCopyFrom();
  }
  override handleError(error: Error, connection: Connection): void {
    this.#failed = true;
    super.handleError(error, connection);
  }
}

/** Resolves when it takes more, or never will. */
function drained(stream: Duplex): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      stream.off("drain", done).off("close", done);
      resolve();
    };
    stream.on("drain", done).on("close", done);
  });
}

/** Runs `COPY … TO STDOUT`; the sink takes one block after the other. Returns the number of rows. */
export function copyOut(
  client: pg.ClientBase,
  sql: string,
  sink: (block: Buffer) => Promise<void>,
): Promise<number> {
  return run(client, new CopyOut(sql, sink));
}

/** Runs `COPY … FROM STDIN` with what the source gives. Returns the number of rows; what the source throws is thrown. */
export function copyIn(client: pg.ClientBase, sql: string, source: AsyncIterable<Buffer>): Promise<number> {
  return run(client, new CopyIn(sql, source));
}

function run(client: pg.ClientBase, copy: Copy): Promise<number> {
  client.query(copy as unknown as pg.Submittable);
  return copy.ended;
}
