/** /v1/files in OpenAI's dialect: what batches are made of. An account sees its own files and no others. */
import { Readable } from "node:stream";
import multipart from "@fastify/multipart";
import { GfeError } from "@gfe/protocol";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import {
  deleteFile,
  FILE_LIMITS,
  FileWriter,
  fileContent,
  findFile,
  listFiles,
  refuseFullAccount,
  type StoredFile,
} from "../../jobs/deferred/files.ts";
import { nameOf } from "../parse.ts";
import type { BatchDeps } from "./batch.ts";

const FILENAME_MAX = 200;
/** Seconds, as OpenAI bounds it from below; our own retention bounds it from above. */
const KEEP_SECONDS_MIN = 3_600;

const params = z.object({ id: nameOf(80) });
const tags = ["files"];

export function registerFiles(instance: FastifyInstance, { payerOf, pool }: BatchDeps): void {
  instance.register(multipart, {
    limits: { fileSize: FILE_LIMITS.bytes, files: 1, fields: 8, fieldSize: 1_000, parts: 9 },
  });
  const app = instance.withTypeProvider<ZodTypeProvider>();

  app.post(
    "/v1/files",
    {
      schema: {
        tags,
        summary: "Upload a file of requests (JSONL) for a batch; it is deleted by itself later",
        consumes: ["multipart/form-data"],
      },
    },
    async (request) => {
      const { userId } = await payerOf(request);
      if (!request.isMultipart()) throw new GfeError("unsupported_media_type", "Send multipart/form-data");
      await refuseFullAccount(pool, userId, 1);
      const writer = await FileWriter.begin(pool, { userId, purpose: "batch", filename: "" });
      try {
        const { filename, seconds } = await receive(request, writer, () =>
          refuseFullAccount(pool, userId, 0),
        );
        return fileWire(await writer.finish(filename, seconds));
      } catch (error) {
        await writer.discard();
        throw error;
      }
    },
  );

  app.get(
    "/v1/files",
    {
      schema: {
        tags,
        summary: "The caller's files",
        querystring: z.object({
          purpose: z.enum(["batch", "batch_output"]).optional(),
          after: nameOf(80).optional(),
          limit: z.coerce.number().int().min(1).max(10_000).default(10_000),
          order: z.enum(["asc", "desc"]).default("desc"),
        }),
      },
    },
    async (request) => {
      const { userId } = await payerOf(request);
      const { limit } = request.query;
      const files = await listFiles(pool, userId, { ...request.query, limit: limit + 1 });
      return listWire(files.map(fileWire), limit);
    },
  );

  app.get("/v1/files/:id", { schema: { tags, summary: "One file", params } }, async (request) => {
    const { userId } = await payerOf(request);
    return fileWire(found(await findFile(pool, userId, request.params.id), request.params.id));
  });

  app.get(
    "/v1/files/:id/content",
    { schema: { tags, summary: "What is in a file", params } },
    async (request, reply) => {
      const { userId } = await payerOf(request);
      const file = found(await findFile(pool, userId, request.params.id), request.params.id);
      reply.header("content-type", "application/jsonl").header("content-length", String(file.bytes));
      return reply.send(Readable.from(fileContent(pool, file.id), { objectMode: false }));
    },
  );

  app.delete("/v1/files/:id", { schema: { tags, summary: "Delete a file", params } }, async (request) => {
    const { userId } = await payerOf(request);
    const { id } = request.params;
    if (!(await deleteFile(pool, userId, id))) found(null, id);
    return { id, object: "file", deleted: true };
  });
}

/** Reads a form part by part, its file straight into the database. Throws GfeError that names the field at fault. */
async function receive(
  request: FastifyRequest,
  writer: FileWriter,
  refuseFull: () => Promise<void>,
): Promise<{ filename: string; seconds: number | undefined }> {
  const fields = new Map<string, unknown>();
  let filename: string | null = null;
  const refuse = (param: string, reason: string): never => {
    throw new GfeError("invalid_request", `${param}: ${reason}`, { param });
  };
  for await (const part of parts(request)) {
    if (part.type === "field") {
      fields.set(part.fieldname, part.value);
      continue;
    }
    if (part.fieldname !== "file") refuse(part.fieldname, "the file goes into the field `file`");
    filename = part.filename;
    for await (const piece of part.file) {
      if (await writer.write(piece as Buffer)) await refuseFull();
      if (writer.lines > FILE_LIMITS.lines) refuse("file", `has more than ${FILE_LIMITS.lines} lines`);
    }
    if (part.file.truncated)
      throw new GfeError("body_too_large", `A file has at most ${FILE_LIMITS.bytes} bytes`, {
        param: "file",
      });
  }
  if (filename === null) refuse("file", "is missing");
  if (writer.bytes === 0) refuse("file", "is empty");
  if (fields.get("purpose") !== "batch") refuse("purpose", "must be batch");
  const anchor = fields.get("expires_after[anchor]");
  const seconds = fields.get("expires_after[seconds]");
  for (const name of fields.keys())
    if (!["purpose", "expires_after[anchor]", "expires_after[seconds]"].includes(name))
      throw new GfeError("unsupported_parameter", `Unknown parameter: ${name}`, { param: name });
  if (anchor !== undefined && anchor !== "created_at") refuse("expires_after[anchor]", "must be created_at");
  if (seconds !== undefined && !(/^\d{1,8}$/.test(String(seconds)) && Number(seconds) >= KEEP_SECONDS_MIN))
    refuse("expires_after[seconds]", `must be a whole number of at least ${KEEP_SECONDS_MIN}`);
  return {
    filename: filename!.replace(/\p{Cc}/gu, "").slice(0, FILENAME_MAX) || "file.jsonl",
    seconds: seconds === undefined ? undefined : Number(seconds),
  };
}

/** A form that breaks off or breaks its bounds is its sender's fault. */
async function* parts(request: FastifyRequest) {
  try {
    yield* request.parts();
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    if (error instanceof GfeError || code === undefined) throw error;
    if (code === "FST_REQ_FILE_TOO_LARGE")
      throw new GfeError("body_too_large", `A file has at most ${FILE_LIMITS.bytes} bytes`, {
        param: "file",
      });
    throw new GfeError("invalid_request", `The form cannot be read: ${message}`);
  }
}

function found(file: StoredFile | null, id: string): StoredFile {
  if (!file) throw new GfeError("not_found", `There is no such file: ${id}`);
  return file;
}

const seconds = (time: Date): number => Math.floor(time.getTime() / 1000);

function fileWire(file: StoredFile) {
  return {
    id: file.id,
    object: "file",
    bytes: file.bytes,
    created_at: seconds(file.createdAt),
    expires_at: seconds(file.expiresAt),
    filename: file.filename,
    purpose: file.purpose,
    status: "processed",
  };
}

/** `found` may have one more than asked for: that there is more. */
export function listWire<T extends { id: string }>(found: T[], limit: number) {
  const data = found.slice(0, limit);
  return {
    object: "list",
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: found.length > limit,
  };
}
