/** The agent on the small native host. Behaves as node-host.ts does; testing/host-conformance.ts holds both to it. */
import { LINK_LIMITS } from "@gfe/protocol";
import type { Files, Host, HttpRequest, HttpResponse, Log, Socket, SocketEvents } from "../host.ts";
import type { Native } from "./native.ts";
import { serveLocal } from "./slim-local.ts";
import { createSlimTerminal } from "./slim-terminal.ts";

export interface SlimHostOptions {
  configDir?: string;
  stateDir?: string;
  log?: Log;
}

const silent: Log = { info() {}, warn() {} };

/** Keeps its files where the XDG base directories say, unless told otherwise. Logs nothing by default. */
export function createSlimHost(native: Native, options: SlimHostOptions = {}): Host {
  const base = (variable: string, ...fallback: string[]) =>
    native.join(
      native.env[variable] || native.join(native.env.HOME || native.homeDirectory, ...fallback),
      "gfe",
    );
  return {
    platform: native.platform,
    runtime: { name: "Go", version: native.version, least: "1.26" },
    hostName: native.hostName,
    env: native.env,
    directories: {
      config: options.configDir ?? base("XDG_CONFIG_HOME", ".config"),
      state: options.stateDir ?? base("XDG_STATE_HOME", ".local", "state"),
    },
    files: filesOf(native),
    log: options.log ?? silent,
    http: (request) => exchange(native, request),
    dial: (url, dialOptions, events) => dial(native, url, dialOptions, events),
    // Engines are started by the full program only.
    spawn: () => {
      throw new Error("this program starts no engines");
    },
    helper: () => null,
    run: (command, args, { timeoutMs }) => native.run(command, args, timeoutMs),
    serve: (endpoint, handler, limits) => serveLocal(native, endpoint, handler, limits),
    terminal: createSlimTerminal(native),
    processId: native.processId,
    nowMs: () => native.nowMs(),
    after: (ms, callback) => native.after(ms, callback),
    soon: (callback) => native.soon(callback),
    random: Math.random,
  };
}

function filesOf(native: Native): Files {
  return {
    async read(path) {
      const bytes = await native.readFile(path);
      return bytes && new Uint8Array(bytes);
    },
    write: (path, text, { mode, exclusive = false }) => native.writeFile(path, text, mode, exclusive),
    makeDirectory: (path, mode) => native.makeDirectory(path, mode),
    setMode: (path, mode) => native.setMode(path, mode),
    facts: (path) => native.facts(path),
    sha256: (path) => native.sha256File(path),
    append: (path, { mode }) => native.append(path, mode),
    rename: (from, to) => native.rename(from, to),
    remove: (path) => native.remove(path),
    list: (directory) => native.list(directory),
    freeBytes: (path) => native.freeBytes(path),
    join: (...parts) => native.join(...parts),
  };
}

async function exchange(native: Native, request: HttpRequest): Promise<HttpResponse> {
  const { signal } = request;
  signal?.throwIfAborted();
  if (!/^https?:/i.test(request.url))
    throw new Error(`${request.url.split(":")[0]}: is not an address that an agent calls`);
  const sent = native.http({
    url: request.url,
    method: request.method ?? (request.body === undefined ? "GET" : "POST"),
    headers: {
      ...(request.body === undefined ? {} : { "content-type": "application/json" }),
      ...request.headers,
    },
    body: request.body,
    socketPath: request.socketPath,
  });
  signal?.addEventListener("abort", sent.cancel, { once: true });
  const letGo = () => signal?.removeEventListener("abort", sent.cancel);
  /** What an abort caused is told as the abort. */
  const told = (error: unknown): unknown => {
    letGo();
    return signal?.aborted ? signal.reason : error;
  };
  const response = await sent.response.catch((error: unknown) => {
    throw told(error);
  });
  const next = async (): Promise<IteratorResult<Uint8Array, undefined>> => {
    const bytes = await response.read().catch((error: unknown) => {
      throw told(error);
    });
    if (bytes) return { done: false, value: new Uint8Array(bytes) };
    letGo();
    return { done: true, value: undefined };
  };
  return {
    status: response.status,
    header: (name) => response.header(name.toLowerCase()),
    body: { [Symbol.asyncIterator]: () => ({ next }) },
    cancel() {
      letGo();
      sent.cancel();
    },
    release() {
      letGo();
      response.release();
    },
  };
}

function dial(
  native: Native,
  url: string,
  { headers, timeoutMs }: { headers: Record<string, string>; timeoutMs: number },
  events: SocketEvents,
): Socket {
  const socket = native.dial(
    url,
    headers,
    timeoutMs,
    LINK_LIMITS.messageBytes,
    (data) => events.message(typeof data === "string" ? data : new Uint8Array(data)),
    (code, reason, httpStatus) =>
      events.closed({ code, reason, ...(httpStatus === 0 ? {} : { httpStatus }) }),
  );
  return {
    send: (data, written) => socket.send(data, written),
    get bufferedBytes() {
      return socket.bufferedBytes();
    },
    close: (code, reason) => socket.close(code, reason.slice(0, 120)),
    terminate: () => socket.terminate(),
  };
}
