/** A job's answer as a response: whole, or as its stream of events. */
import type { ServerResponse } from "node:http";
import { type ChoiceDelta, type GfeError, newId, toOpenAiError } from "@gfe/protocol";
import type { JobOutcome, JobStart, Place } from "../../jobs/types.ts";
import type { Gatherer } from "../inference/answer.ts";
import type { StreamedAnswer } from "../inference/serve.ts";
import { queuedComment } from "../inference/stream.ts";
import { StreamWriter } from "../inference/stream-writer.ts";
import type { ResponsesBody } from "./schemas.ts";

export interface ResponseHead {
  id: string;
  /** Seconds since 1970. */
  createdAt: number;
  asked: ResponsesBody;
}

type OutputItem = { id: string; type: string; status?: string } & Record<string, unknown>;

/** Ids of items are the caller's to send back; nothing is found by them. */
const textItem = (id: string, text: string, status: string): OutputItem => ({
  ...{ id, type: "message", role: "assistant", status },
  content: status === "in_progress" ? [] : [textPart(text)],
});
const textPart = (text: string) => ({ type: "output_text", text, annotations: [], logprobs: [] });
const thoughtItem = (id: string, text: string): OutputItem => ({
  ...{ id, type: "reasoning" },
  summary: text === "" ? [] : [{ type: "summary_text", text }],
});
const callItem = (id: string, callId: string, name: string, text: string, status: string): OutputItem => ({
  ...{ id, type: "function_call", status, name },
  call_id: callId,
  arguments: text,
});

export function wholeResponse(head: ResponseHead, gathered: Gatherer, outcome: JobOutcome): object {
  const [choice] = gathered.chatAnswer({ id: "", created: 0, model: head.asked.model }, outcome).choices;
  const { content, reasoning_content: thought, tool_calls: calls = [] } = choice!.message;
  const output = [
    ...(thought ? [thoughtItem(newId("rs"), thought)] : []),
    ...(content ? [textItem(newId("msg"), content, "completed")] : []),
    ...calls.map(({ id, function: { name, arguments: text } }) =>
      callItem(newId("fc"), id, name, text, "completed"),
    ),
  ];
  return endedWire(head, output, outcome);
}

/** What was asked, as OpenAI repeats it, and what came of it. */
function responseWire(head: ResponseHead, status: string, output: readonly OutputItem[]) {
  const { asked } = head;
  return {
    ...{ id: head.id, object: "response", created_at: head.createdAt, status, model: asked.model, output },
    error: null as object | null,
    incomplete_details: null as object | null,
    instructions: asked.instructions ?? null,
    max_output_tokens: asked.max_output_tokens ?? null,
    metadata: asked.metadata ?? {},
    parallel_tool_calls: asked.parallel_tool_calls ?? true,
    previous_response_id: null,
    reasoning: { effort: asked.reasoning?.effort ?? null, summary: null },
    store: false,
    temperature: asked.temperature ?? null,
    text: { format: asked.text?.format ?? { type: "text" } },
    tool_choice: asked.tool_choice ?? "auto",
    tools: asked.tools ?? [],
    top_p: asked.top_p ?? null,
    truncation: "disabled",
    usage: null as object | null,
  };
}

function endedWire(head: ResponseHead, output: readonly OutputItem[], { finish, usage }: JobOutcome) {
  const reasons: Record<string, string> = { length: "max_output_tokens", content_filter: "content_filter" };
  const reason = reasons[finish[0] ?? "stop"];
  return {
    ...responseWire(head, reason ? "incomplete" : "completed", output),
    incomplete_details: reason ? { reason } : null,
    usage: {
      input_tokens: usage.input_tokens,
      input_tokens_details: { cached_tokens: usage.cached_input_tokens },
      output_tokens: usage.output_tokens,
      output_tokens_details: { reasoning_tokens: usage.reasoning_tokens },
      total_tokens: usage.input_tokens + usage.output_tokens,
    },
  };
}

interface Said {
  kind: "text" | "thought";
  id: string;
  index: number;
  text: string;
}
interface Call {
  /** Null until its name is known: an item begins with it. */
  index: number | null;
  id: string;
  callId: string;
  name: string;
  text: string;
}

/** Text and thought follow one another; calls of tools, whose pieces engines may mix, stay open to the end. */
export class ResponseStream implements StreamedAnswer {
  readonly writer: StreamWriter;
  readonly #head: ResponseHead;
  readonly #output: OutputItem[] = [];
  readonly #calls = new Map<number, Call>();
  #sequence = 0;
  #said: Said | null = null;

  constructor(response: ServerResponse, head: ResponseHead, headers: Record<string, string>) {
    this.#head = head;
    this.writer = new StreamWriter({
      response,
      headers: { ...headers, "content-type": "text/event-stream; charset=utf-8" },
      keepAlive: ": keep-alive\n\n",
    });
  }

  queued(place: Place): void {
    this.writer.write(queuedComment(place));
  }

  started(start: JobStart): void {
    this.writer.nameJob(start);
  }

  text(text: string): void {
    this.#say("text", text);
  }

  reasoning(text: string): void {
    this.#say("thought", text);
  }

  choice({ content, reasoning, tool_calls: calls = [] }: ChoiceDelta): void {
    if (reasoning) this.#say("thought", reasoning);
    if (content) this.#say("text", content);
    for (const call of calls) this.#call(call);
  }

  embeddings(): void {}

  finish(outcome: JobOutcome): void {
    this.#begin();
    this.#close();
    for (const call of this.#calls.values()) this.#endCall(call);
    const response = endedWire(this.#head, this.#output, outcome);
    this.#event(`response.${response.status}`, { response });
    this.writer.end();
  }

  fail(error: GfeError): void {
    const { code, message, param } = toOpenAiError(error).error;
    const response = {
      ...responseWire(this.#head, "failed", this.#output),
      error: { code, message },
    };
    if (this.#sequence > 0) this.#event("response.failed", { response });
    this.#event("error", { code, message, param, ...toOpenAiError(error) });
    this.writer.end();
  }

  #say(kind: Said["kind"], piece: string): void {
    if (this.#said?.kind !== kind) {
      this.#close();
      this.#open(kind);
    }
    const said = this.#said!;
    said.text += piece;
    if (kind === "text")
      this.#event("response.output_text.delta", {
        ...this.#at(said),
        content_index: 0,
        delta: piece,
        logprobs: [],
      });
    else
      this.#event("response.reasoning_summary_text.delta", {
        ...this.#at(said),
        summary_index: 0,
        delta: piece,
      });
  }

  #open(kind: Said["kind"]): void {
    const id = newId(kind === "text" ? "msg" : "rs");
    const index = this.#add(kind === "text" ? textItem(id, "", "in_progress") : thoughtItem(id, ""));
    this.#said = { kind, id, index, text: "" };
    const at = this.#at(this.#said);
    if (kind === "text")
      this.#event("response.content_part.added", { ...at, content_index: 0, part: textPart("") });
    else
      this.#event("response.reasoning_summary_part.added", {
        ...at,
        summary_index: 0,
        part: { type: "summary_text", text: "" },
      });
  }

  #close(): void {
    const said = this.#said;
    if (!said) return;
    this.#said = null;
    const { text } = said;
    if (said.kind === "text") {
      const at = { ...this.#at(said), content_index: 0 };
      this.#event("response.output_text.done", { ...at, text, logprobs: [] });
      this.#event("response.content_part.done", { ...at, part: textPart(text) });
      this.#end(said.index, textItem(said.id, text, "completed"));
    } else {
      const at = { ...this.#at(said), summary_index: 0 };
      this.#event("response.reasoning_summary_text.done", { ...at, text });
      this.#event("response.reasoning_summary_part.done", { ...at, part: { type: "summary_text", text } });
      this.#end(said.index, thoughtItem(said.id, text));
    }
  }

  #call({ index, id, function: given }: NonNullable<ChoiceDelta["tool_calls"]>[number]): void {
    const call = this.#calls.get(index) ?? { index: null, id: newId("fc"), callId: "", name: "", text: "" };
    this.#calls.set(index, call);
    call.callId ||= id ?? "";
    const isOpen = call.index !== null;
    const said = given?.arguments ?? "";
    call.text += said;
    if (!isOpen) {
      call.name += given?.name ?? "";
      if (call.name === "") return;
      this.#close();
      call.index = this.#add(callItem(call.id, call.callId, call.name, "", "in_progress"));
    }
    const delta = isOpen ? said : call.text;
    if (delta === "") return;
    this.#event("response.function_call_arguments.delta", {
      item_id: call.id,
      output_index: call.index,
      delta,
    });
  }

  #endCall({ index, id, callId, name, text }: Call): void {
    if (index === null) return;
    this.#event("response.function_call_arguments.done", {
      item_id: id,
      output_index: index,
      name,
      arguments: text,
    });
    this.#end(index, callItem(id, callId, name, text, "completed"));
  }

  #begin(): void {
    if (this.#sequence > 0) return;
    const response = responseWire(this.#head, "in_progress", []);
    this.#event("response.created", { response });
    this.#event("response.in_progress", { response });
  }

  #add(item: OutputItem): number {
    this.#begin();
    const index = this.#output.push(item) - 1;
    this.#event("response.output_item.added", { output_index: index, item });
    return index;
  }

  #end(index: number, item: OutputItem): void {
    this.#output[index] = item;
    this.#event("response.output_item.done", { output_index: index, item });
  }

  #at = ({ id, index }: Said) => ({ item_id: id, output_index: index });

  #event(type: string, fields: object): void {
    const data = { type, sequence_number: this.#sequence++, ...fields };
    this.writer.write(`event: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
  }
}
