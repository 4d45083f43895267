/** The agent's side of the relay: an `http` like the host's own, whose other end is in the sandbox. */
import { readLines } from "../body.ts";
import type { Child, Host, HttpRequest, HttpResponse } from "../host.ts";
import { readRelayed, type ToRelay } from "./relay-wire.ts";

export const RELAY_LIMITS = {
  /** The relay cuts bodies into pieces far below this. */
  lineBytes: 1024 * 1024,
  /** What waits for its reader before the relay is asked to hold. */
  queuedBytes: 256 * 1024,
  /** What may be under way until it holds; more is no relay's doing. */
  overrunBytes: 16 * 1024 * 1024,
} as const;

interface Asked {
  answer: PromiseWithResolvers<HttpResponse>;
  body: Body;
}

/** Speaks through the child from now on. What it had not answered when it ends is rejected, as a broken connection is. */
export function relayedHttp(child: Child): Host["http"] {
  const asked = new Map<number, Asked>();
  const encoder = new TextEncoder();
  const tell = (words: ToRelay) => void child.write(encoder.encode(`${JSON.stringify(words)}\n`));
  let last = 0;
  let gone: Error | null = null;

  function hear(line: string): void {
    const said = readRelayed(line);
    if (!said) throw new Error("the relay says what no relay says");
    const one = asked.get(said.id);
    if (!one) return;
    if ("status" in said) return one.answer.resolve(responseOf(said.status, said.headers, one.body));
    if ("data" in said) return one.body.push(bytesOf(said.data));
    asked.delete(said.id);
    if ("end" in said) return one.body.end(null);
    const error = Object.assign(new Error(said.error), said.refused ? { code: "ECONNREFUSED" } : {});
    one.answer.reject(error);
    one.body.end(error);
  }

  void (async () => {
    try {
      const limits = { lineBytes: RELAY_LIMITS.lineBytes, streamBytes: Number.POSITIVE_INFINITY };
      for await (const lines of readLines({ body: child.stdout }, limits))
        for (const line of lines) hear(line);
    } catch {
      child.kill();
    }
    gone = Object.assign(new Error("the engine has ended"), { code: "ECONNREFUSED" });
    for (const { answer, body } of asked.values()) {
      answer.reject(gone);
      body.end(gone);
    }
    asked.clear();
  })();

  return (request: HttpRequest) => {
    const { signal } = request;
    if (gone) return Promise.reject(gone);
    if (signal?.aborted) return Promise.reject(signal.reason);
    const id = ++last;
    const cut = (reason: unknown) => {
      if (!asked.delete(id)) return;
      tell({ id, say: "cut" });
      one.answer.reject(reason);
      one.body.end(reason);
    };
    const one: Asked = {
      answer: Promise.withResolvers(),
      body: new Body(
        (say) => tell({ id, say }),
        () => cut(new Error("cut")),
      ),
    };
    asked.set(id, one);
    const onAbort = () => cut(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    one.body.closed = () => signal?.removeEventListener("abort", onAbort);
    const { pathname, search } = new URL(request.url);
    const method = request.method ?? (request.body === undefined ? "GET" : "POST");
    tell({
      id,
      ask: {
        ...{ method, path: pathname + search, headers: request.headers ?? {} },
        ...(request.body === undefined ? {} : { body: request.body }),
      },
    });
    return one.answer.promise;
  };
}

function responseOf(status: number, headers: Readonly<Record<string, string>>, body: Body): HttpResponse {
  return {
    status,
    header: (name) => headers[name.toLowerCase()],
    body,
    cancel: () => body.cut(),
    // No connection is kept that could be spoiled.
    release: () => body.cut(),
  };
}

/** Chunks that wait for their one reader. */
class Body implements AsyncIterable<Uint8Array> {
  closed = () => {};
  readonly cut: () => void;
  readonly #ask: (say: "hold" | "go") => void;
  readonly #chunks: Uint8Array[] = [];
  #bytes = 0;
  #held = false;
  #end: { error: unknown } | null = null;
  #wake = () => {};

  constructor(ask: (say: "hold" | "go") => void, cut: () => void) {
    this.#ask = ask;
    this.cut = cut;
  }

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.byteLength;
    if (this.#bytes > RELAY_LIMITS.queuedBytes + RELAY_LIMITS.overrunBytes)
      throw new Error("the relay does not hold when it is asked to");
    if (!this.#held && this.#bytes > RELAY_LIMITS.queuedBytes) {
      this.#held = true;
      this.#ask("hold");
    }
    this.#wake();
  }

  end(error: unknown): void {
    this.#end ??= { error };
    this.closed();
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk) {
        this.#bytes -= chunk.byteLength;
        if (this.#held && this.#bytes === 0) {
          this.#held = false;
          this.#ask("go");
        }
        yield chunk;
        continue;
      }
      if (this.#end?.error) throw this.#end.error;
      if (this.#end) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

function bytesOf(base64: string): Uint8Array {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index++) bytes[index] = binary.charCodeAt(index);
  return bytes;
}
