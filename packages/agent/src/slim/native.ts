/**
 * What the small native host (the Go program in slim/) gives to the script inside it. As little as can be: all that can be said in
 * TypeScript is said in slim-host.ts and globals.ts. Bytes come as ArrayBuffer and go as Uint8Array; errors have the `code` that
 * Node gives them (ENOENT, ECONNREFUSED …).
 */

export interface NativeExchange {
  response: Promise<NativeResponse>;
  /** Cuts the connection, before or during the response. */
  cancel(): void;
}

export interface NativeResponse {
  status: number;
  /** The first value of a header; names in small letters. */
  header(name: string): string | undefined;
  /** The next piece; null at the end. One call at a time. */
  read(): Promise<ArrayBuffer | null>;
  /** Reads on to the end for a bounded while, so that the connection serves again. */
  release(): void;
}

export interface NativeSocket {
  send(data: string | Uint8Array, written: (() => void) | undefined): void;
  bufferedBytes(): number;
  close(code: number, reason: string): void;
  terminate(): void;
}

export interface NativeKey {
  /** 32 bytes. */
  publicKey: ArrayBuffer;
  /** PKCS#8: secret. */
  privateKey: ArrayBuffer;
}

export interface NativeUrl {
  protocol: string;
  username: string;
  password: string;
  hostname: string;
  port: string;
  pathname: string;
  search: string;
  hash: string;
}

export interface NativeReply {
  whole(status: number, json: string): Promise<void>;
  begin(status: number): Promise<void>;
  /** Rejects when the asker has gone. */
  line(text: string): Promise<void>;
  end(): void;
  onGone(callback: () => void): void;
}

export interface NativeTerminal {
  /** Columns and rows. */
  size(): [number, number];
  /** What is typed, in raw mode; without a callback the terminal is as it was. */
  onInput(callback: ((typed: string) => void) | undefined): void;
  raw(on: boolean): void;
  onResize(callback: () => void): void;
  onJobControl(suspended: () => void, continued: () => void): void;
  /** Stops the process group, as the shell's Ctrl-Z does. */
  stop(): void;
}

export interface NativeFileWriter {
  write(bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

export interface Native {
  readonly platform: string;
  /** The Go version that it was built with. */
  readonly version: string;
  readonly processId: number;
  /** The path of the program's own file; empty where the system does not tell. */
  readonly executable: string;
  /** As Node names it: x64, arm64. */
  readonly arch: string;
  readonly hostName: string;
  readonly env: Readonly<Record<string, string>>;
  readonly args: readonly string[];
  readonly homeDirectory: string;
  /** Milliseconds since 1970 at the start, going on evenly. */
  nowMs(): number;
  after(ms: number, callback: () => void): () => void;
  soon(callback: () => void): void;
  /** To standard output (1) or standard error (2). */
  print(stream: 1 | 2, text: string): void;
  exit(code: number): void;
  /** Before the process ends by `exit`. */
  onExit(callback: () => void): void;
  /** SIGINT and SIGTERM, or what the system has for them. */
  onStop(callback: () => void): void;

  http(request: {
    url: string;
    method: string;
    headers: Readonly<Record<string, string>>;
    body: string | undefined;
    socketPath: string | undefined;
  }): NativeExchange;
  dial(
    url: string,
    headers: Readonly<Record<string, string>>,
    timeoutMs: number,
    messageBytesMax: number,
    onMessage: (data: string | ArrayBuffer) => void,
    onClosed: (code: number, reason: string, httpStatus: number) => void,
  ): NativeSocket;

  readFile(path: string): Promise<ArrayBuffer | null>;
  writeFile(path: string, text: string, mode: number, exclusive: boolean): Promise<boolean>;
  makeDirectory(path: string, mode: number): Promise<void>;
  setMode(path: string, mode: number): Promise<void>;
  facts(path: string): Promise<{ sizeBytes: number; modifiedMs: number; mode: number | null } | null>;
  sha256File(path: string): Promise<string>;
  join(...parts: string[]): string;
  append(path: string, mode: number): Promise<NativeFileWriter>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  list(directory: string): Promise<string[]>;
  freeBytes(path: string): Promise<number>;

  run(
    command: string,
    args: readonly string[],
    timeoutMs: number,
  ): Promise<{ type: "ran"; exitCode: number; stdout: string } | { type: "absent" } | { type: "timeout" }>;

  /** Puts a copy of `file` in the place of the program at `path`; what lay there is kept at `previous`. */
  replaceProgram(path: string, file: string, previous: string): Promise<void>;
  /** Goes on as the program at `path`; resolves with its exit status where the system runs it as a child. */
  become(path: string, args: readonly string[]): Promise<number>;

  /** Null where a living program answers at the endpoint. */
  serve(
    endpoint: string,
    limits: { bodyBytes: number; connections: number; requestMs: number },
    onRequest: (method: string, path: string, body: string, reply: NativeReply) => void,
  ): Promise<{ close(): Promise<void> } | null>;
  terminal(): NativeTerminal | null;

  encodeUtf8(text: string): ArrayBuffer;
  /** Writes what fits in whole characters. */
  encodeUtf8Into(text: string, target: Uint8Array): { read: number; written: number };
  /** A decoder that keeps the beginning of a character for the next piece while `stream`. */
  utf8Decoder(): (bytes: Uint8Array | ArrayBuffer | undefined, stream: boolean) => string;
  toBase64(binary: string): string;
  fromBase64(text: string): string;
  /** Null where it is no absolute http, https, ws or wss address. */
  parseUrl(text: string): NativeUrl | null;

  randomBytes(count: number): ArrayBuffer;
  sha256(bytes: Uint8Array): ArrayBuffer;
  ed25519Generate(): NativeKey;
  /** Of a PKCS#8 private key. */
  ed25519Signer(privateKey: Uint8Array): (bytes: Uint8Array) => ArrayBuffer;
  ed25519Verify(publicKey: Uint8Array, signature: Uint8Array, bytes: Uint8Array): boolean;
}
