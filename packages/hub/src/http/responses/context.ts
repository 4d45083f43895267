/** What a request goes on from: earlier responses and items that it names, put in their places. */
import { GfeError } from "@gfe/protocol";
import { inputItemId, responseIdOf } from "./ids.ts";
import type { Item, ResponsesBody } from "./schemas.ts";
import type { KeptItem, KeptResponse, ResponseStore } from "./store.ts";

export interface Context {
  /** All that the model reads, oldest first; instructions are not carried on. */
  items: Item[];
  /** What of it came with this request, references resolved. */
  input: Item[];
}

/** Throws GfeError invalid_request that names the field whose response or item is not there. */
export async function contextOf(
  store: ResponseStore,
  userId: string,
  asked: ResponsesBody,
): Promise<Context> {
  const { input: given, previous_response_id: previousId } = asked;
  const input =
    typeof given === "string"
      ? [{ role: "user", content: given } as Item]
      : await resolved(store, userId, given);
  const earlier = previousId ? await conversation(store, userId, previousId) : [];
  const said = earlier.flatMap(({ input, response }) => [...input, ...response.output]) as unknown as Item[];
  return { items: [...said, ...input], input };
}

/** The items with ids of their own, as they are kept. */
export function withIds(responseId: string, items: readonly Item[]): KeptItem[] {
  return items.map((item, index): KeptItem => {
    const { id, type = "message" } = item as { id?: unknown; type?: string };
    return {
      ...item,
      type,
      id: typeof id === "string" ? id : inputItemId(responseId, PREFIXES[type] ?? "item", index),
    };
  });
}
const PREFIXES: Record<string, string> = {
  message: "msg",
  function_call: "fc",
  function_call_output: "fco",
  reasoning: "rs",
};

async function conversation(store: ResponseStore, userId: string, id: string): Promise<KeptResponse[]> {
  const { responses, beginsWith } = await store.conversation(userId, id);
  switch (beginsWith) {
    case "its first":
      return responses;
    case "too_long":
      throw tooLong("previous_response_id");
    case "gone": {
      const missing = responses[0]?.previousId ?? id;
      throw gone("previous_response_id", `there is no response ${missing}`, store);
    }
  }
}

async function resolved(
  store: ResponseStore,
  userId: string,
  given: Exclude<ResponsesBody["input"], string>,
): Promise<Item[]> {
  const named = new Set<string>();
  for (const [at, item] of given.entries()) {
    if (item.type !== "item_reference") continue;
    // Each once: else a short request could become an endless prompt.
    if (named.has(item.id)) throw invalid(`input[${at}].id`, "stands for an item that is there already");
    named.add(item.id);
  }
  const owners = new Set([...named].map(responseIdOf).filter((id) => id !== null));
  const kept = await store.findAll(userId, [...owners]);
  if (kept === "too_long") throw tooLong("input");
  return given.map((item, at) => {
    if (item.type !== "item_reference") return item;
    const owner = kept.get(responseIdOf(item.id) ?? "");
    const found = [...(owner?.response.output ?? []), ...(owner?.input ?? [])].find(
      ({ id }) => id === item.id,
    );
    if (!found) throw gone(`input[${at}].id`, `there is no item ${item.id}`, store);
    return found as unknown as Item;
  });
}

function gone(param: string, words: string, { keeps }: ResponseStore): GfeError {
  const why = keeps
    ? "it was deleted, has expired, or came with `store: false`"
    : "this hub keeps no responses: send `store: false` and the items themselves";
  return invalid(param, `${words}; ${why}`);
}

const tooLong = (param: string) =>
  new GfeError("context_length_exceeded", `${param}: brings back more than one request may`, { param });
const invalid = (param: string, words: string) =>
  new GfeError("invalid_request", `${param}: ${words}`, { param });
