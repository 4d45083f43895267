/** The agent's releases and their installers, from a directory. The page at /download is the dashboard's. */
import { Readable } from "node:stream";
import { GfeError, MANIFEST_NAME } from "@gfe/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { parseRange } from "./range.ts";
import { createReleaseFiles, INSTALLERS, type OpenFile } from "./release-files.ts";

/** What may stand in a script between quotes; an origin could hold more. */
const PLAIN_ORIGIN = /^https?:\/\/[A-Za-z0-9.:[\]-]{1,300}$/;
const INSTALLER_BYTES_MAX = 100_000;

export interface DownloadsDeps {
  directory: string;
  /** Where agents reach this hub: written into the installers. */
  hubUrl: string;
}

export function registerDownloads(app: FastifyInstance, { directory, hubUrl }: DownloadsDeps): void {
  const files = createReleaseFiles(directory);
  const tags = ["downloads"];

  const serve = async (name: string, request: FastifyRequest, reply: FastifyReply) => {
    const file = await files.open(name);
    if (file) return send(file, name, request, reply);
    throw new GfeError(
      "not_found",
      (await files.manifest())
        ? "This release has no such file: /download/manifest.json names what there is"
        : "This hub has no downloads: its operator builds and signs them, or names their folder in GFE_DOWNLOADS_DIR",
    );
  };

  app.get<{ Params: { name: string } }>(
    "/download/files/:name",
    { schema: { tags, summary: "A file of the agent's release, whole or a range of it" } },
    (request, reply) => serve(request.params.name, request, reply),
  );
  for (const name of [MANIFEST_NAME, `${MANIFEST_NAME}.minisig`])
    app.get(
      `/download/${name}`,
      { schema: { tags, summary: "What there is to download, with sizes and sums; its signature" } },
      (request, reply) => serve(name, request, reply),
    );
  for (const name of INSTALLERS)
    app.get(
      `/${name}`,
      { schema: { tags, summary: "Installs the agent for this user, from this hub" } },
      async (_request, reply) => {
        const file = await files.open(name);
        if (!file || file.sizeBytes > INSTALLER_BYTES_MAX || !PLAIN_ORIGIN.test(hubUrl)) {
          await file?.handle.close();
          throw new GfeError("not_found", "This hub has no installer: see /download");
        }
        const text = await file.handle.readFile("utf8").finally(() => file.handle.close());
        return reply
          .type("text/plain; charset=utf-8")
          .header("cache-control", "no-cache")
          .send(text.replaceAll("@HUB@", hubUrl));
      },
    );
}

async function send(
  file: OpenFile,
  name: string,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { handle, sizeBytes, sha256, modifiedMs } = file;
  const etag = sha256 ? `"${sha256}"` : `"${Math.floor(modifiedMs).toString(36)}-${sizeBytes.toString(36)}"`;
  const asked = (request.query as { sha256?: unknown }).sha256;
  reply.headers({
    etag,
    "accept-ranges": "bytes",
    // Under its sum a file never changes; under its name alone the next release has another.
    "cache-control": sha256 !== null && asked === sha256 ? "public, max-age=31536000, immutable" : "no-cache",
  });
  const { range, "if-range": ifRange, "if-none-match": ifNoneMatch } = request.headers;
  if (ifNoneMatch?.split(",").some((one) => one.trim().replace(/^W\//, "") === etag)) {
    await handle.close();
    return reply.status(304).send();
  }
  const part =
    ifRange === undefined || ifRange === etag ? parseRange(range, sizeBytes) : ({ type: "whole" } as const);
  if (part.type === "unsatisfiable") {
    await handle.close();
    reply.header("content-range", `bytes */${sizeBytes}`);
    return reply.status(416).type("text/plain").send("There are fewer bytes than that.\n");
  }
  const [from, to] = part.type === "part" ? [part.from, part.to] : [0, sizeBytes - 1];
  if (part.type === "part") reply.status(206).header("content-range", `bytes ${from}-${to}/${sizeBytes}`);
  reply.type(typeOf(name)).header("content-length", to - from + 1);
  if (request.method !== "HEAD" && sizeBytes > 0)
    return reply.send(handle.createReadStream({ start: from, end: to }));
  await handle.close();
  // Text would have its own length told.
  return reply.send(Readable.from([]));
}

function typeOf(name: string): string {
  if (name === MANIFEST_NAME) return "application/json";
  return /^(gfe|gfe-agent-slim)-.*(?<!\.minisig)$/.test(name)
    ? "application/octet-stream"
    : "text/plain; charset=utf-8";
}
