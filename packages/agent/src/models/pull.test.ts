import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Host } from "../host.ts";
import { MODEL_LIMITS } from "../limits.ts";
import { createNodeHost } from "../node-host.ts";
import { createModelHost, type ModelHostServer } from "../testing/model-host.ts";
import { listModels, listParts, modelNamed, modelsDirectory, pulledFiles, removeModel } from "./library.ts";
import { type PullEvent, type PullOptions, pullModel } from "./pull.ts";

const REPO = "someone/Story-GGUF";
const FILE = "Story-Q4_K_M.gguf";
const content = Buffer.concat([Buffer.from("GGUF"), Buffer.alloc(900_000, "story ")]);
const sha256 = createHash("sha256").update(content).digest("hex");

let directory: string;
let server: ModelHostServer;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "gfe-models-"));
  server = await createModelHost(REPO, [
    { path: "README.md", content: Buffer.from("# Story") },
    { path: FILE, content },
    { path: "Story-Q8_0.gguf", content: Buffer.concat([Buffer.from("GGUF"), Buffer.alloc(1_000, 8)]) },
    { path: "mmproj-Story-F16.gguf", content: Buffer.from("GGUF and eyes") },
  ]);
});
afterEach(async () => {
  await server.close();
  await rm(directory, { recursive: true, force: true });
});

function hostOf(more: { env?: Record<string, string>; files?: Partial<Host["files"]> } = {}): Host {
  const host = createNodeHost({ env: { GFE_MODELS_DIR: directory, HF_ENDPOINT: server.url, ...more.env } });
  return {
    ...host,
    files: { ...host.files, ...more.files },
    // Pauses between tries pass in no time, and silence soon.
    after: (ms, callback) =>
      host.after(ms === MODEL_LIMITS.inquiryMs ? ms : ms === MODEL_LIMITS.silenceMs ? 300 : 5, callback),
  };
}

const final = () => join(directory, FILE);
async function pull(source = `${REPO}:Q4_K_M`, options: Partial<PullOptions> = {}, host = hostOf()) {
  const events: PullEvent[] = [];
  const path = await pullModel(host, { source, onEvent: (event) => events.push(event), ...options });
  return { path, events, host };
}
const isWhole = async () => (await readFile(final())).equals(content);

describe("a pull", () => {
  it("brings the file of the quantisation, checked, with its record, and tells how far it is", async () => {
    const { path, events, host } = await pull();
    expect(path).toBe(final());
    expect(await isWhole()).toBe(true);
    expect(events[0]).toEqual({ type: "found", name: "Story-Q4_K_M", bytes: content.length, files: 1 });
    expect(events.findLast(({ type }) => type === "progress")).toMatchObject({
      bytes: content.length,
      total: content.length,
    });
    expect(events.at(-1)).toMatchObject({ type: "done", checked: true, wasThere: false });
    expect(await listModels(host)).toMatchObject([
      {
        name: "Story-Q4_K_M",
        quantisation: "Q4_K_M",
        bytes: content.length,
        sha256,
        source: `${REPO}@main/${FILE}`,
      },
    ]);
    expect((await readdir(directory)).toSorted()).toEqual(["Story-Q4_K_M.gguf", "Story-Q4_K_M.json"]);
  });

  it("takes the quantisation of choice where none is named, and no file that only sees", async () => {
    expect((await pull(REPO)).path).toBe(final());
  });

  it("of what is there already loads nothing", async () => {
    await pull();
    const { events } = await pull();
    expect(events.at(-1)).toMatchObject({ type: "done", wasThere: true });
    expect(server.stored).toHaveLength(1);
  });

  it("goes on where a reset cut it off, by itself, and asks only for what is missing", async () => {
    server.trouble.cutAfter = [300_000, 200_000];
    const { events } = await pull();
    expect(await isWhole()).toBe(true);
    const [, second, third] = server.stored.map(({ range }) => Number(/\d+/.exec(range ?? "")?.[0]));
    expect(second).toBeGreaterThan(0);
    expect(third).toBeGreaterThan(second!);
    expect(server.stored[1]).toMatchObject({ ifRange: '"v1"' });
    expect(events.filter(({ type }) => type === "retry")).toHaveLength(2);
  });

  it("goes on in a later run where an earlier one was stopped", async () => {
    const stop = new AbortController();
    server.trouble.hangAfter = 500_000;
    const stopped = pull(undefined, {
      signal: stop.signal,
      onEvent: (event) => event.type === "progress" && event.bytes > 0 && stop.abort(new Error("stopped")),
    });
    await expect(stopped).rejects.toThrow("stopped");
    expect(existsSync(final())).toBe(false);
    expect(await listParts(hostOf())).toMatchObject([{ name: FILE, bytes: expect.any(Number) }]);
    await pull();
    expect(await isWhole()).toBe(true);
    expect(server.stored[1]!.range).toMatch(/^bytes=[1-9]\d*-$/);
  });

  it("gives up a server that falls silent, and goes on with it", async () => {
    server.trouble.hangAfter = 100_000;
    await pull();
    expect(await isWhole()).toBe(true);
  });

  it("begins anew where the server sends all of it, or has another version of it", async () => {
    server.trouble = { cutAfter: [300_000], ignoresRanges: true };
    await pull();
    expect(await isWhole()).toBe(true);
    await rm(final());
    await rm(join(directory, "Story-Q4_K_M.json"));
    server.trouble = { cutAfter: Array(100).fill(300_000), ignoresRanges: true };
    await expect(pull()).rejects.toThrow("What has come is kept");
    server.trouble = {};
    server.etag = '"v2"';
    await pull();
    expect(await isWhole()).toBe(true);
  });

  it("of which all is there but the name takes it as it is (416 or not asked at all)", async () => {
    await writeFile(`${final()}.part`, content);
    const note = { url: `${server.url}/${REPO}/resolve/main/${FILE}`, etag: null, bytes: null, sha256 };
    await writeFile(`${final()}.part.json`, JSON.stringify(note));
    await pull();
    expect(await isWhole()).toBe(true);
    expect(server.stored).toHaveLength(0);
  });

  it("by an address alone asks with a range and believes 416 that nothing is missing", async () => {
    const url = server.storeUrl(FILE);
    await writeFile(`${final()}.part`, content);
    await writeFile(
      `${final()}.part.json`,
      JSON.stringify({ url, etag: server.etag, bytes: null, sha256: null }),
    );
    const { events } = await pull(url);
    expect(server.stored[0]!.range).toBe(`bytes=${content.length}-`);
    expect(await isWhole()).toBe(true);
    // Nobody told a digest.
    expect(events.at(-1)).toMatchObject({ checked: false });
  });

  it("deletes what is not the file, and never gives it the file's name", async () => {
    server.trouble.forged = Buffer.concat([Buffer.from("GGUF"), Buffer.alloc(content.length - 4, "x")]);
    await expect(pull()).rejects.toThrow(/not the file .*SHA-256.*deleted/);
    expect(await readdir(directory)).toEqual([]);
  });

  it("does not trust what something else left in its place", async () => {
    await writeFile(`${final()}.part`, "something else");
    await pull();
    expect(await isWhole()).toBe(true);
  });

  it("checks an address against the SHA-256 that is given", async () => {
    const url = server.storeUrl(FILE);
    await expect(pull(url, { sha256: "0".repeat(64) })).rejects.toThrow("SHA-256");
    expect(existsSync(final())).toBe(false);
    expect((await pull(url, { sha256: `sha256:${sha256}` })).events.at(-1)).toMatchObject({ checked: true });
    await expect(pull(url, { sha256: "abc" })).rejects.toThrow("64 digits");
  });

  it("knows the digest by the redirect where the list does not tell it", async () => {
    const address = `${server.url}/${REPO}/resolve/main/${FILE}`;
    server.trouble.forged = Buffer.concat([Buffer.from("GGUF"), Buffer.alloc(content.length - 4, "x")]);
    const noList = { ...server.files[1]! };
    server.files = [noList];
    await expect(pull(address)).rejects.toThrow("SHA-256");
  });

  it("waits where the server asks for patience, and tries again", async () => {
    server.trouble.statuses = [503, 429];
    const { events } = await pull();
    expect(events.filter(({ type }) => type === "retry")).toMatchObject([
      { reason: expect.stringContaining("503") },
      { reason: expect.stringContaining("429") },
    ]);
    expect(await isWhole()).toBe(true);
  });

  it("takes no page for a model", async () => {
    server.trouble = { page: "<!DOCTYPE html><title>Log in</title>" };
    await expect(pull(server.storeUrl(FILE))).rejects.toThrow("no model file (GGUF)");
    expect(existsSync(final())).toBe(false);
  });
});

describe("access", () => {
  it("to a model whose terms were not accepted is explained, with the page to open", async () => {
    server.trouble.gated = { open: "hf_good" };
    await expect(pull()).rejects.toThrow(
      `open ${server.url}/${REPO}, accept them, and put an access token into HF_TOKEN`,
    );
    const env = { HF_TOKEN: "hf_other" };
    await expect(pull(undefined, {}, hostOf({ env }))).rejects.toThrow("not let this HF_TOKEN in yet");
  });

  it("is by a token, which goes to the model host and never to where the bytes lie", async () => {
    server.trouble.gated = { open: "hf_good" };
    await pull(undefined, {}, hostOf({ env: { HF_TOKEN: "hf_good" } }));
    expect(await isWhole()).toBe(true);
    expect(server.asked.every(({ authorization }) => authorization === "Bearer hf_good")).toBe(true);
    expect(server.stored.every(({ authorization }) => authorization === undefined)).toBe(true);
  });

  it("is not asked of any other server", async () => {
    await pull(server.storeUrl(FILE), {}, hostOf({ env: { HF_TOKEN: "hf_good" } }));
    expect(server.stored).toMatchObject([{ authorization: undefined }]);
  });
});

describe("what is wrong is told with its cure:", () => {
  it.each<[string, string, string]>([
    ["a repository that is not there", "someone/nothing", "check the spelling"],
    ["a quantisation that it has not", `${REPO}:Q2_K`, `no Q2_K. There are Q4_K_M, Q8_0`],
    ["a file that it has not", `${REPO}:other.gguf`, "no file other.gguf"],
    ["no model at all", "just-a-word", "write OWNER/REPOSITORY"],
    ["an address of no model file", "https://models.example/readme.txt", "no .gguf file"],
    ["an address without encryption", "http://models.example/a.gguf", "not encrypted"],
    ["an address with a password", "https://me:secret@models.example/a.gguf", "password"],
    ["no http", "ftp://models.example/a.gguf", "no http address"],
  ])("%s", async (_case, source, words) => {
    await expect(pull(source)).rejects.toThrow(words);
  });

  it("a server that is away", async () => {
    const host = hostOf({ env: { HF_ENDPOINT: "http://127.0.0.1:1" } });
    await expect(pull(undefined, {}, host)).rejects.toThrow("can't be reached");
    await expect(pull("http://127.0.0.1:1/a.gguf")).rejects.toThrow(
      "can't be reached: is there a connection?",
    );
  });

  it("a disk without room, before anything is loaded", async () => {
    const host = hostOf({ files: { freeBytes: async () => MODEL_LIMITS.spareBytes + content.length - 1 } });
    await expect(pull(undefined, {}, host)).rejects.toThrow(/needs 0\.0 GB more.*GFE_MODELS_DIR/);
    expect(await listParts(host)).toEqual([]);
  });

  it("a disk that fills up on the way: what has come is kept", async () => {
    const real = createNodeHost().files;
    let left = 300_000;
    const append: Host["files"]["append"] = async (path, options) => {
      const writer = await real.append(path, options);
      return {
        close: () => writer.close(),
        async write(bytes) {
          left -= bytes.byteLength;
          if (left < 0) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
          return writer.write(bytes);
        },
      };
    };
    await expect(pull(undefined, {}, hostOf({ files: { append } }))).rejects.toThrow("the disk is full");
    await pull();
    expect(server.stored[1]!.range).toMatch(/^bytes=[1-9]/);
    expect(await isWhole()).toBe(true);
  });

  it("a name that another model has", async () => {
    await pull();
    await expect(pull(`${REPO}:Q8_0`, { name: "Story-Q4_K_M" })).rejects.toThrow("another name with --name");
    await writeFile(join(directory, "mine.gguf"), "GGUF mine");
    await expect(pull(`${REPO}:Q8_0`, { name: "mine" })).rejects.toThrow("was not pulled");
    expect(await readFile(join(directory, "mine.gguf"), "utf8")).toBe("GGUF mine");
  });
});

describe("a model in parts", () => {
  const part = (number: number) => ({
    path: `big/Big-Q4_0-0000${number}-of-00002.gguf`,
    content: Buffer.concat([Buffer.from("GGUF"), Buffer.alloc(100_000, number)]),
  });

  it("is brought whole, listed as one, and removed with all its parts", async () => {
    server.files = [part(2), part(1)];
    const { path, events, host } = await pull(REPO);
    expect(path).toBe(join(directory, "Big-Q4_0-00001-of-00002.gguf"));
    expect(events.findLast(({ type }) => type === "progress")).toMatchObject({
      bytes: 200_008,
      total: 200_008,
    });
    expect(await listModels(host)).toMatchObject([{ name: "Big-Q4_0", path, bytes: 200_008 }]);
    expect(await removeModel(host, await modelNamed(host, "big-q4_0"))).toBe(200_008);
    expect(await readdir(directory)).toEqual([]);
  });

  it("of which one is missing is refused", async () => {
    server.files = [part(1)];
    await expect(pull(REPO)).rejects.toThrow("1 parts of 2");
  });
});

describe("the folder of models", () => {
  it.each<[Record<string, string>, string, string]>([
    [{ GFE_MODELS_DIR: "/disk/models", XDG_DATA_HOME: "/data" }, "linux", "/disk/models"],
    [{ XDG_DATA_HOME: "/data", HOME: "/home/me" }, "linux", "/data/gfe/models"],
    [{ HOME: "/home/me" }, "linux", "/home/me/.local/share/gfe/models"],
    [{ LOCALAPPDATA: "/local", USERPROFILE: "/me" }, "win32", "/local/gfe/models"],
  ])("%o on %s is %s", (env, platform, expected) => {
    expect(modelsDirectory({ ...hostOf(), env, platform })).toBe(expected);
  });

  it("counts files that somebody put there, and removes no more than is asked for", async () => {
    const host = hostOf();
    await pull();
    await writeFile(join(directory, "own-Q8_0.gguf"), "GGUF");
    await writeFile(join(directory, "notes.txt"), "mine");
    expect((await listModels(host)).map(({ name, source }) => [name, source === null])).toEqual([
      ["Story-Q4_K_M", false],
      ["own-Q8_0", true],
    ]);
    await writeFile(join(directory, "half.gguf.part"), "GGUF");
    expect((await pulledFiles(host)).toSorted()).toEqual(
      ["Story-Q4_K_M.gguf", "Story-Q4_K_M.json", "half.gguf.part"].map((name) => join(directory, name)),
    );
    await rm(join(directory, "half.gguf.part"));
    await expect(modelNamed(host, "other")).rejects.toThrow("There are Story-Q4_K_M, own-Q8_0");
    await removeModel(host, await modelNamed(host, "Story-Q4_K_M.gguf"));
    expect((await readdir(directory)).toSorted()).toEqual(["notes.txt", "own-Q8_0.gguf"]);
  });
});
