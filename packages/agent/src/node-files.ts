import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import {
  chmod,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  statfs,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { Files } from "./host.ts";

const is = (error: unknown, code: string): boolean =>
  error instanceof Error && (error as NodeJS.ErrnoException).code === code;

async function writeNew(path: string, text: string, mode: number): Promise<boolean> {
  try {
    await writeFile(path, text, { mode, flag: "wx" });
    return true;
  } catch (error) {
    if (is(error, "EEXIST")) return false;
    await rm(path, { force: true }); // ours, and a part of what it should be
    throw error;
  }
}

/** Files of the machine. A write goes to a sibling first, so that a reader sees the old or the new, never a part. */
export const nodeFiles: Files = {
  async read(path) {
    try {
      return await readFile(path);
    } catch (error) {
      if (is(error, "ENOENT")) return null;
      throw error;
    }
  },

  async write(path, text, { mode, exclusive = false }) {
    const sibling = `${path}.${randomBytes(6).toString("hex")}.tmp`;
    try {
      await writeFile(sibling, text, { mode, flag: "wx" });
    } catch (error) {
      await rm(sibling, { force: true });
      throw error;
    }
    try {
      await chmod(sibling, mode); // whatever the umask took away or left
      if (!exclusive) {
        await rename(sibling, path);
        return true;
      }
      await link(sibling, path);
      return true;
    } catch (error) {
      if (!exclusive) throw error;
      if (is(error, "EEXIST")) return false;
      return writeNew(path, text, mode); // a file system without hard links
    } finally {
      await rm(sibling, { force: true });
    }
  },

  async makeDirectory(path, mode) {
    await mkdir(path, { recursive: true, mode });
  },

  setMode: chmod,

  async facts(path) {
    try {
      const { size, mtimeMs, mode } = await stat(path);
      return {
        sizeBytes: size,
        modifiedMs: mtimeMs,
        mode: process.platform === "win32" ? null : mode & 0o777,
      };
    } catch (error) {
      if (is(error, "ENOENT") || is(error, "ENOTDIR")) return null;
      throw error;
    }
  },

  async sha256(path) {
    const hash = createHash("sha256");
    await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
    return hash.digest("hex");
  },

  async append(path, { mode }) {
    const file = await open(path, "a", mode);
    return {
      async write(bytes) {
        for (let at = 0; at < bytes.byteLength; ) {
          const { bytesWritten } = await file.write(bytes, at);
          at += bytesWritten;
        }
      },
      close: () => file.close(),
    };
  },

  rename,

  remove: (path) => rm(path, { recursive: true, force: true }),

  async list(directory) {
    try {
      return await readdir(directory);
    } catch (error) {
      if (is(error, "ENOENT")) return [];
      throw error;
    }
  },

  async freeBytes(path) {
    try {
      const { bavail, bsize } = await statfs(path);
      return bavail * bsize;
    } catch (error) {
      const above = dirname(path);
      if (!is(error, "ENOENT") || above === path) throw error;
      return nodeFiles.freeBytes(above);
    }
  },

  join,
};
