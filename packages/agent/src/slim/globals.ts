/**
 * What the core takes for granted of a runtime and the script engine of the native host lacks. Only what the core and the
 * protocol use; each behaves as the standard says in what it has.
 */
import { SlimAbortController, SlimAbortSignal } from "./abort.ts";
import type { Native } from "./native.ts";

export function installGlobals(native: Native): void {
  const globals: Record<string, unknown> = {
    AbortController: SlimAbortController,
    AbortSignal: SlimAbortSignal,
    TextEncoder: encoderClass(native),
    TextDecoder: decoderClass(native),
    URL: urlClass(native),
    atob: native.fromBase64,
    btoa: native.toBase64,
    queueMicrotask: (callback: () => void) => void Promise.resolve().then(callback),
    crypto: cryptoOf(native),
  };
  for (const [name, value] of Object.entries(globals)) define(globalThis, name, value);
  define(Symbol, "asyncIterator", Symbol("Symbol.asyncIterator"));
  installMethods();
}

function define(target: object, name: string, value: unknown): void {
  if (!(name in target))
    Object.defineProperty(target, name, { value, writable: true, configurable: true, enumerable: false });
}

const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

/** Methods younger than the engine, and one that it has in part. */
function installMethods(): void {
  const { from } = Uint8Array;
  Object.defineProperty(Uint8Array, "from", {
    // The engine's own takes no text.
    value: (source: Iterable<unknown>, ...rest: unknown[]) =>
      Reflect.apply(from, Uint8Array, [typeof source === "string" ? [...source] : source, ...rest]),
  });
  define(Promise, "withResolvers", () => {
    let resolve: unknown;
    let reject: unknown;
    const promise = new Promise((onDone, onFailed) => {
      resolve = onDone;
      reject = onFailed;
    });
    return { promise, resolve, reject };
  });
  define(String.prototype, "isWellFormed", function isWellFormed(this: string) {
    return !LONE_SURROGATE.test(this);
  });
  define(Array.prototype, "toSorted", function toSorted<T>(this: T[], compare?: (a: T, b: T) => number) {
    return [...this].sort(compare);
  });
  define(Array.prototype, "toReversed", function toReversed<T>(this: T[]) {
    return [...this].reverse();
  });
  define(Object, "groupBy", <T>(items: Iterable<T>, keyOf: (item: T, index: number) => PropertyKey) => {
    const groups: Record<PropertyKey, T[]> = Object.create(null);
    let index = 0;
    for (const item of items) {
      const key = keyOf(item, index++);
      groups[key] ??= [];
      groups[key].push(item);
    }
    return groups;
  });
}

const encoderClass = (native: Native) =>
  class TextEncoder {
    readonly encoding = "utf-8";
    encode(text = ""): Uint8Array {
      return new Uint8Array(native.encodeUtf8(text));
    }
    encodeInto(text: string, target: Uint8Array): { read: number; written: number } {
      return native.encodeUtf8Into(text, target);
    }
  };

const decoderClass = (native: Native) =>
  class TextDecoder {
    readonly encoding = "utf-8";
    readonly #decode = native.utf8Decoder();
    decode(bytes?: Uint8Array | ArrayBuffer, { stream = false }: { stream?: boolean } = {}): string {
      return this.#decode(bytes, stream);
    }
  };

const urlClass = (native: Native) =>
  class URL {
    readonly protocol: string;
    readonly username: string;
    readonly password: string;
    readonly hostname: string;
    readonly port: string;
    readonly pathname: string;
    readonly search: string;
    readonly hash: string;

    constructor(text: string, base?: string | { href: string }) {
      const parts =
        native.parseUrl(String(text)) ??
        (base === undefined ? null : native.parseUrl(resolve(String(text), base, native)));
      if (!parts) throw new TypeError(`Invalid URL: ${text}`);
      this.protocol = parts.protocol;
      this.username = parts.username;
      this.password = parts.password;
      this.hostname = parts.hostname;
      this.port = parts.port;
      this.pathname = parts.pathname;
      this.search = parts.search;
      this.hash = parts.hash;
    }

    static parse(text: string, base?: string | { href: string }): URL | null {
      try {
        return new URL(text, base);
      } catch {
        return null;
      }
    }

    static canParse(text: string, base?: string | { href: string }): boolean {
      return URL.parse(text, base) !== null;
    }

    get host(): string {
      return this.port === "" ? this.hostname : `${this.hostname}:${this.port}`;
    }

    get origin(): string {
      return `${this.protocol}//${this.host}`;
    }

    get href(): string {
      const secret = this.password === "" ? "" : `:${this.password}`;
      const user = this.username === "" && secret === "" ? "" : `${this.username}${secret}@`;
      return `${this.protocol}//${user}${this.host}${this.pathname}${this.search}${this.hash}`;
    }

    toString(): string {
      return this.href;
    }

    toJSON(): string {
      return this.href;
    }
  };

/** A path against the origin of `base`: all that the core asks for. */
function resolve(text: string, base: string | { href: string }, native: Native): string {
  const parts = native.parseUrl(typeof base === "string" ? base : base.href);
  if (!parts || !text.startsWith("/") || text.startsWith("//")) return text;
  return `${parts.protocol}//${parts.hostname}${parts.port === "" ? "" : `:${parts.port}`}${text}`;
}

interface SlimKey {
  type: "public" | "private";
  bytes: Uint8Array;
  sign?: (bytes: Uint8Array) => ArrayBuffer;
}

/** Ed25519 and SHA-256 of Web Crypto, carried out by the native host. */
function cryptoOf(native: Native) {
  const only = (algorithm: string, name: string) => {
    if (name !== algorithm) throw new Error(`${name} is not there: only ${algorithm}`);
  };
  const privateKey = (bytes: Uint8Array): SlimKey => ({
    type: "private",
    bytes,
    sign: native.ed25519Signer(bytes),
  });
  return {
    getRandomValues<T extends Uint8Array>(target: T): T {
      target.set(new Uint8Array(native.randomBytes(target.byteLength)));
      return target;
    },
    randomUUID(): string {
      const bytes = new Uint8Array(native.randomBytes(16));
      bytes[6] = (bytes[6]! & 0x0f) | 0x40;
      bytes[8] = (bytes[8]! & 0x3f) | 0x80;
      const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
    },
    subtle: {
      async generateKey(algorithm: string) {
        only("Ed25519", algorithm);
        const made = native.ed25519Generate();
        return {
          publicKey: { type: "public", bytes: new Uint8Array(made.publicKey) } satisfies SlimKey,
          privateKey: privateKey(new Uint8Array(made.privateKey)),
        };
      },
      async exportKey(format: "raw" | "pkcs8", key: SlimKey) {
        only(key.type === "public" ? "raw" : "pkcs8", format);
        return key.bytes.slice().buffer;
      },
      async importKey(format: "raw" | "pkcs8", bytes: Uint8Array, algorithm: string): Promise<SlimKey> {
        only("Ed25519", algorithm);
        if (format === "pkcs8") return privateKey(bytes);
        if (bytes.byteLength !== 32) throw new Error("an Ed25519 key has 32 bytes");
        return { type: "public", bytes };
      },
      async sign(algorithm: string, { sign }: SlimKey, bytes: Uint8Array) {
        only("Ed25519", algorithm);
        if (!sign) throw new Error("a public key does not sign");
        return sign(bytes);
      },
      async verify(algorithm: string, key: SlimKey, signature: Uint8Array, bytes: Uint8Array) {
        only("Ed25519", algorithm);
        return native.ed25519Verify(key.bytes, signature, bytes);
      },
      async digest(algorithm: string, bytes: Uint8Array) {
        only("SHA-256", algorithm);
        return native.sha256(bytes);
      },
    },
  };
}
