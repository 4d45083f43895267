/** A body that is run later, as the same job that its request would be now, and its answer as that request would get it. */
import { GfeError } from "@gfe/protocol";
import type { Prepared } from "../../jobs/deferred/runner.ts";
import type { JobKind, JobRequest, Payer, Priority } from "../../jobs/types.ts";
import { parseBody } from "../parse.ts";
import { Gatherer } from "./answer.ts";
import { chatRequest, completionRequest, embeddingsRequest } from "./requests.ts";
import { chatBodySchema, completionBodySchema, embeddingsBodySchema } from "./schemas.ts";

/** Throws GfeError where the body is not what its endpoint takes, or asks for a stream. */
export function prepareWhole(kind: JobKind, body: unknown, payer: Payer, priority: Priority): Prepared {
  const sink = new Gatherer();
  const { request, model, write } = checked(kind, body, payer, sink);
  return {
    request: { ...request, whole: true, priority },
    sink,
    answer: (outcome) =>
      write(
        { id: outcome.jobId.replace(/^job_/, ""), created: Math.floor(Date.now() / 1000), model },
        outcome,
      ),
  };
}

type Write = (
  head: Parameters<Gatherer["chatAnswer"]>[0],
  outcome: Parameters<Gatherer["chatAnswer"]>[1],
) => object;

function checked(
  kind: JobKind,
  body: unknown,
  payer: Payer,
  sink: Gatherer,
): { request: JobRequest; model: string; write: Write } {
  switch (kind) {
    case "chat": {
      const chat = parseBody(chatBodySchema, body);
      refuseStream(chat.stream);
      return {
        request: chatRequest(chat, payer),
        model: chat.model,
        write: (head, outcome) => sink.chatAnswer({ ...head, id: `chatcmpl-${head.id}` }, outcome),
      };
    }
    case "completion": {
      const completion = parseBody(completionBodySchema, body);
      refuseStream(completion.stream);
      return {
        request: completionRequest(completion, payer),
        model: completion.model,
        write: (head, outcome) => sink.completionAnswer({ ...head, id: `cmpl-${head.id}` }, outcome),
      };
    }
    case "embedding": {
      const embeddings = parseBody(embeddingsBodySchema, body);
      const format = embeddings.encoding_format ?? "float";
      return {
        request: embeddingsRequest(embeddings, payer),
        model: embeddings.model,
        write: (_head, outcome) => sink.embeddingsAnswer(embeddings.model, format, outcome),
      };
    }
  }
}

function refuseStream(stream: boolean | null | undefined): void {
  if (stream === true)
    throw new GfeError("unsupported_parameter", "stream: an answer that is fetched later is not streamed", {
      param: "stream",
    });
}
