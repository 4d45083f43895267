/**
 * A model host that behaves as the real one: a tree of files with their LFS digests, and files that lie elsewhere, behind
 * a redirect to a signed address that takes ranges. What goes wrong is set by the test.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface HostedFile {
  path: string;
  content: Buffer;
}

export interface Trouble {
  /** Resets the connection after so many bytes of a body, as many times as there are numbers. */
  cutAfter?: number[];
  /** Says nothing after so many bytes of a body, once. */
  hangAfter?: number;
  /** Sends these bytes instead, under the digest of the right ones. */
  forged?: Buffer;
  /** Asks for terms to be accepted; `open` is the token that may. */
  gated?: { open: string };
  /** Answers 200 with all of it, whatever part is asked for. */
  ignoresRanges?: boolean;
  /** Answers this before anything else, as many times as there are numbers. */
  statuses?: number[];
  /** Says that a page is the file. */
  page?: string;
  /** Leaves the digest out of the tree and of the redirect. */
  hidesDigest?: boolean;
}

export interface ModelHostServer {
  url: string;
  /** Of the store: method is always GET. */
  stored: { range: string | undefined; ifRange: string | undefined; authorization: string | undefined }[];
  asked: { path: string; authorization: string | undefined }[];
  trouble: Trouble;
  /** What the store says of each file's version. */
  etag: string;
  files: HostedFile[];
  storeUrl(path: string): string;
  close(): Promise<void>;
}

const sha256 = (content: Buffer) => createHash("sha256").update(content).digest("hex");

async function listen(handle: (request: IncomingMessage, response: ServerResponse) => void) {
  const server = createServer(handle);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** `owner/name` has the files of that name. */
export async function createModelHost(repo: string, files: HostedFile[]): Promise<ModelHostServer> {
  const asked: ModelHostServer["asked"] = [];
  const stored: ModelHostServer["stored"] = [];
  let signatures = 0;

  const store = await listen((request, response) => {
    const path = decodeURIComponent(new URL(`http://x${request.url}`).pathname.slice(1));
    const file = self.files.find((one) => one.path === path);
    const { trouble } = self;
    stored.push({
      range: request.headers.range,
      ifRange: request.headers["if-range"] as string | undefined,
      authorization: request.headers.authorization,
    });
    if (!file) return void response.writeHead(404).end();
    const status = trouble.statuses?.shift();
    if (status !== undefined) return void response.writeHead(status).end("trouble");
    const content = trouble.page ? Buffer.from(trouble.page) : (trouble.forged ?? file.content);
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const ifRange = request.headers["if-range"];
    const isPart = from > 0 && !trouble.ignoresRanges && (ifRange === undefined || ifRange === self.etag);
    if (isPart && from >= content.length)
      return void response.writeHead(416, { "content-range": `bytes */${content.length}` }).end();
    const body = isPart ? content.subarray(from) : content;
    response.writeHead(isPart ? 206 : 200, {
      "content-length": body.length,
      etag: self.etag,
      ...(isPart ? { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` } : {}),
    });
    const cut = trouble.cutAfter?.shift();
    if (cut !== undefined) return void response.write(body.subarray(0, cut), () => response.destroy());
    if (trouble.hangAfter !== undefined) {
      response.write(body.subarray(0, trouble.hangAfter));
      delete trouble.hangAfter;
      return;
    }
    response.end(body);
  });

  const home = await listen((request, response) => {
    const { pathname } = new URL(`http://x${request.url}`);
    const { authorization } = request.headers;
    const { trouble } = self;
    asked.push({ path: pathname, authorization });
    if (pathname === `/api/models/${repo}/tree/main`) {
      const tree = self.files.map(({ path, content }) => ({
        ...{ type: "file", oid: "0".repeat(40), size: content.length, path },
        ...(trouble.hidesDigest
          ? {}
          : { lfs: { oid: sha256(content), size: content.length, pointerSize: 135 } }),
      }));
      return void response
        .writeHead(200, { "content-type": "application/json" })
        .end(JSON.stringify([{ type: "directory", oid: "1", size: 0, path: "folder" }, ...tree]));
    }
    const path = pathname.startsWith(`/${repo}/resolve/main/`)
      ? decodeURIComponent(pathname.slice(`/${repo}/resolve/main/`.length))
      : null;
    const file = self.files.find((one) => one.path === path);
    if (!file)
      return void response
        .writeHead(404, { "x-error-code": path ? "EntryNotFound" : "RepoNotFound" })
        .end("{}");
    if (trouble.gated && authorization !== `Bearer ${trouble.gated.open}`)
      return void response
        .writeHead(authorization ? 403 : 401, { "x-error-code": "GatedRepo" })
        .end('{"error":"Access to model is restricted."}');
    response
      .writeHead(302, {
        location: `${store.url}/${encodeURIComponent(file.path)}?X-Signature=${++signatures}`,
        ...(trouble.hidesDigest
          ? {}
          : { "x-linked-etag": `"${sha256(file.content)}"`, "x-linked-size": file.content.length }),
      })
      .end();
  });

  const self: ModelHostServer = {
    ...{ url: home.url, asked, stored, files, trouble: {}, etag: '"v1"' },
    storeUrl: (path) => `${store.url}/${encodeURIComponent(path)}`,
    async close() {
      await home.close();
      await store.close();
    },
  };
  return self;
}
