import type { FileFacts, Files } from "./host.ts";

/** Files that live in memory: for the many nodes of a simulation, and for tests. */
export function createMemoryFiles(): Files {
  const all = new Map<string, FileFacts & { bytes: Uint8Array<ArrayBuffer> }>();
  const put = (path: string, bytes: Uint8Array<ArrayBuffer>, mode: number) =>
    void all.set(path, { bytes, mode, sizeBytes: bytes.byteLength, modifiedMs: 0 });
  return {
    read: async (path) => all.get(path)?.bytes ?? null,
    async write(path, text, { mode, exclusive = false }) {
      if (exclusive && all.has(path)) return false;
      put(path, new TextEncoder().encode(text), mode);
      return true;
    },
    async append(path, { mode }) {
      return {
        async write(bytes) {
          const before = all.get(path);
          const whole = new Uint8Array((before?.sizeBytes ?? 0) + bytes.byteLength);
          whole.set(before?.bytes ?? []);
          whole.set(bytes, before?.sizeBytes ?? 0);
          put(path, whole, before?.mode ?? mode);
        },
        async close() {},
      };
    },
    async rename(from, to) {
      const file = all.get(from);
      if (!file) throw new Error(`there is no ${from}`);
      all.delete(from);
      all.set(to, file);
    },
    async remove(path) {
      for (const key of [...all.keys()]) if (key === path || key.startsWith(`${path}/`)) all.delete(key);
    },
    list: async (directory) => [
      ...new Set(
        [...all.keys()]
          .filter((path) => path.startsWith(`${directory}/`))
          .map((path) => path.slice(directory.length + 1).split("/")[0]!),
      ),
    ],
    freeBytes: async () => Number.MAX_SAFE_INTEGER,
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
    join: (...parts) => parts.join("/"),
  };
}
