/**
 * All that the agent's core needs of the machine it runs on. Node is the first host (node-host.ts); a small native one
 * may follow. Nothing in the core but the hosts themselves imports a module of a runtime.
 */

export interface HttpRequest {
  url: string;
  method?: "GET" | "POST" | "DELETE";
  headers?: Record<string, string>;
  body?: string;
  /** Aborting cuts the connection at once, before or during the response. */
  signal?: AbortSignal;
  /**
   * A unix socket or named pipe to connect to, whatever host the address names. The error's `code` says why there is no
   * connection: ENOENT, ECONNREFUSED, EACCES.
   */
  socketPath?: string;
}

export interface HttpResponse {
  status: number;
  header(name: string): string | undefined;
  /** Chunks as they arrive; not reading holds the sender back. */
  body: AsyncIterable<Uint8Array>;
  /** Cuts the connection: what was not read is of no interest. */
  cancel(): void;
  /** What was read is all that counts, but the little that may follow is let through: the connection serves again. */
  release(): void;
}

export interface SocketClose {
  code: number;
  reason: string;
  /** The status where the other side answered the upgrade with plain HTTP. */
  httpStatus?: number;
}

export interface SocketEvents {
  message(data: string | Uint8Array): void;
  /** Exactly once, also for a socket that never opened. */
  closed(close: SocketClose): void;
}

export interface Socket {
  /** `written` is called when the operating system has taken the message. */
  send(data: string | Uint8Array, written?: () => void): void;
  readonly bufferedBytes: number;
  close(code: number, reason: string): void;
  /** Closes without waiting for the other side. */
  terminate(): void;
}

export interface FileFacts {
  sizeBytes: number;
  modifiedMs: number;
  /** Permission bits; null where the file system has none. */
  mode: number | null;
}

export interface FileWriter {
  /** Resolves when the operating system has taken all of it. Rejects with code ENOSPC where the disk is full. */
  write(bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

export interface Files {
  /** Null where there is no such file. */
  read(path: string): Promise<Uint8Array | null>;
  /** Whole or not at all. With `exclusive` an existing file stays as it is and the answer is false. */
  write(path: string, text: string, options: { mode: number; exclusive?: boolean }): Promise<boolean>;
  makeDirectory(path: string, mode: number): Promise<void>;
  setMode(path: string, mode: number): Promise<void>;
  facts(path: string): Promise<FileFacts | null>;
  /** SHA-256 of the content as 64 hex digits, read in pieces. */
  sha256(path: string): Promise<string>;
  /** Opens a file to write behind what it holds; makes it, with this mode, where there is none. */
  append(path: string, options: { mode: number }): Promise<FileWriter>;
  /** In one step; what was at `to` is replaced. */
  rename(from: string, to: string): Promise<void>;
  /** A file, or a folder with all in it; an absent one is no error. */
  remove(path: string): Promise<void>;
  /** The names in a folder, in no order; none where there is no such folder. */
  list(directory: string): Promise<string[]>;
  /** Bytes that this user may still write where `path` is or will be. */
  freeBytes(path: string): Promise<number>;
  join(...parts: string[]): string;
}

/** What another program of the same owner asks on a local endpoint. */
export interface LocalRequest {
  method: string;
  path: string;
  /** Whole; what is larger than the bound was refused before. */
  body: string;
}

export interface LocalAnswer {
  status: number;
  /** JSON, or lines of it as they come; their iterator is returned when the asker leaves. */
  body: string | AsyncIterable<string>;
}

export interface LocalLimits {
  bodyBytes: number;
  connections: number;
  /** For a request to arrive whole. */
  requestMs: number;
}

/** The end of what `serve` began. */
export interface Serving {
  close(): Promise<void>;
}

/** Another program answers at this endpoint. */
export class EndpointTaken extends Error {
  constructor(endpoint: string) {
    super(`${endpoint} is served by another program`);
    this.name = "EndpointTaken";
  }
}

/** A terminal that somebody looks at. */
export interface Terminal {
  readonly columns: number;
  readonly rows: number;
  /** Whether colours are wanted: NO_COLOR and terminals without them say no. */
  readonly colour: boolean;
  write(text: string): void;
  /** What is typed, as it comes: maybe several keys at once. While anybody listens, nothing is echoed. Returns its end. */
  onKey(callback: (typed: string) => void): () => void;
  onResize(callback: () => void): () => void;
  /**
   * `leave` before the terminal goes to somebody else (Ctrl-Z, the end of the process, however it comes), `enter` when it is
   * back. Returns its end, which calls neither.
   */
  onHandOver(callbacks: { leave(): void; enter(): void }): () => void;
  /** As Ctrl-Z does without the raw mode. */
  suspend(): void;
}

export type RunResult =
  | { type: "ran"; exitCode: number; stdout: string }
  | { type: "absent" }
  | { type: "timeout" };

/** A program that runs beside the agent. */
export interface Child {
  /** Undefined where it could not be started. */
  readonly pid: number | undefined;
  /** Read once; not reading holds the program back. */
  readonly stdout: AsyncIterable<Uint8Array>;
  readonly stderr: AsyncIterable<Uint8Array>;
  /** Resolves when the program may be given more; what an ended program is given is lost. */
  write(bytes: Uint8Array): Promise<void>;
  closeInput(): void;
  /** Reaches the program's whole process group; SIGKILL unless told otherwise. */
  kill(signal?: "SIGTERM" | "SIGKILL"): void;
  /** Never rejects; a program that is not there ends with 127. */
  readonly ended: Promise<{ exitCode: number | null; signal: string | null }>;
}

/** How a part of this program is run as a program of its own. */
export interface Helper {
  command: string;
  args: readonly string[];
  /** Files and folders that it reads, besides what every system has in /usr. */
  reads: readonly string[];
}

export interface Log {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface Host {
  readonly platform: string;
  /** What runs the agent's code, and the lowest version that can. */
  readonly runtime: { name: string; version: string; least: string };
  readonly hostName: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** `config`: the node key and pinned hubs. `state`: caches that may be lost. */
  readonly directories: { config: string; state: string };
  readonly files: Files;
  readonly log: Log;
  http(request: HttpRequest): Promise<HttpResponse>;
  dial(
    url: string,
    options: { headers: Record<string, string>; timeoutMs: number },
    events: SocketEvents,
  ): Socket;
  /** Runs a program without a shell; its output is cut at a bound. */
  run(command: string, args: readonly string[], options: { timeoutMs: number }): Promise<RunResult>;
  /**
   * Answers HTTP on a unix socket (mode 0600) or a named pipe, for programs of the same user. The file that an ended program left
   * is replaced. Rejects with EndpointTaken where a living one answers.
   */
  serve(
    endpoint: string,
    handler: (request: LocalRequest) => Promise<LocalAnswer>,
    limits: LocalLimits,
  ): Promise<Serving>;
  /** Null where nobody looks: a pipe, a file, a service. */
  readonly terminal: Terminal | null;
  /** Of this program, for its owner to see. */
  readonly processId: number;
  /** Starts a program without a shell, in a process group of its own. Its environment is exactly `env`. */
  spawn(
    command: string,
    args: readonly string[],
    options?: { env?: Readonly<Record<string, string>>; directory?: string },
  ): Child;
  /** `relay`: see sandbox/relay-client.ts. `built-in`: the built-in engine. Null where this host has none. */
  helper(name: "relay" | "built-in"): Helper | null;
  /** Milliseconds since 1970 at its start, going on evenly: for durations. A jump of the wall clock does not move it. */
  nowMs(): number;
  /** Calls back once after `ms`; returns how to call it off. */
  after(ms: number, callback: () => void): () => void;
  /** Calls back when what is at hand in this turn has been done. */
  soon(callback: () => void): void;
  /** 0 ≤ x < 1, for jitter only. */
  random(): number;
}

/** Resolves after `ms`; rejects with the signal's reason when it is aborted first. */
export function delay(host: Pick<Host, "after">, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      callOff();
      reject(signal?.reason);
    };
    const callOff = host.after(ms, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** A signal that is aborted after `ms` or with `parent`, and how to let go of both. */
export function limitedSignal(
  host: Pick<Host, "after">,
  ms: number,
  parent?: AbortSignal,
): { signal: AbortSignal; release(): void } {
  const controller = new AbortController();
  const onParent = () => controller.abort(parent?.reason);
  const callOff = host.after(ms, () => controller.abort(new Error(`no answer within ${ms} ms`)));
  if (parent?.aborted) onParent();
  parent?.addEventListener("abort", onParent, { once: true });
  return {
    signal: controller.signal,
    release() {
      callOff();
      parent?.removeEventListener("abort", onParent);
    },
  };
}
