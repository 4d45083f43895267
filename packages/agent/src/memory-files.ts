import type { FileFacts, Files } from "./host.ts";

/** Files that live in memory: for the many nodes of a simulation, and for tests. */
export function createMemoryFiles(): Files {
  const all = new Map<string, FileFacts & { bytes: Uint8Array<ArrayBuffer> }>();
  return {
    read: async (path) => all.get(path)?.bytes ?? null,
    async write(path, text, { mode, exclusive = false }) {
      if (exclusive && all.has(path)) return false;
      const bytes = new TextEncoder().encode(text);
      all.set(path, { bytes, mode, sizeBytes: bytes.byteLength, modifiedMs: 0 });
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
    join: (...parts) => parts.join("/"),
  };
}
