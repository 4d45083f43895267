import type { FileFacts, Files } from "./host.ts";

/** Files that live in memory: for the many nodes of a simulation, and for tests. */
export function createMemoryFiles(options: { freeBytes?: number } = {}): Files {
  const all = new Map<string, FileFacts & { bytes: Uint8Array<ArrayBuffer> }>();
  const put = (path: string, bytes: Uint8Array<ArrayBuffer>, mode: number | null) =>
    all.set(path, { bytes, mode, sizeBytes: bytes.byteLength, modifiedMs: 0 });
  const below = (directory: string) => [...all.keys()].filter((path) => path.startsWith(`${directory}/`));
  return {
    read: async (path) => all.get(path)?.bytes ?? null,
    async write(path, text, { mode, exclusive = false }) {
      if (exclusive && all.has(path)) return false;
      put(path, new TextEncoder().encode(text), mode);
      return true;
    },
    makeDirectory: async () => {},
    async setMode(path, mode) {
      const file = all.get(path);
      if (file) file.mode = mode;
    },
    facts: async (path) => all.get(path) ?? null,
    async sha256(path) {
      const digest = await crypto.subtle.digest("SHA-256", all.get(path)?.bytes ?? new Uint8Array());
      return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    },
    async append(path, { mode }) {
      if (!all.has(path)) put(path, new Uint8Array(), mode);
      return {
        async write(bytes) {
          const before = all.get(path)?.bytes ?? new Uint8Array();
          const whole = new Uint8Array(before.byteLength + bytes.byteLength);
          whole.set(before);
          whole.set(bytes, before.byteLength);
          put(path, whole, all.get(path)?.mode ?? mode);
        },
        close: async () => {},
      };
    },
    async rename(from, to) {
      const file = all.get(from);
      if (!file) throw Object.assign(new Error(`${from} is not there`), { code: "ENOENT" });
      all.set(to, file);
      all.delete(from);
    },
    async remove(path) {
      for (const one of [path, ...below(path)]) all.delete(one);
    },
    list: async (directory) => [
      ...new Set(below(directory).map((path) => path.slice(directory.length + 1).split("/")[0]!)),
    ],
    freeBytes: async () => options.freeBytes ?? Number.MAX_SAFE_INTEGER,
    join: (...parts) => parts.join("/"),
  };
}
