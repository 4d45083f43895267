/** Local HTTP on the native host: for programs of the same user. */
import {
  EndpointTaken,
  type LocalAnswer,
  type LocalLimits,
  type LocalRequest,
  type Serving,
} from "../host.ts";
import type { Native, NativeReply } from "./native.ts";

export async function serveLocal(
  native: Native,
  endpoint: string,
  handler: (request: LocalRequest) => Promise<LocalAnswer>,
  limits: LocalLimits,
): Promise<Serving> {
  const serving = await native.serve(endpoint, limits, (method, path, body, reply) => {
    handler({ method, path, body })
      .then((answer) => send(answer, reply))
      .catch(() => {}) // the asker has gone, or the handler broke: both end the connection
      .then(() => reply.end());
  });
  if (!serving) throw new EndpointTaken(endpoint);
  return serving;
}

async function send({ status, body }: LocalAnswer, reply: NativeReply): Promise<void> {
  if (typeof body === "string") return reply.whole(status, body);
  const lines = body[Symbol.asyncIterator]();
  reply.onGone(() => void lines.return?.());
  await reply.begin(status);
  for (let next = await lines.next(); !next.done; next = await lines.next()) await reply.line(next.value);
}
